"""The model that ships: what it promises of its performances, heard and seen."""

from pathlib import Path

import numpy as np
import pytest

from moda import Motion, TalkingHead
from moda.audio.decode import read_audio
from moda.constants import SAMPLE_RATE
from moda.evaluation.metrics import blinks, correlation
from moda.motion import join
from moda.motion.explicit import INDEX, LANDMARK_OF, SPACE, lip_gap

ASSETS = Path(__file__).parents[1] / "assets"
SILENT = 0.02  # eye distances


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("embedded")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(ASSETS / "speech.wav")


def perform(
    head: TalkingHead, wave: np.ndarray, seed: int = 0, emotion: str | None = None, **options
) -> Motion:
    from moda.face.pose import canonical

    features = head.encoder.encode([wave])
    mean_face = canonical()[LANDMARK_OF]
    return join(list(head.generator.stream(features, mean_face, Motion.still(1), emotion, seed, **options)))


def test_it_is_small(head):
    assert sum(f.stat().st_size for f in head.folder.iterdir()) < 25e6


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mouth_stays_closed_in_silence(head, level, seed):
    noise = np.random.default_rng(seed).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    assert lip_gap(perform(head, level * noise, seed).exp).max() <= SILENT


def test_the_mouth_closes_before_and_after_speech(head, speech):
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    gaps = lip_gap(perform(head, np.concatenate([silence, speech, silence])).exp)
    assert (
        gaps[:40].max() <= SILENT and gaps[-25:].max() <= SILENT
    )  # lips take up to a second to come to rest
    assert gaps[50:-50].max() > 0.12 and gaps[50:-50].std() > 0.03


def test_the_face_is_never_frozen(head):
    motion = perform(head, np.zeros(24 * SAMPLE_RATE, np.float32))
    assert blinks(motion) >= 2
    for second in range(0, 24, 4):
        part = motion[25 * second : 25 * (second + 4)]
        assert np.ptp(part.yaw) + np.ptp(part.pitch) > 0.2  # degrees


def test_seeds(head, speech):
    one, again, other = (perform(head, speech[: 3 * SAMPLE_RATE], seed) for seed in (1, 1, 2))
    assert np.array_equal(one.to_array(), again.to_array())
    assert np.abs(one.yaw - other.yaw).max() > 0.5
    assert correlation(lip_gap(one.exp), lip_gap(other.exp))[0] > 0.8  # the words are the same


def test_motion_does_not_jump_between_segments(head, speech):
    motion = perform(head, speech)
    for name in ("pitch", "yaw", "roll"):
        assert np.abs(np.diff(getattr(motion, name))).max() < 3.0  # degrees a frame


def test_emotions_show(head, speech):
    def height(emotion: str | None, *points: str) -> float:
        motion = perform(head, speech[: 4 * SAMPLE_RATE], emotion=emotion)
        return float(np.mean([motion.exp[:, INDEX[p], 1].mean() for p in points]))

    corners, brows = ("lip_corner_left", "lip_corner_right"), ("brow_left", "brow_right")
    plain = height(None, *corners)
    assert (
        height("happiness", *corners) < plain - 0.02 < plain + 0.02 < height("sadness", *corners)
    )  # y points down
    assert height("surprise", *brows) < height(None, *brows) - 0.03 < height("anger", *brows) - 0.06


@pytest.mark.slow
def test_what_is_drawn_is_what_is_tracked(head, tmp_path):
    """track(render(portrait, motion)) is the motion: lips within r 0.9, yaw and pitch within 0.95."""
    from moda.face import read_portrait, track
    from moda.media.write import write_video

    speech = read_audio(ASSETS / "speech.wav")[: 6 * SAMPLE_RATE]
    renderer = head.renderer(512)
    prepared = renderer.prepare(read_portrait(ASSETS / "astronaut.jpg"))
    motion = perform(head, speech, seed=3)
    time = np.arange(len(motion)) / 25
    array = motion.to_array()
    array[:, 68] = 10 * np.sin(2 * time)  # a turn that can be measured
    array[:, 67] = 8 * np.sin(3 * time)
    motion = SPACE.generated(Motion.from_array(array), prepared.motion)
    path = write_video(tmp_path / "v.mp4", renderer.draw(prepared, motion), None)
    seen = track(path).motion
    assert len(seen) == len(motion)
    for name, least in (("yaw", 0.95), ("pitch", 0.95)):
        assert np.corrcoef(getattr(seen, name), getattr(motion, name))[0, 1] > least
    assert np.corrcoef(lip_gap(seen.exp), lip_gap(motion.exp))[0, 1] > 0.9


@pytest.mark.slow
def test_lips_follow_people_never_trained_on(shared, tmp_path):
    from moda.evaluation.judge import evaluate

    for path in (shared / "data/video/val").iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert (
        evaluate(tmp_path, seeds=(0,))["summary"]["embedded"]["gap_r"] > 0.25
    )  # the hardest of 34 people, see docs
