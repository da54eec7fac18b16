"""Pose, expression and tracking: on shapes whose answer is known, and on the shipped portraits."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError
from moda.face import pose
from moda.face.expression import gap, opening
from moda.face.portrait import read_portrait
from moda.face.tracking import motion_of
from moda.media.picture import read_picture
from moda.motion.explicit import LANDMARK_OF, NECK_PIVOT, angles, lip_gap, rotation

ASSETS = Path(__file__).parents[1] / "assets"


def filmed(
    pitch, yaw, roll, scale=60.0, gap=None, center=(128.0, 120.0, 0.0), noise=0.0, seed=0
) -> np.ndarray:
    """The mean face turning about its neck before a camera: (T, 478, 3) pixels."""
    frames = len(pitch)
    shape = np.repeat(pose.canonical()[None], frames, axis=0).astype(np.float64)
    shape[:, [13, 14]] = shape[:, [13, 14]].mean(axis=1, keepdims=True)
    if gap is not None:
        shape[:, 14, 1] += gap
    turn = rotation(pitch, yaw, roll)
    scale = np.broadcast_to(scale, frames)[:, None, None]
    pixels = np.asarray(center) + scale * np.einsum("tij,tnj->tni", turn, shape - NECK_PIVOT)
    return pixels + noise * np.random.default_rng(seed).standard_normal(pixels.shape)


@settings(max_examples=30, deadline=None)
@given(st.floats(-30, 30), st.floats(-40, 40), st.floats(-30, 30), st.floats(5, 300), st.integers(0, 99))
def test_measure_undoes_place(pitch, yaw, roll, scale, seed):
    landmarks = filmed([pitch], [yaw], [roll], scale)[0]
    head, shape = pose.measure(landmarks)
    assert np.allclose(head.place(shape), landmarks, atol=1e-3 * scale)
    assert np.allclose([a[0] for a in angles(head.rotation[None])], [pitch, yaw, roll], atol=0.05)
    assert head.scale == pytest.approx(scale, rel=1e-3)
    assert pose.eye_distance(shape) == pytest.approx(1.0, abs=1e-4)
    assert np.allclose(pose.eye_center(shape), 0, atol=1e-4)


def test_tracking_recovers_a_known_movement_at_25_fps_from_another_rate():
    rate, seconds = 50, 6
    time = np.arange(rate * seconds) / rate
    yaw, pitch = 12 * np.sin(time * 2), 6 * np.sin(time * 3)
    opened = 0.12 * (1 - np.cos(time * 5))
    motion, _ = motion_of(filmed(pitch, yaw, 0 * time, gap=opened), time)
    assert len(motion) == 25 * seconds
    even = (np.arange(len(motion)) + 0.5) / 25 - 0.5 / rate  # the middle of each frame
    assert np.abs(motion.yaw - 12 * np.sin(even * 2)).max() < 0.8
    assert np.abs(motion.pitch - 6 * np.sin(even * 3)).max() < 0.8
    assert np.abs(motion.t).max() < 0.05 and np.abs(motion.scale - 1).max() < 0.01
    assert np.corrcoef(lip_gap(motion.exp), 0.12 * (1 - np.cos(even * 5)))[0, 1] > 0.99


def test_a_picture_that_begins_late_stays_in_step_with_its_sound():
    time = np.arange(100) / 25
    yaw = 10 * np.sin(3 * time)
    on_time, _ = motion_of(filmed(0 * time, yaw, 0 * time), time)
    late, _ = motion_of(filmed(0 * time, yaw, 0 * time), time + 0.4)
    assert len(late) == len(on_time) + 10
    assert np.allclose(late.yaw[14:], on_time.yaw[4:], atol=0.05)


def test_a_still_face_does_not_tremble():
    still = np.zeros(100)
    motion, _ = motion_of(filmed(still, still, still, noise=0.5), np.arange(100) / 25)
    assert max(motion.pitch.std(), motion.yaw.std(), motion.roll.std()) < 0.25  # degrees
    assert lip_gap(motion.exp).std() < 0.01 and motion.exp.std(axis=0).max() < 0.01


def test_frames_without_a_face_hold():
    still = np.zeros(60)
    yaw = np.where(np.arange(60) < 30, 0.0, 10.0)
    landmarks = filmed(still, yaw, still)
    landmarks[10:20] = landmarks[50:] = np.nan
    motion, _ = motion_of(landmarks, np.arange(60) / 25)
    assert len(motion) == 60
    assert np.abs(motion.yaw[8:22]).max() < 0.5 and np.abs(motion.yaw[48:] - 10).max() < 0.5


def test_opening_is_what_closing_takes_away():
    shape = pose.canonical().copy()
    shape[14, 1] += 0.2
    closed = shape[LANDMARK_OF] - opening(shape)
    assert np.linalg.norm(closed[4] - closed[5]) < 1e-6  # inner lips, middle
    assert lip_gap(opening(shape)[None])[0] == pytest.approx(gap(shape), abs=1e-5)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return read_picture(ASSETS / "astronaut.jpg")


def test_portraits_are_read(astronaut):
    source = read_portrait(ASSETS / "astronaut.jpg")
    assert np.allclose(source.pose.place(source.shape), source.landmarks, atol=0.1)
    assert lip_gap(source.motion.exp)[0] > 0.03  # she smiles with her teeth
    assert np.linalg.norm(source.keypoints[4] - source.keypoints[5]) < 1e-5  # her neutral mouth is closed
    assert abs(source.motion.yaw[0]) < 15 and abs(source.motion.roll[0]) < 15


def test_the_largest_of_many_faces_comes_first(astronaut):
    import cv2

    head = astronaut[:300, 80:380]
    small = cv2.resize(head, (200, 200), interpolation=cv2.INTER_AREA)
    picture = np.full((300, 520, 3), 200, dtype=np.uint8)
    picture[50:250, :200], picture[:, 220:] = small, head
    first, second = read_portrait(picture), read_portrait(picture, face=1)
    assert first.pose.center[0] > 220 > second.pose.center[0]
    assert first.pose.scale > second.pose.scale
    with pytest.raises(ModaError, match="2 face"):
        read_portrait(picture, face=2)


def test_a_face_cut_by_the_edge_is_told(astronaut, caplog):
    """The mouth has to be there; what else is beyond the edge is told in one warning."""
    landmarks = read_portrait(astronaut).landmarks[:, :2].astype(int)
    (_, chin), (right, mouth), (left, _) = landmarks[[152, 61, 291]]
    below, lid, brow = landmarks[[17, 159, 151], 1]
    cheek, corner = landmarks[[234, 33], 0]
    for picture, edge in (
        (astronaut[:mouth], "lower"),
        (astronaut[:, (left + right) // 2 :], "left"),
        (astronaut[:, : (left + right) // 2], "right"),
    ):
        with pytest.raises(ModaError, match=f"the mouth in the picture is cut by the picture's {edge} edge"):
            read_portrait(picture)
    assert not caplog.messages
    for picture, said in (
        (astronaut[: (chin + below) // 2], "chin"),
        (astronaut[lid:], "eyes and forehead"),
        (astronaut[brow:], "forehead"),
        (astronaut[:, (cheek + corner) // 2 :], "cheek"),
    ):
        read_portrait(picture)
        (message,) = caplog.messages
        assert f"the picture's edge cuts the {said} in the picture" in message and "whole face" in message
        caplog.clear()
    read_portrait(astronaut[: chin + 5])
    assert not caplog.messages


def test_a_small_face_in_a_large_picture_is_found(astronaut):
    import cv2

    picture = np.full((1200, 1600, 3), 128, dtype=np.uint8)
    picture[700:892, 1100:1292] = cv2.resize(astronaut, (192, 192), interpolation=cv2.INTER_AREA)
    source = read_portrait(picture)
    assert 1100 < source.pose.center[0] < 1292 and 700 < source.pose.center[1] < 892


def test_no_face_is_an_error():
    with pytest.raises(ModaError, match="no face"):
        read_portrait(np.full((256, 256, 3), 90, dtype=np.uint8))


def test_the_tracker_follows_real_people(shared):
    from moda.face import track

    tracked = track(shared / "data/video/train/grid_lbax4n.mp4")
    assert tracked.lost == 0 and len(tracked.motion) == 75
    gaps = lip_gap(tracked.motion.exp)
    assert gaps.min() < 0.03 and gaps.max() > 0.25
    closing = tracked.motion.exp[:, 12, 1] - tracked.motion.exp[:, 13, 1]
    assert closing.max() > 0.07  # the clip holds a blink


def test_several_threads_at_once(astronaut):
    """Each caller has instances of its own, and nothing of the process is swapped meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    from moda.face.follow import follow_face
    from moda.face.landmarks import find_faces

    frames = [np.roll(astronaut, 2 * k, axis=1) for k in range(10)]
    alone = find_faces(astronaut)[0], np.stack(list(follow_face(frames)))
    with ThreadPoolExecutor(4) as pool:
        stills = [pool.submit(find_faces, astronaut) for _ in range(6)]
        tracks = [pool.submit(lambda: np.stack(list(follow_face(frames)))) for _ in range(3)]
    assert all(np.array_equal(still.result()[0], alone[0]) for still in stills)
    assert all(np.array_equal(track.result(), alone[1]) for track in tracks)


