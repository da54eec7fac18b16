"""The head in depth, and how far each part of the picture follows it.

Depth: the mesh's on the face, an ellipsoid's and a neck's around it, corrected by what heads of tracked people are
deeper than that (`recipes/fit_head.py`). Following: the head turns whole; down the neck the turning ends, while the
body still sways with the head's shifts, as bodies of tracked people do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from moda.face.source import HeadPose
from moda.motion.explicit import NECK_PIVOT
from moda.render.mesh.placing import NO_MAP, interpolate, smoothstep

# The head with its hair, head-fixed, eye distances: an ellipsoid whose outline turns with the skull.
HEAD_CENTER, HEAD_RADII, OUTLINE_DEPTH = (0.0, -0.1), (1.35, 1.95), 1.0
DIRECTIONS = 72
WIDEST = (0.85, 1.45)  # of the ellipse: what a head's outline is taken for
FACE, EARS = (
    0.6,
    0.7,
)  # part of the ellipse that is the face's alone; eye distances below the eyes where heads end
HEAD_MIDDLE = np.array([0.0, 0.3, 0.9])
AWAY = 0.15  # depth of a normal (1: turned right away) above which a point is taken as hidden
NECK = (0.0, 1.2)  # eye distances below the chin between which what follows the head ends, in one layer
TURNS_END = (-0.07, 0.9)  # the same below the chin in the neck's middle, of a person who stands alone
# A neck bends where a head that turned whole would carry it to the other side: eye distances a radian of roll, and how
# far below the chin that ends.
BENDS, BENDS_END = 0.25, (0.6, 1.4)
BESIDE, SOONER = (0.3, 1.5), 1.1  # how far beside the neck, and how much sooner, it ends there
# Of the head's shifts what a body follows, from its middle outwards
CHEST, SHOULDERS, BROAD = 0.8, 0.3, (0.4, 2.0)
# Eye distances from the square's edge in which all comes to rest: at most what room there is about the hair; where hair
# is nearer than TOUCHES it is cut and must be stretched.
EDGE_NEAR, EDGE_FAR, TOUCHES = 0.25, 0.7, 0.05
BODY_EDGE = 0.5  # the same for a body, which every picture's edge cuts
RISES = (0.03, 0.05)  # eye distances that a breath lifts the middle of the chest, and the shoulders
FEATURES = np.array([[0.0, 0.45], [0.95, 1.0]])  # an ellipse about eyes, nose and lips
EVEN = 0.1  # eye distances by which depth is evened out around it
TABLE = Path(__file__).with_name("head.safetensors")
HEAD_CORNER, HEAD_STEP = np.array([0.0, -2.4]), 0.1  # of the learned depth's table, eye distances


def _behind(points: np.ndarray, others: np.ndarray, near: float, deeper: float) -> np.ndarray:
    """(K, 3), (N, 3) -> (K,) whether some other point is at most `near` beside a point and `deeper` before it."""
    apart = np.linalg.norm(points[:, None, :2] - others[None, :, :2], axis=-1)
    return ((apart < near) & (points[:, None, 2] - others[None, :, 2] > deeper)).any(axis=1)


def _normals(shape: np.ndarray) -> np.ndarray:
    """(N, 3) points of the face -> (N, 3) outward normals, each of the plane through its nearest points."""
    nearest = np.argsort(np.linalg.norm(shape[:, None] - shape[None], axis=-1), axis=1)[:, :12]
    spread = shape[nearest] - shape[nearest].mean(axis=1, keepdims=True)
    normal = np.linalg.svd(spread)[2][:, 2]
    outward = ((shape - HEAD_MIDDLE) * normal).sum(axis=1)
    return normal * np.sign(outward)[:, None]


@dataclass(frozen=True)
class Outline:
    """How far a person's head with its hair reaches in each direction, against HEAD_RADII's ellipse: 1 is the same."""

    ratio: np.ndarray  # (DIRECTIONS,), from the picture's right on, clockwise

    @classmethod
    def of(cls, alpha: np.ndarray | None, pose: HeadPose) -> Outline:
        if alpha is None:
            return cls(np.ones(DIRECTIONS))
        ring = _ring(DIRECTIONS)
        reach = np.linspace(0.3, WIDEST[1], 80)
        at = np.concatenate(
            [ring[:, None] * reach[None, :, None] + HEAD_CENTER, np.zeros((DIRECTIONS, 80, 1))], axis=-1
        )
        at[..., 2] = OUTLINE_DEPTH
        pixels = pose.place(at)[..., :2].astype(np.float32)
        inside = cv2.remap(alpha, pixels, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) > 0.5
        ratio = reach[np.where(inside.all(axis=1), len(reach), inside.argmin(axis=1)) - 1]
        # Below the ears neck and shoulders go on where the head ends.
        ratio = np.where(ring[:, 1] + HEAD_CENTER[1] < EARS, np.clip(ratio, *WIDEST), 1.0)
        kernel = np.hanning(9) / np.hanning(9).sum()
        return cls(np.convolve(np.tile(ratio, 3), kernel, "same")[DIRECTIONS:-DIRECTIONS])

    def _along(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(..., 2) head-fixed x, y -> from the middle, how far in ellipses, the outline's ratio there."""
        level = at - HEAD_CENTER
        turn = (
            np.arctan2(level[..., 1] / HEAD_RADII[1], level[..., 0] / HEAD_RADII[0])
            / (2 * np.pi)
            * DIRECTIONS
        )
        grown = np.append(self.ratio, self.ratio[0])
        ratio = np.interp(turn % DIRECTIONS, np.arange(DIRECTIONS + 1), grown)
        return level, np.linalg.norm(level / HEAD_RADII, axis=-1), ratio

    def usual(self, at: np.ndarray) -> np.ndarray:
        """(..., 2) x, y of this head -> of the mean head, whose outline is the ellipse; the face stays as it is."""
        level, rho, ratio = self._along(at)
        new = np.where(rho < ratio, FACE + (rho - FACE) * (1 - FACE) / (ratio - FACE), rho + 1 - ratio)
        return level * np.where(rho > FACE, new / np.maximum(rho, 1e-6), 1)[..., None] + HEAD_CENTER

    def own(self, at: np.ndarray) -> np.ndarray:
        """The inverse of `usual`."""
        level, rho, ratio = self._along(at)
        new = np.where(rho < 1, FACE + (rho - FACE) * (ratio - FACE) / (1 - FACE), rho - 1 + ratio)
        return level * np.where(rho > FACE, new / np.maximum(rho, 1e-6), 1)[..., None] + HEAD_CENTER


