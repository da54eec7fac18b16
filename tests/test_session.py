"""Sessions and characters: one clock, any cutting, idling, interrupting, settings, disk, cache, capacity."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion, TalkingHead
from moda.audio.decode import frames_in, read_audio
from moda.engine.capacity import Admission, Full
from moda.engine.character import Cache
from moda.engine.parallel import ahead, ordered
from moda.motion import join
from moda.motion.breath import breathing
from moda.motion.explicit import SPACE, lip_gap

SIZE = 64
ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def character(tiny, portrait):
    return TalkingHead.from_pretrained(tiny, "cpu").prepare(portrait, size=SIZE)


@pytest.fixture(scope="module")
def embedded(portrait):
    return TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=SIZE)


@pytest.fixture(scope="module")
def wave(speech):
    return read_audio(speech)


def motion_of(frames) -> Motion:
    return join([frame.motion for frame in frames])


# -- sound in, frames out ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["offline", "live"])
@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(0, 64_000), max_size=6))
def test_any_cutting_of_the_pushes_gives_the_same_frames(character, wave, scheme, cuts):
    wave = wave[:64_001]
    whole = character.session(scheme=scheme)
    expected = whole.push(wave) + whole.flush()
    session = character.session(scheme=scheme)
    frames = [f for piece in np.split(wave, sorted(cuts)) for f in session.push(piece)] + session.flush()
    assert len(frames) == len(expected) == frames_in(len(wave))
    assert motion_of(frames) == motion_of(expected)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(frames, expected))


def test_offline_is_what_a_video_is(character, wave):
    session = character.session(scheme="offline", seed=3)
    frames = session.push(wave[:48_000]) + session.flush()
    video = character.head(character, wave[:48_000], seed=3)
    assert video.motion == motion_of(frames)
    assert all(np.array_equal(a.picture, b) for a, b in zip(frames, video.frames()))


def test_who_speaks_idles_or_is_interrupted_breathes_on(character, wave):
    """By the number of the frame; at a pose gain of 0 the breath is held."""
    session = character.session(seed=5)
    frames = session.push(wave[:32_000])
    shown = session.interrupt(len(frames) - 10).frames
    frames = frames[:shown] + session.idle(7) + session.push(wave[:16_000]) + session.flush()
    assert len(frames) > 60
    assert np.array_equal(motion_of(frames).breath, breathing(np.arange(len(frames)), 5))
    still = character.session(seed=5, pose=0)
    assert not motion_of(still.push(wave[:32_000])).breath.any()


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (48_000, 2), (8_000, 1)])
def test_picture_and_sound_leave_together(character, rate, channels):
    random = np.random.default_rng(0)
    sound = (random.uniform(-0.5, 0.5, (2 * rate + 11, channels)) * 32767).astype(np.int16)
    session = character.session(rate=rate, channels=channels)
    frames = [f for piece in np.split(sound, range(777, len(sound), 777)) for f in session.push(piece)]
    assert session.state.waiting < 0.5
    frames += session.flush()
    assert [f.index for f in frames] == list(range(len(frames))) and len(frames) == 50
    assert all(f.time == f.index / 25 and f.speaking for f in frames)
    heard = np.concatenate([f.sound for f in frames])
    np.testing.assert_allclose(heard, sound[: len(heard)] / 32768, atol=1e-6)
    assert session.state.waiting == 0 and not session.state.speaking


def test_live_holds_little_sound_back(embedded, wave):
    session, held = embedded.session(), []
    for end in range(40, 32_000, 40):  # as smoothly as sound comes
        held += [end / 16_000 - frame.time for frame in session.push(wave[end - 40 : end])]
    assert max(held) <= 0.45
    assert len(held) > 30


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (np.zeros((10, 2), np.float32), r"shape \(10, 2\)"),
        (np.full(10, np.nan, np.float32), "finite"),
        (np.zeros(10, np.int64), "int16"),
    ],
)
def test_sound_that_is_none(character, sound, words):
    with pytest.raises(ModaError, match=words):
        character.session().push(sound)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 16_001}, "multiple of 25"),
        ({"rate": 100}, "8000"),
        ({"scheme": "fast"}, "offline, live"),
        ({"seed": -1}, "seed is -1"),
        ({"guidance": 0.5}, "guidance is 0.5.*from 1"),
        ({"lips": 11}, "lips is 11"),
        ({"gaze": (90, 0)}, "gaze is 90"),
        ({"emotion": "bored"}, "bored"),
    ],
)
def test_wrong_options(character, options, words):
    with pytest.raises(ModaError, match=words):
        character.session(**options)


# -- between utterances ------------------------------------------------------------------------


def test_a_living_face_between_utterances(embedded, wave):
    """Closed lips, blinks, a little movement; smooth into speech and out of it."""
    session = embedded.session(seed=1)
    frames = [f for _ in range(40) for f in session.idle(4)]
    frames += session.push(wave[:64_000]) + session.flush()
    spoken = len(frames)
    frames += [f for _ in range(25) for f in session.idle(3)]
    assert [f.index for f in frames] == list(range(len(frames)))
    assert [f.speaking for f in frames] == [160 <= i < spoken for i in range(len(frames))]
    motion = motion_of(frames)
    gap = lip_gap(motion.exp)
    assert gap[20:160].max() < 0.03, "lips move in silence"
    assert gap[spoken + 25 :].max() < 0.03, "lips stay open after the last word"
    assert gap[160:spoken].std() > 0.02, "speech does not move the lips"
    pose = np.stack([motion.pitch, motion.yaw, motion.roll], axis=1)
    assert np.ptp(pose[:160], axis=0).max() > 0.2, "a frozen head"
    step = np.abs(np.diff(pose, axis=0)).max(axis=1)
    assert step[[159, spoken - 1]].max() <= np.quantile(step, 0.99) + 1e-6, "a jump into or out of speech"
    assert SPACE.lid_closure(motion).max() > 0.5, "eyes that never blink"


def test_an_interrupt_forgets_and_closes_the_lips(embedded, wave):
    session = embedded.session()
    frames = session.push(wave[:48_000])
    shown = frames[-10].index
    position = session.interrupt(shown)
    assert (position.frames, position.seconds) == (shown + 1, (shown + 1) / 25)
    after = [f for _ in range(10) for f in session.idle(4)]
    assert after[0].index == shown + 1 and not after[0].speaking
    assert all((f.sound == 0).all() for f in after)
    gap = lip_gap(motion_of(frames[: shown + 1] + after).exp)
    step = np.abs(np.diff(gap))
    assert gap[shown + 1 + 8 :].max() < 0.03, "lips open 0.3 s after the interrupt"
    assert step[shown : shown + 8].max() <= max(0.08, step[:shown].max()), "the lips jump shut"
    again = session.push(wave[:16_000]) + session.flush()
    assert len(again) == 25 and session.interrupt().frames == 0


def test_lips_close_smoothly_after_a_sound_that_ends_wide_open(embedded, wave):
    session = embedded.session()
    gap = lip_gap(motion_of(session.push(wave)).exp)
    at = int(gap.argmax()) + 1
    session = embedded.session()
    frames = session.push(wave[: at * 640]) + session.flush() + session.idle(12)
    step = np.abs(np.diff(lip_gap(motion_of(frames).exp)))
    assert step[at - 1 :].max() <= max(step[: at - 1].max(), 0.05)
    assert lip_gap(motion_of(frames[-4:]).exp).max() < 0.03


def test_reset_begins_anew(character, wave):
    session = character.session(seed=5)
    first = session.push(wave[:32_000])
    session.reset()
    again = session.push(wave[:32_000])
    assert motion_of(first) == motion_of(again) and again[0].index == 0
    session.reset(seed=6)
    assert motion_of(session.push(wave[:32_000])) != motion_of(first)


def test_settings_change_while_it_runs(embedded, wave):
    session = embedded.session()
    before = session.push(wave[:48_000])
    session.set(lips=0, gaze=(20, 0))
    after = session.push(wave[48_000:96_000])
    gap = lip_gap(motion_of(before + after).exp)
    assert gap[: len(before)].max() > 0.05 and gap[len(before) + 10 :].max() < 1e-3
    iris = motion_of(after).exp[:, 16, 0]
    assert iris[15:].mean() - iris[0] > 0.02
    with pytest.raises(ModaError, match="no setting 'speed'"):
        session.set(speed=2)


def test_offline_neither_idles_nor_stops(character):
    session = character.session(scheme="offline")
    for call in (session.idle, session.interrupt):
        with pytest.raises(ModaError, match="offline scheme.*live scheme"):
            call()


def test_idling_within_an_utterance_is_refused(character):
    session = character.session()
    session.push(np.zeros(1000, np.float32))
    with pytest.raises(ModaError, match="middle of an utterance"):
        session.idle()


# -- characters --------------------------------------------------------------------------------


def test_a_character_is_kept_on_disk(character, wave, tmp_path):
    folder = character.save(tmp_path / "somebody")
    assert sorted(p.name for p in folder.iterdir()) == ["character.safetensors", "portrait.png"]
    loaded = character.head.load(folder)
    assert loaded.view == character.view
    a, b = (list(c.head(c, wave[:16_000]).frames()) for c in (character, loaded))
    assert all(np.array_equal(x, y) for x, y in zip(a, b)) and len(a) == 25
    (folder / "character.safetensors").write_bytes(b"broken")
    with pytest.raises(ModaError, match="somebody holds no character"):
        character.head.load(folder)


def test_portraits_in_every_form_are_one(character, portrait):
    from PIL import Image

    from moda.media.picture import read_picture

    picture = read_picture(portrait)
    for form in (portrait, str(portrait), picture, Image.fromarray(picture)):
        made = character.head.prepare(form, size=SIZE)
        assert np.array_equal(made.prepared.image, character.prepared.image)
    with pytest.raises(ModaError, match="uint8"):
        character.head.prepare(picture.astype(np.float32))
    with pytest.raises(ModaError, match="prepared already"):
        character.head(character, np.zeros(16_000, np.float32), size=128)


def test_a_cache_prepares_once(character, portrait, monkeypatch):
    head, prepared = character.head, []
    cache = Cache(head, limit=1)
    prepare = head.prepare
    monkeypatch.setattr(head, "prepare", lambda *a, **k: prepared.append(1) or prepare(*a, **k))
    data, found = portrait.read_bytes(), []
    threads = [threading.Thread(target=lambda: found.append(cache.get(data, size=SIZE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(prepared) == 1 and len({id(one) for one in found}) == 1
    cache.get(data, size=128)
    cache.get(data, size=SIZE)
    assert len(prepared) == 3


def test_threads_share_a_character(character, wave):
    expected = motion_of(character.session(seed=1).push(wave[:48_000]))
    made: dict[int, Motion] = {}

    def run(index: int) -> None:
        session = character.session(seed=1)
        pieces = np.split(wave[:48_000], range(index * 100 + 500, 48_000, index * 100 + 500))
        made[index] = motion_of([f for piece in pieces for f in session.push(piece)])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(made[index] == expected for index in range(4))


# -- capacity and threads ----------------------------------------------------------------------


def test_the_session_beyond_capacity_is_refused():
    assert Admission(limit=1.6, processes=2).room(0.47) == 2  # one in each, not three in both
    with (parted := Admission(limit=1.6, processes=2)).admit(0.47), parted.admit(0.47):
        assert parted.room(0.47) == 0 and parted.room(0.3) == 2
        with pytest.raises(Full, match="2 sessions"), parted.admit(0.47):
            pass
    assert parted.room(0.47) == 2
    admission = Admission(limit=1.0)
    assert admission.room(0.4) == 2
    with admission.admit(0.4), admission.admit(0.4):
        assert admission.sessions == 2
        with pytest.raises(Full, match="2 sessions"), admission.admit(0.4):
            pass
    assert admission.sessions == 0
    with admission.admit(5.0):  # somebody alone is always served
        assert admission.sessions == 1


def test_ordered_keeps_the_order_and_tells_errors():
    assert list(ordered(lambda x: x * 2, range(50))) == list(range(0, 100, 2))
    with pytest.raises(ZeroDivisionError):
        list(ordered(lambda x: 1 // x, [1, 0]))


def test_ahead_hands_errors_over_and_stops():
    def items():
        yield 1
        raise ModaError("broken")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(ModaError, match="broken"):
        next(made)
    before = threading.active_count()
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()
    assert threading.active_count() == before


def test_an_error_in_the_middle_is_not_taken_for_the_end(character, wave):
    def pieces():
        yield wave[:64_000]
        raise ModaError("the microphone is gone")

    video = character.head(character, pieces())
    for _ in range(2):
        with pytest.raises(ModaError, match="microphone"):
            video.motion  # noqa: B018


def test_a_stream_is_saved_with_its_sound(character, wave, tmp_path):
    path = character.head(character, iter(np.split(wave[:48_000], 7 * [0]))).save(tmp_path / "a.mp4")
    heard = read_audio(path)
    assert len(heard) == pytest.approx(48_000, abs=1500)
    assert np.corrcoef(heard[2000:40_000], wave[2000:40_000])[0, 1] > 0.9


@pytest.mark.slow
def test_ten_minutes_of_a_session(embedded, wave):
    """One frame for each 40 ms; no memory after the first minute."""
    from moda.bench.live import long

    found = long(embedded, wave, 1 / 6, print)
    assert abs(found["frames"] - found["frames_expected"]) <= 1
    assert found["memory_at_the_end_gb"] - found["memory_after_a_minute_gb"] < 0.02