def test_someone_who_leaves_comes_to_rest_and_back():
    still = np.zeros(250)
    yaw = np.full(250, 12.0)
    yaw[:50], yaw[200:] = 20.0, 30.0
    landmarks = filmed(still, yaw, still)
    landmarks[60:200] = np.nan
    motion, _ = motion_of(landmarks, np.arange(250) / 25)
    assert len(motion) == 250
    assert np.abs(motion.yaw[62:66] - 12).max() < 1  # held
    assert np.abs(np.diff(motion.yaw[60:195])).max() < 1.5  # then eased
    rest = np.median(np.r_[yaw[:60], yaw[200:]])
    assert np.abs(motion.yaw[110:160] - rest).max() < 1
    assert np.abs(motion.exp[110:160]).max() < 0.01 and np.abs(motion.t[110:160]).max() < 0.01


@pytest.mark.parametrize("angle", [35, 90, 140, 180, 225, 270])
def test_a_face_at_any_angle(angle, astronaut):
    import cv2
    from test_small_faces import lip_error

    from moda.face.landmarks import find_faces

    matrix = cv2.getRotationMatrix2D((256, 256), angle, 0.9)
    turned = cv2.warpAffine(astronaut, matrix, (512, 512), borderValue=(120, 120, 120))
    assert lip_error(find_faces(turned)[0], find_faces(astronaut)[0]) < 0.03


@pytest.mark.parametrize("degrees", [0, 90, 180])
def test_a_video_that_lies_on_its_side_is_followed(degrees, astronaut):
    from moda.face.follow import follow_face
    from moda.face.landmarks import roll_of

    frames = [np.rot90(np.roll(astronaut, k, axis=1), degrees // 90) for k in range(8)]
    found = list(follow_face(frames))
    assert all(face is not None for face in found)
    wanted = 3 - degrees
    assert all(abs((roll_of(face) - wanted + 180) % 360 - 180) < 4 for face in found)


def test_plotting_is_read_only_when_it_is_asked_for():
    """The face mesh loads without matplotlib; MediaPipe's own drawings find it all the same."""
    import subprocess
    import sys

    code = (
        "import sys; from moda.face.mesh import solutions; s = solutions(); assert 'matplotlib' not in sys.modules\n"
        "from mediapipe.python.solutions import drawing_utils; drawing_utils.plt.figure\n"
        "assert 'matplotlib.pyplot' in sys.modules; import matplotlib; matplotlib.get_backend()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
