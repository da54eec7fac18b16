"""The mesh renderer: the picture at rest, what moves where, what never moves, and the round trip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moda.errors import ModaError
from moda.evaluation.metrics import psnr
from moda.face import read_portrait
from moda.motion import Motion, join
from moda.motion.explicit import INDEX, LANDMARK_OF, LID_APERTURE, lip_gap
from moda.render.mesh import MeshRenderer
from moda.render.mesh.basis import basis, dense
from moda.render.mesh.field import Placement
from moda.render.mesh.topology import BROWS, EYES, IRIS_RINGS

SIZE = 256
PORTRAITS = ["astronaut", "drawing"]


@pytest.fixture(scope="module", params=PORTRAITS)
def prepared(request, portrait):
    source = read_portrait(portrait.with_name(f"{request.param}.jpg"))
    renderer = MeshRenderer(SIZE)
    return renderer, renderer.prepare(source), source


def changed(motion: Motion, **points) -> Motion:
    """One frame with offsets added: name=(x, y, z)."""
    exp = motion.exp.copy()
    for name, offset in points.items():
        exp[:, INDEX[name]] += np.float32(offset)
    return replace(motion, exp=exp)


def opened(motion: Motion, gap: float) -> Motion:
    """Lips closed but for `gap`, as jaws open them."""
    still = replace(motion, exp=np.zeros_like(motion.exp))
    lower = {
        name: (0, 0.85 * gap, 0)
        for name in ("lip_lower_inner", "lip_lower_outer", "lip_lower_inner_right", "lip_lower_inner_left")
    }
    return changed(still, jaw=(0, 0.5 * gap, 0), lip_upper_inner=(0, -0.15 * gap, 0), **lower)


def shut(motion: Motion) -> Motion:
    half = LID_APERTURE
    return changed(motion, lid_upper_right=(0, half, 0), lid_upper_left=(0, half, 0))


def one(renderer, p, motion: Motion) -> np.ndarray:
    (frame,) = renderer.draw(p, motion)
    return frame


@pytest.mark.parametrize("name", PORTRAITS)
def test_a_face_upside_down_moves_as_one_that_stands(name, portrait):
    """Whatever the picture's angle, what is drawn is what the upright picture would show, turned."""
    upright = read_portrait(portrait.with_name(f"{name}.jpg"))
    hanging = read_portrait(np.ascontiguousarray(upright.image[::-1, ::-1]))
    renderer = MeshRenderer(SIZE)
    frames = []
    for source in (upright, hanging):
        p = renderer.prepare(source)
        still = np.abs(one(renderer, p, p.motion).astype(int) - p.crop.cut(source.image))
        assert still.mean() < 0.5 and still.max() < 10  # in its place in the picture
        frames.append(
            one(renderer, p, changed(shut(p.motion), lip_lower_inner=(0, 0.15, 0), jaw=(0, 0.15, 0)))
        )
    turned = frames[1][::-1, ::-1]
    assert np.abs(frames[0].astype(int) - turned).mean() < 6
    assert psnr(frames[0][None], turned[None]) > 24


def test_a_cut_picture_is_drawn_with_little_made_up(portrait):
    """Where a picture is smaller than the square, it fills it but for what it lacks."""
    source = read_portrait(portrait.with_name("drawing.jpg"))
    height = int((source.landmarks[152, 1] + source.landmarks[17, 1]) / 2)
    cut = read_portrait(np.ascontiguousarray(source.image[:height]))
    crop = MeshRenderer(SIZE).framing(cut)
    ends = crop.points(np.array([[-0.5, -0.5], [cut.image.shape[1] - 0.5, height - 0.5]]))
    assert (ends[0] < 0.5).all() and (ends[1] > 0.97 * SIZE).all()


def test_basis_moves_the_named_points_by_exactly_their_offsets():
    exp = np.random.default_rng(0).normal(0, 0.1, (21, 3)).astype(np.float32)
    assert np.abs(dense(exp)[LANDMARK_OF] - exp).max() < 1e-6
    assert basis().shape == (63, 478, 3)


