"""Frames side by side: the real ones above, what was made below, at the same moments."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import FPS
from moda.motion import Motion

if TYPE_CHECKING:
    from moda.evaluation.judge import RealClip
    from moda.pipeline import TalkingHead

SIDE = 144  # pixels of a picture
MOMENTS = 8  # of a clip, evenly spread


def strip(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of square pictures (H, H, 3) -> one picture of them all, SIDE pixels each."""
    import cv2

    small = [[cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in small])


def tag(picture: np.ndarray) -> str:
    """(H, W, 3) RGB -> an HTML image that needs nothing beside itself."""
    import cv2

    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"<img src='data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}'>"


def of_clip(clip: RealClip, made: Sequence[Motion], head: TalkingHead) -> np.ndarray | None:
    """The clip's own frames, and each motion drawn on the frame whose lips are most closed; None where no face can be
    read in that frame, or the clip has no video."""
    from moda.errors import ModaError
    from moda.media.read import timed_frames
    from moda.motion.explicit import lip_gap

    if clip.video is None:
        return None
    n = min(len(clip.motion), *map(len, made))
    wanted = {round(i) for i in np.linspace(0, n - 1, MOMENTS)}
    rest = int(lip_gap(clip.motion.exp).argmin())
    pictures: dict[int, np.ndarray] = {}
    for time, frame, _ in timed_frames(clip.video):
        index = round(time * FPS) - clip.late
        if index in wanted | {rest}:
            pictures.setdefault(index, frame)
    moments = sorted(wanted & pictures.keys())
    if rest not in pictures or not moments:
        return None
    try:
        character = head.prepare(pictures[rest])
    except ModaError:
        return None
    crop = character.prepared.crop
    rows = [[crop.cut(pictures[i]) for i in moments]]
    for motion in made:
        some = Motion.from_array(motion.to_array()[moments], motion.space)
        rows.append(list(character.draw(motion.space.generated(some, character.motion))))
    return strip(rows)
