"""The picture in two layers: the person, who moves, and the background, which stays as it is.

The person's mask is refined on the picture's own edges (a guided filter), so that hair keeps its soft edge. What the
person hides of the background is filled once: near the silhouette with what lies on its other side, mirrored, which
carries the picture's own grain; further in ever softer.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moda.face.segmentation import person_mask
from moda.render.mesh.topology import FACE_OVAL

FITS, FACE_ALONE = 0.85, 0.97  # of the face that must be the person's; of the square that no person fills
COARSE = 512  # pixels a side on which the mask's edge is fitted to the picture's
EDGE = 0.07  # eye distances to either side of the mask's edge in which the picture decides
MIRRORED = 0.25  # eye distances inside the silhouette up to which the background's fill is mirrored, not soft


@dataclass(frozen=True)
class Layers:
    """person: (size, size, 4) uint8 RGB times alpha, and alpha. background: (size, size, 3) uint8; None where the picture
    is one layer, whose alpha is 255 everywhere."""

    person: np.ndarray
    background: np.ndarray | None

    def over(self, person: np.ndarray, box: tuple[slice, slice] = np.s_[:, :]) -> np.ndarray:
        """(h, w, 4) of the person, moved, -> (h, w, 3) before the background's rows and columns."""
        color = np.asarray(cv2.cvtColor(person, cv2.COLOR_RGBA2RGB))
        return (
            color
            if self.background is None
            else np.asarray(cv2.add(color, self.behind(person, box), dst=color))
        )

    def behind(self, person: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
        """(h, w, 3) what is seen of the background where the person is like this."""
        assert self.background is not None
        clear = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(person, 3)), cv2.COLOR_GRAY2RGB)
        return np.asarray(cv2.multiply(self.background[box], clear, dst=clear, scale=1 / 255))


def matte(image: np.ndarray, points: np.ndarray, unit: float) -> np.ndarray | None:
    """(size, size, 3), landmarks (478, 2) in it, pixels an eye distance -> the person's alpha (size, size) float32.

    None where what was found does not fit the face: some drawings, statues, crowds.
    """
    mask = person_mask(image)
    face = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(face, [np.round(points[FACE_OVAL]).astype(np.int32)], (1,))
    if not face.any() or mask[face > 0].mean() < FITS or (mask > 0.5).mean() > FACE_ALONE:
        return None
    count, parts = cv2.connectedComponents(((mask > 0.5) | (face > 0)).astype(np.uint8))
    own = parts == np.bincount(parts[face > 0], minlength=count).argmax()
    holes = cv2.connectedComponents((~own).astype(np.uint8))[1]
    outside = np.isin(holes, np.unique(np.concatenate([holes[0], holes[:, 0], holes[:, -1]]))) & ~own
    own = ~outside  # what is enclosed by the person is the person's
    signed = cv2.distanceTransform(own.astype(np.uint8), cv2.DIST_L2, 5)
    signed -= cv2.distanceTransform((~own).astype(np.uint8), cv2.DIST_L2, 5)
    rough = np.clip(0.5 + signed / (EDGE * unit), 0, 1)
    fine = guided(image, rough, max(2, round(EDGE * unit)), 1e-3)
    fine = np.clip((fine - 0.1) / 0.8, 0, 1)
    band = np.clip(2 - np.abs(signed) / (EDGE * unit), 0, 1)
    alpha = fine * band + (signed > 0) * (1 - band)
    return np.where(alpha > 0.95, 1, alpha).astype(np.float32)


