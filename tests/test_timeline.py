"""Timelines: each event does what it names and nothing else, nothing jumps, files are read with the line that is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion, TalkingHead
from moda.engine.performance import Editor, Sampling, Settings
from moda.motion import emotions, join
from moda.motion.explicit import BROWS, EYE_RADIUS, INDEX, IRISES, SPACE, lip_gap
from moda.motion.timeline import FACE_SPEED, GAZE_SPEED, HEAD_SPEED, Event, Gains, Head, Timeline
from moda.streams import pushed

FRAMES = 250


def edited(*events: Event, motion: Motion | None = None) -> Motion:
    own = Motion.still(1)
    return Editor(own, Settings(), Timeline(events))(Motion.still(FRAMES) if motion is None else motion)


@pytest.fixture(scope="module")
def spoken(portrait, speech) -> Motion:
    from moda.audio.decode import read_audio

    character = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64)
    return join(list(pushed(character.performance(Settings(), Sampling()), [read_audio(speech)[:160_000]])))


HEAD = Event(at=2, length=2, head=Head(yaw=12, pitch=-4, roll=3))


@pytest.mark.parametrize(
    "event",
    [
        HEAD,
        Event(at=2, length=2, gaze=(15, -5)),
        Event(at=2, length=2, gaze="camera"),
        Event(at=2, blink=True),
        *(Event(at=2, length=2, emotion=name) for name in emotions.ACTIONS),
    ],
    ids=lambda event: str(event.emotion or [k for k in ("head", "gaze", "blink") if getattr(event, k)][0]),
)
def test_events_leave_the_lips_and_everything_outside_their_time(event, spoken):
    after = edited(event, motion=spoken)
    assert np.corrcoef(lip_gap(after.exp), lip_gap(spoken.exp))[0, 1] > 0.98
    fade = 2.0  # the longest that any of these needs
    outside = np.arange(len(spoken)) / 25
    outside = (outside < event.at - fade) | (outside > event.at + event.length + fade)
    assert np.array_equal(after.to_array()[outside], spoken.to_array()[outside])
    if event.emotion != "neutral":
        assert not np.array_equal(after.to_array(), spoken.to_array())


def test_head_turns_by_what_was_asked():
    after = edited(HEAD)
    assert after.yaw[75] == pytest.approx(12) and after.pitch[75] == pytest.approx(-4)
    assert after.roll[75] == pytest.approx(3)


def test_gaze_goes_where_it_was_asked_and_stays_on_the_camera():
    after = edited(Event(at=2, length=4, gaze=(20, 10)))
    assert np.allclose(after.exp[75, IRISES, 0], EYE_RADIUS * np.sin(np.radians(20)), atol=1e-4)
    assert np.allclose(after.exp[75, IRISES, 1], -EYE_RADIUS * np.sin(np.radians(10)), atol=1e-4)
    after = edited(Event(at=2, length=4, head=Head(yaw=20)), Event(at=1, length=6, gaze="camera"))
    assert np.allclose(after.exp[75, IRISES, 0], -EYE_RADIUS * np.sin(np.radians(20)), atol=1e-4)


def test_blink_shuts_both_eyes_once():
    closure = SPACE.lid_closure(edited(Event(at=3, blink=True)))
    assert closure.max() == pytest.approx(1, abs=1e-5) and np.array_equal(closure[:, 0], closure[:, 1])
    assert set(np.flatnonzero(closure.max(axis=1) > 1e-6)) <= set(range(75, 83))


def test_held_lips_rest_and_gains_multiply(spoken):
    held = edited(Event(at=2, length=3, hold_lips=True), motion=spoken)
    assert np.allclose(held.exp[50:125, :11], 0, atol=1e-6)
    louder = edited(Event(at=2, length=3, gains=Gains(lips=2)), motion=spoken)
    assert np.allclose(lip_gap(louder.exp)[50:125], 2 * lip_gap(spoken.exp)[50:125], atol=1e-4)


@pytest.mark.parametrize("name", [name for name in emotions.ACTIONS if name != "neutral"])
def test_emotions_move_the_points_that_their_action_units_name(name):
    after = edited(Event(at=0, length=10, emotion=name))
    moved = {point for point, i in INDEX.items() if np.abs(after.exp[125, i]).max() > 1e-3}
    named = {
        "happiness": {"lip_corner_left", "lip_corner_right", "lid_lower_left"},  # AU 6, 12
        "sadness": {"lip_corner_left", "brow_center"},  # 1, 15
        "surprise": {"brow_left", "brow_right", "lid_upper_left", "jaw"},  # 1, 2, 5, 26
        "fear": {"brow_left", "brow_center", "lid_upper_left", "lip_corner_left"},  # 1, 2, 5, 20
        "anger": {"brow_left", "brow_center", "lid_lower_left"},  # 4, 7
        "disgust": {"nose", "lip_upper_outer"},  # 9, 10
        "contempt": {"lip_corner_left"},  # 12 of one side
    }[name]
    assert named <= moved
    weaker = edited(Event(at=0, length=10, emotion=name, intensity=0.5))
    assert np.allclose(weaker.exp[125], after.exp[125] / 2, atol=1e-6)


angle = st.floats(-30, 30)
events = st.one_of(
    st.builds(lambda p, y, r: dict(head=Head(pitch=p, yaw=y, roll=r)), angle, angle, angle),
    st.builds(lambda x, y: dict(gaze=(x, y)), angle, angle),
    st.builds(lambda name, part: dict(emotion=name, intensity=part), st.sampled_from(list(emotions.ACTIONS)), st.floats(0, 1)),
    st.just(dict(blink=True)),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(events, st.floats(0, 8), st.floats(0, 3), st.floats(0, 1))
def test_no_event_moves_anything_faster_than_people_move(what, at, length, fade):
    after = edited(Event(at=at, length=length, fade=fade, **what))
    for name in ("pitch", "yaw", "roll"):
        assert np.abs(np.diff(getattr(after, name))).max() <= HEAD_SPEED * 1.01
    step = np.linalg.norm(np.diff(after.exp, axis=0), axis=2)
    # both directions of the gaze may move at once
    assert step[:, IRISES].max() <= np.sqrt(2) * EYE_RADIUS * np.radians(GAZE_SPEED) * 1.02
    assert step[:, BROWS].max() <= FACE_SPEED * 1.01
    assert np.abs(np.diff(SPACE.lid_closure(after), axis=0)).max() <= 0.65


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, FRAMES), max_size=5))
def test_any_cutting_of_the_motion_is_edited_alike(cuts):
    timeline = Timeline((HEAD, Event(at=1, blink=True), Event(at=3, length=1, gains=Gains(pose=0.5))))
    noise = np.random.default_rng(0).standard_normal((FRAMES, 70)) / 10
    motion = Motion.from_array(Motion.still(FRAMES).to_array() + noise)
    whole = Editor(Motion.still(1), Settings(), timeline)(motion)
    editor = Editor(Motion.still(1), Settings(), timeline)
    bounds = [0, *sorted(cuts), FRAMES]
    parts = [editor(motion[a:b]) for a, b in zip(bounds, bounds[1:]) if b > a]
    assert np.allclose(join(parts).to_array(), whole.to_array(), atol=1e-6)


def test_a_running_session_takes_events_from_now_on(portrait):
    session = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64).session()
    before = join([frame.motion for frame in session.idle(20)])
    session.direct([Event(at=1, length=1, head=Head(yaw=20))])
    after = join([frame.motion for frame in session.idle(100)])
    other = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64).session()
    without = join([frame.motion for frame in other.idle(120)])
    assert np.array_equal(before.yaw, without.yaw[:20])
    assert after.yaw[25] - without.yaw[45] == pytest.approx(20, abs=1e-3)
    assert after.yaw[-1] == pytest.approx(without.yaw[-1], abs=1e-3)


def test_file_round_trip(tmp_path):
    values = [
        {"at": 1, "length": 2.0, "emotion": "happiness", "intensity": 0.6},
        {"at": 3, "length": 1.5, "gaze": [12, 0]},
        {"at": 4.5, "gaze": "camera", "fade": 1},
        {"at": 5, "length": 1, "head": {"yaw": 10}},
        {"at": 6, "blink": True},
        {"at": 6.5, "length": 0.5, "hold_lips": True},
        {"at": 7, "length": 2, "gains": {"lips": 1.3}},
    ]
    path = tmp_path / "timeline.json"
    path.write_text(json.dumps(values, indent=1))
    found = Timeline.read(path)
    assert found.events[0] == Event(at=1, length=2, emotion="happiness", intensity=0.6)
    assert found.events[3].head == Head(yaw=10) and found.events[6].gains == Gains(lips=1.3)
    assert len(found.events) == 7
    assert Timeline.parse(" [ ] ").events == ()


GOOD = '[\n {"at": 1, "blink": true},\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: a JSON array is needed"),
        ('{"at": 1}', "line 1: a JSON array is needed"),
        ("[", "line 1: it is no JSON"),
        (GOOD + ' {"at": 2 "blink": true}]', "line 3: it is no JSON"),
        (GOOD + ' {"at": 2, "blink": true}', "line 3: a comma or ]"),
        (GOOD + ' {"at": 2, "blink": true}] x', "line 3: there is something after"),
        (GOOD + ' {"at": -1, "blink": true}]', "line 3: at is -1"),
        (GOOD + ' {"at": "x", "blink": true}]', "line 3: at is 'x'"),
        (GOOD + ' {"at": 1e99, "blink": true}]', "line 3: at is"),
        (GOOD + ' {"at": NaN, "blink": true}]', "line 3"),
        (GOOD + ' {"blink": true}]', "line 3: it lacks at"),
        (GOOD + ' {"at": 2}]', "line 3: an event needs exactly one of"),
        (GOOD + ' {"at": 2, "blink": true, "gaze": "camera"}]', "line 3: an event needs exactly one of"),
        (GOOD + ' {"at": 2, "wink": true}]', "line 3: it has unknown wink"),
        (GOOD + ' {"at": 2, "blink": false}]', "line 3: blink is False"),
        (GOOD + ' {"at": 2, "emotion": "joy"}]', "line 3: emotion is 'joy', but must be one of happiness"),
        (GOOD + ' {"at": 2, "emotion": "fear", "intensity": 2}]', "line 3: intensity is 2"),
        (GOOD + ' {"at": 2, "gaze": [90, 0]}]', "line 3: gaze"),
        (GOOD + ' {"at": 2, "gaze": [1]}]', "line 3: it lacks gaze"),
        (GOOD + ' {"at": 2, "head": {"jaw": 1}}]', "line 3: it has unknown head.jaw"),
        (GOOD + ' {"at": 2, "gains": {"lips": -1}}]', "line 3: gains.lips is -1"),
        (GOOD + " 5]", "line 3"),
        ("[" * 100_000, "line 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text, said):
    with pytest.raises(ModaError) as error:
        Timeline.parse(text)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", ["happiness:2", "happiness:x", "happiness:", "joy", "joy:1", ":1"])
def test_wrong_emotions_are_said(wrong, portrait, speech):
    head = TalkingHead.from_pretrained("embedded", "cpu")
    with pytest.raises(ModaError, match="emotion"):
        head(portrait, speech, emotion=wrong)


def test_an_emotions_intensity_has_its_effect(portrait, speech):
    """The corners of a happy mouth lie the higher, the happier it is."""
    from moda.audio.decode import read_audio

    wave = read_audio(speech)[:64_000]
    character = TalkingHead.from_pretrained("embedded", "cpu").prepare(portrait, size=64)
    heights = []
    for emotion in (None, "happiness:0.3", "happiness:0.6", "happiness"):
        motion = join(list(pushed(character.performance(Settings(emotion), Sampling()), [wave])))
        heights.append(-motion.exp[:, [0, 1], 1].mean())
    assert np.all(np.diff(heights) > 0.003)


def test_going_back_does_not_bring_old_settings_again():
    """A setting that came in long ago stays, when frames are taken back and made anew."""
    from dataclasses import replace

    motion = replace(Motion.still(40), yaw=np.full(40, 10, np.float32))
    editor = Editor(Motion.still(1), Settings())
    editor.change(Settings(pose=0.5))
    assert editor(motion).yaw[-1] == pytest.approx(5)
    editor.rewind(4)
    assert np.allclose(editor(motion).yaw, 5)


def test_a_session_of_months_takes_events():
    editor = Editor(Motion.still(1), Settings())
    editor._frame = 25 * 3600 * 24 * 60
    editor.direct(Timeline((Event(at=0, length=1, head=Head(yaw=8)),)))
    assert editor(Motion.still(20)).yaw.max() == pytest.approx(8, abs=0.01)