def test_basis_is_smooth_about_lips_and_irises():
    exp = np.zeros((21, 3), np.float32)
    exp[INDEX["iris_right"]] = (0.05, 0.02, 0)
    assert np.allclose(dense(exp)[IRIS_RINGS[0]], exp[INDEX["iris_right"]], atol=1e-3)
    assert np.abs(dense(exp)[10]).max() < 0.01  # the forehead does not follow the gaze
    opening = np.zeros((21, 3), np.float32)
    for name in (
        "lip_lower_inner",
        "lip_lower_inner_right",
        "lip_lower_inner_left",
        "lip_lower_outer",
        "jaw",
    ):
        opening[INDEX[name], 1] = 0.2
    moved = dense(opening)
    assert moved[[178, 402, 84, 314], 1].min() > 0.1  # all of the lower lip goes down
    assert np.abs(moved[[82, 312, 37, 267], 1]).max() < 0.1  # and not the upper lip
    assert np.abs(moved[[168, 6, 10]]).max() < 0.05


def test_its_own_motion_gives_the_picture_back(prepared):
    renderer, p, source = prepared
    frame = one(renderer, p, p.motion)
    assert frame.shape == (SIZE, SIZE, 3) and frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - p.image).max() <= 1
    assert np.abs(p.crop.cut(source.image).astype(int) - p.image).max() == 0


def test_motion_near_its_own_gives_nearly_the_picture(prepared):
    renderer, p, _ = prepared
    near = changed(p.motion, lid_upper_right=(0, 0.004, 0), iris_left=(0.003, 0, 0), jaw=(0, 0.004, 0))
    near = replace(near, yaw=near.yaw + 0.2)
    assert np.abs(one(renderer, p, near).astype(float) - p.image).mean() < 2.0


def test_the_edge_never_moves(prepared):
    renderer, p, _ = prepared
    for pitch, yaw, roll, t in [(0, 20, 0, 0), (12, -20, 8, 0.2), (-15, 0, -10, -0.2)]:
        m = replace(
            p.motion,
            pitch=p.motion.pitch + pitch,
            yaw=p.motion.yaw + yaw,
            roll=p.motion.roll + roll,
            t=p.motion.t + np.float32([t, t / 2, 0]),
            scale=p.motion.scale * 1.1,
        )
        frame = one(renderer, p, m).astype(int)
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            assert np.abs(frame[edge] - p.image[edge]).max() <= 2
        assert np.abs(frame - p.image)[60:200, 60:200].mean() > 2


def test_parted_lips_show_the_dark_below_the_teeth_and_closed_ones_skin(prepared):
    renderer, p, _ = prepared
    closed, wide = one(renderer, p, opened(p.motion, 0.0)), one(renderer, p, opened(p.motion, 0.3))
    place = p.field.source
    where = place.place(p.shape + dense((opened(p.motion, 0.3).exp - p.motion.exp)[0]))[[13, 14]]
    x, y = (0.2 * where[0] + 0.8 * where[1]).round().astype(int)
    assert wide[y - 1 : y + 2, x - 1 : x + 2].mean() < 0.6 * closed[y - 1 : y + 2, x - 1 : x + 2].mean()
    assert closed[y - 1 : y + 2, x - 1 : x + 2].mean() > 80  # the astronaut's smile is gone, skin is there


def _spoken(motion: Motion, rise: float, low: float) -> Motion:
    """Lips a little parted: the upper one risen, the lower one lowered by so much, as tracked people's."""
    still = replace(motion, exp=np.zeros_like(motion.exp))
    upper = {f"lip_upper_inner{side}": (0, -rise, 0) for side in ("", "_right", "_left")}
    lower = {f"lip_lower_inner{side}": (0, low, 0) for side in ("", "_right", "_left")}
    outer = {"lip_upper_outer": (0, -0.8 * rise, 0), "lip_lower_outer": (0, low + 0.01, 0)}
    return changed(still, **upper, **lower, **outer)


