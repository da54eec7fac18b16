"""A sheet of frames of one or more videos, to look at: python docs/sheet.py OUT.jpg VIDEO [VIDEO ...]"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from moda.media.read import read_video

COLUMNS, SIDE = 8, 192  # frames a video, pixels


def main(out: str, *videos: str) -> None:
    rows = []
    for path in videos:
        frames = list(read_video(path))
        chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, COLUMNS).astype(int)]
        height = round(SIDE * chosen[0].shape[0] / chosen[0].shape[1])
        rows.append(np.hstack([cv2.resize(f, (SIDE, height), interpolation=cv2.INTER_AREA) for f in chosen]))
    cv2.imwrite(out, np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main(*sys.argv[1:])