def guided(image: np.ndarray, mask: np.ndarray, radius: int, smooth: float) -> np.ndarray:
    """A mask (H, W) whose edges are drawn to those of an RGB picture.

    In each window the mask is the picture's best linear map, ridge `smooth`; the maps are found on a picture of at most
    COARSE pixels a side. Source: He, Sun, Tang, "Guided image filtering", ECCV 2010; He, Sun, "Fast guided filter", 2015.
    """
    height, width = mask.shape
    k = max(1, round(max(height, width) / COARSE))
    coarse = (width // k, height // k)
    radius = max(1, round(radius / k))
    guide = image.astype(np.float32) / 255
    small = cv2.resize(guide, coarse, interpolation=cv2.INTER_AREA)
    low = cv2.resize(mask.astype(np.float32), coarse, interpolation=cv2.INTER_AREA)

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    middle, level = mean(small), mean(low)
    outer = mean((small[..., :, None] * small[..., None, :]).reshape(*low.shape, 9)).reshape(*low.shape, 3, 3)
    spread = outer - middle[..., :, None] * middle[..., None, :] + smooth * np.eye(3, dtype=np.float32)
    together = mean(small * low[..., None]) - middle * level[..., None]
    slope = np.linalg.solve(spread, together[..., None])[..., 0].astype(np.float32)
    offset = level - (slope * middle).sum(axis=-1)
    maps = cv2.resize(np.dstack([mean(slope), mean(offset)]), (width, height), interpolation=cv2.INTER_LINEAR)
    return (maps[..., :3] * guide).sum(axis=-1) + maps[..., 3]


def part(image: np.ndarray, alpha: np.ndarray | None, unit: float) -> Layers:
    """Split a picture by its person's alpha so that both layers together are the picture, to a level of brightness."""
    whole = np.full(image.shape[:2], 255, np.uint8)
    if alpha is None:
        return Layers(np.dstack([image, whole]), None)
    picture = image.astype(np.float32)
    hole = cv2.dilate((alpha > 0.02).astype(np.uint8), np.ones((3, 3)), iterations=max(1, round(0.02 * unit)))
    background = filled(image, hole, unit)
    # Only the mixture is known: no less than this much of it is the person's, since light is never taken away.
    alpha = np.maximum(alpha, 1 - (picture / np.maximum(background, 1)).min(axis=-1)) * hole
    layers = Layers(
        np.dstack([image, np.ceil(255 * alpha).astype(np.uint8)]),
        (background + 0.5).astype(np.uint8),
    )
    # Rounded as in `over`, so that both layers together are the picture itself.
    for _ in range(3):
        behind = layers.behind(layers.person, np.s_[:, :])
        over = (behind > image).any(axis=-1)
        layers.person[over, 3] = np.minimum(layers.person[over, 3], 254) + 1
    layers.person[..., :3] = cv2.subtract(image, behind)
    return layers


def spread(picture: np.ndarray, known: np.ndarray, reach: float) -> np.ndarray:
    """(H, W, 3) float32 known where `known` (H, W) is 1 -> everywhere: beside it, the near colors' mean, ever wider."""
    out, weight = picture * known[..., None], known.astype(np.float32)
    result, have = out.copy(), weight.copy()
    sigma = reach
    while have.min() < 1 and sigma < 4 * max(picture.shape):
        near, amount = _wide(out, sigma), _wide(weight, sigma)
        color = near / np.maximum(amount, 1e-4)[..., None]
        take = np.clip(amount / 0.05, 0, 1) * (1 - have)
        result += color * take[..., None]
        have += take
        sigma *= 2
    return result / np.maximum(have, 1e-4)[..., None]


def _wide(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur; a wide one is taken of a smaller picture."""
    k = max(1, int(sigma / 4))
    if k == 1:
        return cv2.GaussianBlur(x, (0, 0), sigma)
    height, width = x.shape[:2]
    small = cv2.resize(x, (max(2, width // k), max(2, height // k)), interpolation=cv2.INTER_AREA)
    return cv2.resize(
        cv2.GaussianBlur(small, (0, 0), sigma / k), (width, height), interpolation=cv2.INTER_LINEAR
    )


def filled(image: np.ndarray, hole: np.ndarray, unit: float) -> np.ndarray:
    """(H, W, 3) uint8 and its hole (H, W), 1 there, -> (H, W, 3) float32, the hole filled from around it."""
    height, width = hole.shape
    if hole.all():
        return image.astype(np.float32)
    distance, label = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    ys, xs = np.nonzero(hole == 0)
    nearest = np.zeros((label.max() + 1, 2), np.float32)
    nearest[label[ys, xs]] = np.stack([xs, ys], axis=1)
    edge = nearest[label]
    edge = np.where(hole[..., None] > 0, cv2.GaussianBlur(edge, (0, 0), max(1.0, 0.03 * unit)), edge)
    here = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    across = np.clip(2 * edge - here, 0, np.array([width - 1, height - 1], np.float32))
    picture, known = image.astype(np.float32), (hole == 0).astype(np.float32)
    soft = spread(picture, known, max(1.0, 0.08 * unit))
    empty = np.empty(0, np.float32)
    mirrored = np.asarray(cv2.remap(picture, across, empty, cv2.INTER_LINEAR))
    seen = np.asarray(cv2.remap(known, across, empty, cv2.INTER_LINEAR))
    near = np.clip(2 - distance / (MIRRORED * unit), 0, 1) * np.clip(2 * seen - 1, 0, 1)
    near = cv2.GaussianBlur(near.astype(np.float32), (0, 0), max(1.0, 0.03 * unit)) * hole
    near = np.minimum(near, seen)[..., None]
    fill = mirrored * near + soft * (1 - near)
    return np.where(hole[..., None] > 0, fill, picture).astype(np.float32)