@pytest.mark.parametrize("name", PORTRAITS)
def test_f_and_v_show_the_upper_teeth_on_the_lower_lip_and_u_does_not(portrait, name):
    """As wide open are the lips in both (0.065): what bares teeth is the upper lip's rise. Own teeth and drawn ones."""
    renderer = MeshRenderer(512)
    p = renderer.prepare(read_portrait(portrait.with_name(f"{name}.jpg")))

    def lips(motion: Motion) -> tuple[float, float, float]:
        """How bright: the brightest between the middles of the lips, the lower one's edge, and itself below that."""
        frame = one(renderer, p, motion).astype(float)
        points = p.field.source.place(p.shape + dense((motion.exp - p.motion.exp)[0]))[[13, 14]]
        # The edge's row is the last one within the mouth: rounded, it would be the lip's own for half of all places.
        x, (top, edge) = round(points[0, 0]), np.floor(points[:, 1]).astype(int)
        rows = frame[:, x - 5 : x + 6].mean(axis=(1, 2))
        return rows[top : edge + 1].max(), rows[edge], rows[edge + 6]

    (f, f_edge, f_lip), (u, u_edge, u_lip) = (
        lips(_spoken(p.motion, *shape)) for shape in ((0.043, 0.022), (0.008, 0.057))
    )
    assert f > 1.25 * u
    assert f_edge > 0.93 * f_lip and u_edge < 0.8 * u_lip  # teeth lie on the lip; a shadow does


def test_shut_lids_cover_the_eye(prepared):
    """A dark iris makes way for skin: its place gets the color of the lid above the open eye."""
    renderer, p, _ = prepared
    frame = one(renderer, p, shut(p.motion)).astype(float)
    points = p.field.source.place(p.shape)
    for iris in (468, 473):
        x, y = points[iris].round().astype(int)
        before, after = (
            p.image[y - 1 : y + 2, x - 1 : x + 2].mean(),
            frame[y - 1 : y + 2, x - 1 : x + 2].mean(),
        )
        assert after > before + 20


def test_brows_stay_where_they_are_over_shut_lids(prepared):
    """Skin comes down from below them: what lies above a brow's lower edge is hardly another picture."""
    renderer, p, _ = prepared
    open_, closed = (one(renderer, p, m).astype(int) for m in (p.motion, shut(p.motion)))
    points = p.field.source.place(p.shape)[:, :2]
    for brow, (upper, _) in zip(BROWS, EYES):
        edge = points[brow][points[brow][:, 0].argsort()]
        for x, lid in points[upper][3:-3]:
            y = round(np.interp(x, *edge.T))
            column = np.abs(closed - open_)[:, round(x)].mean(axis=1)
            over, under = column[y - 8 : y - 1], column[y + 3 : round(lid) + 4]
            assert over.mean() < 4 and over.mean() < 0.5 * under.mean()


def _about(middle: float, reach: float) -> tuple[int, int]:
    return round(middle - max(2, reach)), round(middle + max(2, reach))


def _dark_middle(image: np.ndarray) -> float:
    """The column about which what is dark lies."""
    dark = np.maximum(0, 140 - image.mean(axis=-1)).sum(axis=0)
    return float((dark * np.arange(len(dark))).sum() / dark.sum())


def test_gaze_moves_the_iris_under_resting_lids(prepared):
    renderer, p, _ = prepared
    turned = changed(p.motion, iris_right=(0.05, 0, 0), iris_left=(0.05, 0, 0))
    frame = one(renderer, p, turned).astype(float)
    points = p.field.source.place(p.shape)
    unit = p.field.source.scale
    for iris in (468, 473):
        box = np.s_[slice(*_about(points[iris, 1], 0.03 * unit)), slice(*_about(points[iris, 0], 0.2 * unit))]
        moved = _dark_middle(frame[box]) - _dark_middle(p.image[box].astype(float))
        assert 0.3 * 0.05 * unit < moved < 1.3 * 0.05 * unit
    far = np.abs(frame - p.image)
    assert far[int(points[13, 1]) :].max() == 0  # nothing else moves


