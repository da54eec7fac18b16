"""Sessions in other processes: the same frames, many at once, and what happens when a process dies."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from moda import ModaError, TalkingHead
from moda.audio.decode import read_audio
from moda.motion.timeline import Event
from moda.serve.hosts import Hosts


@pytest.fixture(scope="module")
def character(tiny, portrait):
    return TalkingHead.from_pretrained(tiny, "cpu").prepare(portrait, size=64)


@pytest.fixture
def hosts(character):
    made = Hosts(character.head, 2)
    yield made
    made.close()


def test_a_hosted_session_gives_the_same_frames(hosts, character, speech):
    wave = read_audio(speech)[:48_000]
    here, there = character.session(seed=3), hosts.open(character, seed=3)
    for session in (here, there):
        session.set(pose=0.5, gaze=(4.0, 0.0))
        session.direct([Event(at=0.5, length=0.5, blink=True)])
    mine = [here.push(wave[:30_000]), here.interrupt(5), here.push(wave[30_000:]), here.flush(), here.idle(4)]
    theirs = [there.push(wave[:30_000]), there.interrupt(5), there.push(wave[30_000:]), there.flush(), there.idle(4)]  # fmt: skip
    assert mine.pop(1) == theirs.pop(1)
    for a, b in zip(sum(mine, []), sum(theirs, []), strict=True):
        assert (a.index, a.speaking) == (b.index, b.speaking)
        assert np.array_equal(a.picture, b.picture) and np.array_equal(a.sound, b.sound)
        assert a.motion.space is b.motion.space
    there.stride = 2
    assert np.array_equal(*[frame.picture for frame in there.push(wave)[:2]])
    with pytest.raises(ModaError, match="finite"):
        there.push(np.array([np.nan], np.float32))
    with pytest.raises(ModaError, match="rate"):
        hosts.open(character, rate=100)
    there.close()
    there.close()
    with pytest.raises(ModaError, match="ended"):
        there.push(wave)
    assert hosts._sessions == [0, 0]


def test_sessions_are_spread_over_the_processes_and_do_not_mix(hosts, character, speech):
    wave = read_audio(speech)[:32_000]
    sessions = [hosts.open(character, seed=seed) for seed in range(4)]
    assert hosts._sessions == [2, 2]
    found: dict[int, list] = {}

    def speak(number: int) -> None:
        found[number] = [
            frame for piece in np.split(wave, 10) for frame in sessions[number].push(piece * (number + 1) / 4)
        ]

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, frames in found.items():
        alone = character.session(seed=number).push(wave * (number + 1) / 4)
        assert len(frames) == len(alone) > 10
        assert all(np.array_equal(a.picture, b.picture) for a, b in zip(frames, alone))


def test_a_process_that_dies_ends_its_own_sessions_alone(hosts, character, speech):
    wave = read_audio(speech)[:32_000]
    first, second = hosts.open(character), hosts.open(character)
    hosts._workers[0]._process.kill()
    hosts._workers[0]._process.join()
    with pytest.raises(ModaError, match="ended; begin a new one"):
        first.push(wave)
    assert len(second.push(wave)) > 10
    with pytest.raises(ModaError, match="ended; begin a new one"):
        first.push(wave)
    first.close()
    again = hosts.open(character)
    assert again._place == 0 and len(again.push(wave)) > 10


def test_nothing_is_kept_of_a_portrait_that_is_gone(hosts, character, portrait):
    other = character.head.prepare(portrait, size=64)
    hosts.open(other).close()
    assert len(hosts._keys) == 1
    del other
    gc.collect()
    assert len(hosts._keys) == 0
