"""Live sessions on this machine: delay, sessions that hold 25 frames a second, memory over an hour."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moda.bench.stages import ASSETS, check_assets, machine
from moda.bench.timing import current_memory
from moda.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.engine.capacity import Admission, limit
from moda.engine.performance import Sampling, Settings
from moda.generator.live import HOP
from moda.motion import join
from moda.serve.hosts import Hosts
from moda.streams import pushed

if TYPE_CHECKING:
    from moda.engine.character import Character

PIECE = SAMPLES_PER_FRAME  # samples a push: 40 ms
FINE = 40  # for measuring what is held back: 2.5 ms
SECONDS = 30.0
LATE = 0.25  # seconds of computing behind the sound at which a session no longer holds
CROWDS = {512: 2, 256: 6}


def bench_live(
    model: str = "embedded", device: str = "auto", hours: float = 0.0, report: Callable = print
) -> dict:
    """-> {"machine", "delay": {size: {...}}, "cost": {size: s}, "crowds": [...], "long": {...}}.

    Delay of one session at 512 pixels: seconds of sound that are held back from the start of a frame's sound until it
    is given out, and seconds of computing in the push that gives it out. hours: also so much sound through a session
    at 64 pixels, as fast as it goes, for memory and the count of frames.
    """
    from moda.audio.decode import read_audio
    from moda.pipeline import TalkingHead

    check_assets()
    head = TalkingHead.from_pretrained(model, device)
    speech = read_audio(ASSETS / "speech.wav")
    result: dict = {"machine": machine(head.device, report), "delay": {}, "cost": {}, "crowds": []}
    hosts = Hosts(head)
    for size, crowd in CROWDS.items():
        character = head.prepare(ASSETS / "astronaut.jpg", size=size)
        hosts.ready(character)
        result["cost"][size] = hosts.cost(character)
        room = Admission(limit(hosts=True), hosts.count).room(result["cost"][size])
        report(
            f"{size} px: {result['cost'][size]:.3f} processor seconds a second of speech; {room} sessions are let in"
        )
        if size == 512:
            result["delay"] = delay(character, speech, report)
            result["quality"] = quality(character, speech, report)
        for count in sorted({1, crowd, room}):
            result["crowds"].append(
                {"size": size, "sessions": count, **hold(hosts, character, speech, count, report)}
            )
    hosts.close()
    if hours:
        result["long"] = long(head.prepare(ASSETS / "astronaut.jpg", size=64), speech, hours, report)
    return result


def delay(character: Character, speech: np.ndarray, report: Callable) -> dict:
    session = character.session()
    held, computing, pushed = [], [], 0
    sound = _looped(speech, SECONDS)
    for start in range(0, len(sound), FINE):
        pushed += len(sound[start : start + FINE])
        began = time.perf_counter()
        frames = session.push(sound[start : start + FINE])
        if frames:
            computing.append(time.perf_counter() - began)
            held += [pushed / SAMPLE_RATE - frame.time for frame in frames]
    found = {
        "held_back_max": max(held),
        "held_back_median": float(np.median(held)),
        "computing_first": computing[0],
        "computing_median": float(np.median(computing)),
        "computing_p99": float(np.quantile(computing, 0.99)),
    }
    report(
        "  one session: "
        + ", ".join(f"{name.replace('_', ' ')} {value:.3f} s" for name, value in found.items())
    )
    return found


def quality(character: Character, speech: np.ndarray, report: Callable) -> dict:
    """The live scheme against the offline one on the same speech, means over three seeds.

    lips_r: correlation of the lips' gap; steps_at_joints: mean step of the head's angles between windows of the live
    scheme over that inside them; blink: how far closed lids close, at the deepest moment of each blink.
    """
    sound = _looped(speech, SECONDS)
    space = character.renderer.space
    found: dict[str, list[float]] = {
        "lips_r": [],
        "steps_at_joints": [],
        "blink_live": [],
        "blink_offline": [],
    }
    for seed in range(3):
        motions = {}
        for scheme in ("live", "offline"):
            performance = character.performance(Settings(), Sampling(scheme, seed))
            motions[scheme] = join(list(pushed(performance, [sound])))
            closure = space.lid_closure(motions[scheme]).mean(axis=1)
            shut = np.flatnonzero(closure > 0.4)
            blinks = np.split(shut, np.flatnonzero(np.diff(shut) > 3) + 1) if len(shut) else []
            found[f"blink_{scheme}"] += [float(closure[blink].max()) for blink in blinks]
        gaps = [space.lip_gap(motion) for motion in motions.values()]
        found["lips_r"].append(float(np.corrcoef(gaps[0], gaps[1])[0, 1]))
        live = motions["live"]
        step = np.linalg.norm(np.diff(np.stack([live.pitch, live.yaw, live.roll], axis=1), axis=0), axis=1)
        joint = (np.arange(len(step)) + 1) % HOP == 0
        found["steps_at_joints"].append(float(step[joint].mean() / step[~joint].mean()))
    means = {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}
    report(
        "  live against offline: "
        + ", ".join(f"{name.replace('_', ' ')} {v:.3f}" for name, v in means.items())
    )
    return means


def hold(hosts: Hosts, character: Character, speech: np.ndarray, count: int, report: Callable) -> dict:
    """`count` sessions that hear speech in real time, in hosts as the server has them; how far they fall behind."""
    sessions = [hosts.open(character, seed=seed) for seed in range(count)]
    sound = _looped(speech, SECONDS / 2)
    late: list[list[float]] = [[] for _ in sessions]
    frames = [0] * count
    began = time.perf_counter() + 0.1

    def run(index: int) -> None:
        for number, start in enumerate(range(0, len(sound), PIECE)):
            due = began + (number + 1) * PIECE / SAMPLE_RATE + index * 0.04 / count
            time.sleep(max(0.0, due - time.perf_counter()))
            made = sessions[index].push(sound[start : start + PIECE])
            if made:
                frames[index] += len(made)
                late[index].append(time.perf_counter() - due)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    processor = time.process_time() + hosts.processor_seconds()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    processor = time.process_time() + hosts.processor_seconds() - processor
    for session in sessions:
        session.close()
    every = np.concatenate([np.array(one) for one in late])
    found = {
        "late_median": float(np.median(every)),
        "late_p99": float(np.quantile(every, 0.99)),
        "processors_used": processor / seconds,
        "frames_a_second": min(frames) / (len(sound) / SAMPLE_RATE),
    }
    found["holds"] = bool(found["late_p99"] < LATE)
    report(
        f"  {count} sessions: "
        + ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.items())
    )
    return found


def long(character: Character, speech: np.ndarray, hours: float, report: Callable) -> dict:
    session = character.session()
    pieces = np.split(speech[: len(speech) - len(speech) % 2560], range(2560, len(speech) - 2559, 2560))
    pieces = [piece for piece in pieces if len(piece) == 2560]
    frames, memory = 0, []
    total = round(hours * 3600 * SAMPLE_RATE / 2560)
    for index in range(total):
        frames += len(session.push(pieces[index % len(pieces)]))
        if index % (60 * SAMPLE_RATE // 2560) == 0:
            memory.append(current_memory())
    frames += len(session.flush())
    found = {
        "seconds": total * 2560 / SAMPLE_RATE,
        "frames": frames,
        "frames_expected": round(total * 2560 / SAMPLE_RATE * FPS),
        "memory_after_a_minute_gb": memory[min(1, len(memory) - 1)],
        "memory_at_the_end_gb": memory[-1],
    }
    report("  long: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in found.items()))
    return found


def _looped(speech: np.ndarray, seconds: float) -> np.ndarray:
    count = round(seconds * SAMPLE_RATE)
    return np.tile(speech, -(-count // len(speech)))[:count]