def _ring(count: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * HEAD_RADII


@cache
def _learned() -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(TABLE)["depth"]


def learned(at: np.ndarray) -> np.ndarray:
    """(..., 2) x, y of the mean head -> what tracked people's heads are deeper there than the analytic one."""
    place = ((np.abs(at) * [1, 0] + at * [0, 1] - HEAD_CORNER) / HEAD_STEP).astype(np.float32)
    return np.asarray(cv2.remap(_learned(), place, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def depth(
    units: np.ndarray, place: np.ndarray, shape: np.ndarray, pose: HeadPose, outline: Outline
) -> np.ndarray:
    """Depth of every node, eye distances: the mesh's on the face, the head's ellipsoid and the neck around it."""
    chin = shape[152, 1]
    around = []
    for radius, behind in ((1.0, OUTLINE_DEPTH), (1.6, OUTLINE_DEPTH + 0.1), (2.6, OUTLINE_DEPTH + 0.1)):
        p = _ring(24) * radius + HEAD_CENTER
        p = outline.own(p[p[:, 1] < 1.0 + (radius > 1.2)])
        around.append(np.column_stack([p, np.full(len(p), behind)]))
    crown = np.array([[x, -1.45, 0.25 + 0.5 * x * x] for x in (-0.8, -0.4, 0.0, 0.4, 0.8)])
    crown[:, :2] = outline.own(crown[:, :2])
    neck = [[x, chin + y, 0.65 + 0.3 * x * x] for x in (-0.7, 0.0, 0.7) for y in (0.45, 1.2)]
    anchors = np.concatenate([*around, crown, neck]) @ pose.rotation.T.astype(np.float64)
    # What is turned away lies behind what is seen at the same place, and must not give it its depth.
    face = np.arange(468)
    facing = (_normals(shape[:468].astype(np.float64)) @ pose.rotation[2])[face] < AWAY
    seen = place[face[facing]]
    known = np.concatenate([seen, anchors[~_behind(anchors, seen, 0.2, 0.35)]])
    _, unique = np.unique(known[:, :2].round(3), axis=0, return_index=True)
    known = known[unique]
    found = interpolate(known[:, :2], known[:, 2:], units.reshape(-1, 2), smoothing=0.02)
    z = np.asarray(cv2.GaussianBlur(found.reshape(units.shape[:2]), (0, 0), 1.0))
    fixed = np.concatenate([units, z[..., None]], axis=-1) @ pose.rotation
    z = z + learned(outline.usual(fixed[..., :2]))
    # Nose, eyes and lips are as sharp as the mesh has them; around them its points must not show as bumps.
    even = cv2.GaussianBlur(z, (0, 0), EVEN / float(units[0, 1, 0] - units[0, 0, 0]))
    far = np.linalg.norm((fixed[..., :2] - FEATURES[0]) / FEATURES[1], axis=-1)
    blend = smoothstep((far - 0.7) / 0.3)
    return (z * (1 - blend) + even * blend).astype(np.float32)


def follows(
    units: np.ndarray, edge: np.ndarray, pose: HeadPose, chin: float, alpha: np.ndarray | None, step: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> (N, N, 1) how far each node turns with the head, (N, N, 1) how far it shifts with it, (N, N) eye distances to
    the right a radian of roll, (N, N) eye distances that it rises with a breath.

    units: (N, N, 2) nodes, eye distances from the eyes in the picture. edge: (N, N, 4) from the square's left,
    top, right and bottom. alpha: the person's, None where the picture is one layer. step: between nodes.
    """
    nearest = np.maximum(edge.min(axis=-1), 0)
    inside = nearest >= step
    if alpha is None:
        follow = _in_one_layer(units, nearest, pose, chin)
        follow = (cv2.GaussianBlur(follow.astype(np.float32), (0, 0), 1.0) * inside)[..., None]
        none = np.zeros_like(nearest, dtype=np.float32)
        return follow.astype(np.float32), follow.astype(np.float32), none, none
    neck = (pose.rotation @ NECK_PIVOT)[:2]
    across = np.abs(units[..., 0] - neck[0])
    below = units[..., 1] - neck[1] + NECK_PIVOT[1] - chin
    rests = _edges(edge, alpha, pose, smoothstep(below / BODY_EDGE))
    sooner = SOONER * smoothstep((across - BESIDE[0]) / (BESIDE[1] - BESIDE[0]))
    turns = 1 - smoothstep((below + sooner - TURNS_END[0]) / (TURNS_END[1] - TURNS_END[0]))
    body = CHEST + (SHOULDERS - CHEST) * smoothstep((across - BROAD[0]) / (BROAD[1] - BROAD[0]))
    shifts = turns + (1 - turns) * body
    rises = RISES[0] + (RISES[1] - RISES[0]) * smoothstep((across - BROAD[0]) / (BROAD[1] - BROAD[0]))
    rises *= (1 - turns) * smoothstep(below / TURNS_END[1])
    bends = (1 - turns) * smoothstep(below / 0.6 + 0.5)
    bends *= BENDS * (1 - smoothstep((below - BENDS_END[0]) / (BENDS_END[1] - BENDS_END[0])))
    out = [
        (cv2.GaussianBlur((w * rests).astype(np.float32), (0, 0), 1.0) * inside).astype(np.float32)
        for w in (turns, shifts, bends, rises)
    ]
    return out[0][..., None], out[1][..., None], out[2], out[3]


def _edges(edge: np.ndarray, alpha: np.ndarray, pose: HeadPose, body: np.ndarray) -> np.ndarray:
    """1 within, 0 at the square's edge; on the side where hair reaches it over a longer way, and for the body (N, N)."""
    head = alpha[: max(1, int(pose.center[1] + pose.scale))] > 0.5  # and hair, no shoulders
    rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
    room = np.array([columns[0], rows[0], head.shape[1] - 1 - columns[-1], alpha.shape[0]]) / pose.scale
    way = np.where(room < TOUCHES, EDGE_FAR, np.clip(room, TOUCHES, EDGE_NEAR))
    ways = np.maximum(way, BODY_EDGE * body[..., None])
    return smoothstep(np.maximum(edge, 0) / ways).min(axis=-1)


def _in_one_layer(units: np.ndarray, edge: np.ndarray, pose: HeadPose, chin: float) -> np.ndarray:
    """The head followed, ever less outside its outline, so that what is behind it bends and does not tear."""
    roll = np.arctan2(pose.rotation[1, 0], pose.rotation[0, 0])
    c, s = np.cos(roll), np.sin(roll)
    middle = (pose.rotation @ np.array([*HEAD_CENTER, 0.5]))[:2]
    level = (units - middle) @ np.array([[c, -s], [s, c]])  # the head's own up and across, from its middle
    rho = np.linalg.norm(level / HEAD_RADII, axis=-1) + 1e-6
    beyond = np.maximum(0, 1 - 1 / rho) * np.linalg.norm(level, axis=-1)  # eye distances outside the outline
    # Far from the edge the head is followed whole; the last bit before the edge always rests.
    follow = smoothstep(edge / (edge + 1.2 * beyond + 1e-6)) * smoothstep(edge / EDGE_NEAR)
    below = level[..., 1] + HEAD_CENTER[1] - chin * pose.rotation[1, 1]
    return follow * (1 - smoothstep((below - NECK[0]) / (NECK[1] - NECK[0])))
