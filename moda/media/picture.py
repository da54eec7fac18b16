"""Pictures -> RGB arrays, upright, opaque, in sRGB."""

from __future__ import annotations

import io
import logging
import os
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from moda.errors import ModaError, why
from moda.media.files import check_input

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | os.PathLike[str] | np.ndarray | Image

log = logging.getLogger(__name__)

MAX_PIXELS = 50_000_000
MIN_SIDE = 64
# What is tried, by Pillow's names: no format that runs another program (EPS) or fetches anything.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA")
# The first bytes of what people take for pictures, for the message.
OTHERS = (
    (b"%PDF", "a PDF file"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\x03\x04", "a ZIP archive"),
)


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """JPEG, PNG, WebP, HEIC, AVIF, TIFF, BMP, GIF, JPEG 2000, ... -> (H, W, 3) uint8 RGB.

    Turned upright as its EXIF tag says, whatever the format; colors converted to sRGB as its ICC profile says;
    transparent parts lie on white; gray, CMYK, LAB, float and 16 bit pictures are converted. Of an animation or a
    file of several pages the first picture, with a logged line.
    Errors: ModaError if the file is missing, a folder, empty, no picture, damaged, below 64 pixels a side or above
    50 megapixels.
    """
    path = check_input(path, "picture")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModaError(f"the picture {path} cannot be read: {why(error)}") from error
    with _opened(data, str(path)) as image:
        return _converted(image, str(path))


def check_picture_file(path: str | os.PathLike) -> None:
    """Is it a picture, of a possible size, as far as its beginning tells? Errors: ModaError as `read_picture`."""
    path = check_input(path, "picture")
    try:
        with open(path, "rb") as file, _opened(file, str(path)) as image:
            _check_size(*image.size, str(path))
    except OSError as error:
        raise ModaError(f"the picture {path} cannot be read: {why(error)}") from error


def as_picture(picture: Picture, name: str = "the picture") -> tuple[np.ndarray, str]:
    """A file, an (H, W, 3) uint8 array or a PIL image -> the array, and what to call it in messages.

    All three are checked alike. Errors: ModaError as `read_picture` and `check_picture`.
    """
    if isinstance(picture, (str, os.PathLike)):
        return read_picture(picture), os.fspath(picture)
    if not isinstance(picture, np.ndarray):
        from PIL.Image import Image

        if isinstance(picture, Image):
            return _converted(picture, name), name
    return check_picture(picture, name), name


def check_picture(image: np.ndarray, name: str = "the picture") -> np.ndarray:
    """An array given in place of a file: itself if it is (H, W, 3) uint8 of a possible size, else ModaError."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = (
            f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise ModaError(
            f"{name} is {got}, but a file, a PIL image or an (H, W, 3) uint8 array, RGB, is needed"
        )
    _check_size(image.shape[1], image.shape[0], name)
    return image


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ModaError(
            f"{name} has {width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million; make it smaller first"
        )
    if min(width, height) < MIN_SIDE:
        raise ModaError(f"{name} has {width}x{height} pixels; each side needs at least {MIN_SIDE}")


def _opened(data: bytes | BinaryIO, name: str) -> Image:
    """The file, known by its beginning, not decoded yet."""
    import PIL.Image
    from pi_heif import register_heif_opener

    register_heif_opener()  # iPhones' format; Pillow has all others itself
    PIL.Image.init()  # all plugins, not the usual five
    try:
        return PIL.Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)
    except PIL.Image.DecompressionBombError as error:  # Pillow's own limit, 4 times ours
        raise ModaError(
            f"{name} has many more than {MAX_PIXELS // 1_000_000} million pixels; make it smaller first"
        ) from error
    except Exception as error:  # a decoder that meets damaged data raises anything
        start = data[:64] if isinstance(data, bytes) else _start(data)
        raise ModaError(f"{name} is {_kind(start)}; give a JPEG, PNG, WebP, HEIC or AVIF file") from error


def _start(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(64)


def _kind(data: bytes) -> str:
    start = data.lstrip()
    for magic, what in OTHERS:
        if start.startswith(magic):
            return f"{what}, no picture that can be read"
    if data[4:8] == b"ftyp":
        return "a video, no picture that can be read"
    return "no picture that can be read"


def _converted(image: Image, name: str) -> np.ndarray:
    """A Pillow image, opened or made by the caller, -> (H, W, 3) uint8."""
    from PIL import ImageOps

    _check_size(*image.size, name)  # before a small file unpacks to gigabytes
    try:
        # A phone's MPO holds the same picture again, for depth or as a preview.
        count = int(getattr(image, "n_frames", 1))
        if count > 1 and image.format not in ("MPO", "HEIF"):
            log.warning("%s holds %d pictures; the first is used", name, count)
        image.load()
        image = ImageOps.exif_transpose(image)
        array = _rgb(image)
    except Exception as error:  # as above
        raise ModaError(f"{name} is damaged, no picture that can be read: {_first_line(error)}") from error
    return check_picture(np.ascontiguousarray(array), name)


def _rgb(image: Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith(("I", "F")):  # 16 bits, 32 bits, float: Pillow's own conversion cuts off at 255
        values = np.asarray(image).astype(np.float64)
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        most = values.max(initial=0)
        top = 1.0 if most <= 1 else 255.0 if most <= 255 else 65535.0 if most <= 65535 else most
        gray = np.round(255 * np.clip(values / top, 0, 1)).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    alpha = None
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("RGB")
    elif mode == "P":
        image = image.convert("RGB")
    array = np.asarray(_to_srgb(image))
    if alpha is None or alpha.min(initial=255) == 255:
        return array
    part = alpha[..., None].astype(np.float32) / 255
    return np.round(array * part + 255 * (1 - part)).astype(np.uint8)


def _to_srgb(image: Image) -> Image:
    """Colors as the picture's ICC profile means them; a profile that cannot be used is left out, as viewers do."""
    from PIL import ImageCms

    data = image.info.get("icc_profile")
    if data or image.mode == "LAB":
        try:
            made = io.BytesIO(data) if data else ImageCms.createProfile("LAB")
            profile = ImageCms.ImageCmsProfile(made)
            srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
            out = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
            if out is not None:
                return out
        except (ImageCms.PyCMSError, ValueError, OSError):
            log.debug("an ICC profile that cannot be used")
    return image.convert("RGB")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