def test_the_whole_and_the_parts_are_the_same_frames(prepared):
    renderer, p, _ = prepared
    m = join([p.motion, shut(p.motion), opened(p.motion, 0.2)])
    whole = list(renderer.draw(p, m))
    parts = [f for i in (0, 1, 2) for f in renderer.draw(p, m[i])]
    assert len(whole) == 3
    assert all((a == b).all() for a, b in zip(whole, parts))


def test_the_picture_is_not_written_to(prepared):
    renderer, p, _ = prepared
    before = p.image.copy()
    list(renderer.draw(p, join([shut(p.motion), opened(p.motion, 0.3)])))
    assert (p.image == before).all()


def test_wild_motion_still_gives_frames(prepared):
    renderer, p, _ = prepared
    rng = np.random.default_rng(1)
    array = p.motion.to_array().repeat(4, 0)
    array[:, :63] += rng.normal(0, 0.5, (4, 63))
    array[:, 64:] += rng.normal(0, 3, (4, 6)) * [0.3, 0.3, 0.3, 10, 10, 10]
    for frame in renderer.draw(p, Motion.from_array(array)):
        assert frame.shape == (SIZE, SIZE, 3)


def test_placement_is_the_sources_pose(prepared):
    _, p, source = prepared
    expected = p.crop.points(source.landmarks[:, :2])
    assert np.abs(p.field.source.place(source.shape) - expected).max() < 0.2
    assert isinstance(p.field.source, Placement)


def test_another_space_is_an_error_that_names_both(prepared):
    renderer, p, _ = prepared
    with pytest.raises(ModaError, match="explicit.*liveportrait"):
        renderer.draw(p, Motion.still(1, space="liveportrait"))


@pytest.mark.parametrize("size", [63, 0, -4, 255, 4096])
def test_impossible_sizes_are_errors(size):
    with pytest.raises(ModaError, match="size"):
        MeshRenderer(size)


@pytest.mark.slow
def test_round_trip_on_a_real_clip(shared, portrait):
    """track(draw(portrait, motion)) against a real speaker's motion; docs/mesh.md has more clips and portraits."""
    from moda.face import track
    from moda.face.follow import follow_face
    from moda.face.tracking import motion_of

    motion = track(shared / "data" / "video" / "train" / "obama_1.mp4").motion[:250]
    source = read_portrait(portrait)
    renderer = MeshRenderer()
    p = renderer.prepare(source)
    base = p.motion
    driving = replace(
        motion,
        pitch=motion.pitch - np.median(motion.pitch) + base.pitch,
        yaw=motion.yaw - np.median(motion.yaw) + base.yaw,
        roll=motion.roll - np.median(motion.roll) + base.roll,
    )
    found = np.stack(list(follow_face(renderer.draw(p, driving))))
    back, _ = motion_of(found, np.arange(len(found)) / 25)

    def r(a, b):
        return np.corrcoef(a, b)[0, 1]

    assert r(lip_gap(back.exp), lip_gap(driving.exp)) >= 0.9
    assert r(back.yaw, driving.yaw) >= 0.95
    assert r(back.pitch, driving.pitch) >= 0.95


def test_an_open_mouth_without_teeth_is_drawn_some(portrait):
    """A dark opening in the picture is no reason to have dark teeth; the picture at rest stays as it is."""
    import cv2

    from moda.render.mesh.topology import LIP_INNER_LOWER, LIP_INNER_UPPER

    source = read_portrait(portrait)
    image = source.image.copy()
    inside = np.concatenate(
        [source.landmarks[LIP_INNER_UPPER, :2], source.landmarks[LIP_INNER_LOWER[::-1], :2]]
    )
    cv2.fillPoly(image, [inside.round().astype(np.int32)], (40, 16, 14))
    renderer = MeshRenderer(SIZE)
    p = renderer.prepare(replace(source, image=image))
    assert (one(renderer, p, p.motion) == p.image).all()
    assert p.mouth.inside.parted and not p.mouth.inside.own
    toothy = renderer.prepare(source)
    assert toothy.mouth.inside.own
