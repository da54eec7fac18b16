"""Picture files -> RGB arrays, upright and opaque."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from moda.errors import ModaError

MAX_PIXELS = 50_000_000
MIN_SIDE = 64


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """JPEG, PNG, WebP, TIFF, BMP, ... -> (H, W, 3) uint8 RGB.

    Turned upright as its EXIF tag says; transparent parts lie on white; grey, CMYK and 16 bit pictures are converted.
    Errors: ModaError if the file is missing, a folder, empty, no picture, damaged, below 64 pixels a side or above
    50 megapixels.
    """
    path = Path(path)
    if path.is_dir():
        raise ModaError(f"{path} is a folder, but a picture is needed")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModaError(f"there is no picture {path}") from error
    except OSError as error:
        raise ModaError(f"the picture {path} cannot be read: {error.strerror or error}") from error
    if not data:
        raise ModaError(f"the picture {path} is empty")
    size = _stated_size(data)
    if size:
        _check_size(*size, str(path))  # before a small file unpacks to gigabytes
    image = _decode(data)
    if image is None:
        raise ModaError(f"{path} is no picture that can be read; give a JPEG, PNG or WebP file")
    return check_picture(image, str(path))


def check_picture(image: np.ndarray, name: str = "the picture") -> np.ndarray:
    """An array given in place of a file: itself if it is (H, W, 3) uint8 of a possible size, else ModaError."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise ModaError(f"{name} is {got}, but an (H, W, 3) uint8 array, RGB, is needed")
    _check_size(image.shape[1], image.shape[0], name)
    return image


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ModaError(
            f"{name} has {width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million; make it smaller first"
        )
    if min(width, height) < MIN_SIDE:
        raise ModaError(f"{name} has {width}x{height} pixels; each side needs at least {MIN_SIDE}")


def _decode(data: bytes) -> np.ndarray | None:
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)  # applies EXIF, drops alpha
        if image is None:
            return None
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if data[:3] == b"\xff\xd8\xff":  # JPEG knows no alpha
            return image
        raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if raw is None or raw.ndim != 3 or raw.shape[2] != 4 or raw.shape[:2] != image.shape[:2]:
        return image
    alpha = raw[..., 3:].astype(np.float32) / np.iinfo(raw.dtype).max
    return np.round(image * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _stated_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in the header of a PNG or JPEG, None for others."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
