"""What a command was given to read and to write, looked at before anything is loaded."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from moda.cli.surroundings import temporary_folder
from moda.errors import ModaError, why
from moda.media.files import check_folder, check_input, check_name

_PIPED = 8_000_000_000  # bytes; a pipe that never ends does not fill the disk
_temporary: list[Path] = []


def check_video_out(path: Path, *inputs: Path) -> None:
    """As `moda.media.write.check_output`."""
    from moda.media.write import check_output

    check_output(path, inputs)
    temporary_folder(path)


def check_motion_out(path: Path, *inputs: Path) -> None:
    if path.suffix.lower() != ".npz":
        raise ModaError(f"cannot write {path}: a motion file's name must end in .npz")
    check_folder(path, inputs)
    temporary_folder(path)


def given_picture(path: Path) -> Path:
    """-> a file that can be opened as a picture."""
    from moda.media.picture import check_picture_file

    path = _read_once(path, "picture")
    check_picture_file(path)
    return path


def given_sound(path: Path) -> Path:
    """-> a file that has sound."""
    from moda.audio.decode import sound_seconds

    path = _read_once(path, "sound file")
    sound_seconds(path)
    return path


def given_video(path: Path) -> Path:
    """-> a file that has a picture."""
    from moda.media.read import probe

    path = _read_once(path, "video")
    probe(path)
    return path


def given_driving(path: Path) -> Path:
    """-> a video, a motion file (.npz) or a file of curves (.csv)."""
    kinds = {".npz": "motion file", ".csv": "file of curves"}
    kind = kinds.get(path.suffix.lower())
    return check_input(path, kind) if kind else given_video(path)


def given_performance(path: Path) -> tuple[Path, bool]:
    """-> what `given_driving` takes, or a sound; whether it is that: sound without a moving picture."""
    if path.suffix.lower() in (".npz", ".csv"):
        return given_driving(path), False
    from moda.media.container import moving_pictures, open_container

    path = _read_once(path, "media file")
    with open_container(path, "media file") as container:
        speech = bool(container.streams.audio) and not moving_pictures(container)
    return (given_sound if speech else given_video)(path), speech


def _read_once(path: Path, what: str) -> Path:
    """A pipe can be read only once, but sound is decoded twice: it goes to a temporary file."""
    path = check_name(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return check_input(path, what)  # says what is wrong
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return check_input(path, what)
    try:
        number, name = tempfile.mkstemp(prefix=f"moda-{path.name[:40]}-")
        _temporary.append(Path(name))
        with os.fdopen(number, "wb") as out, open(path, "rb") as pipe:
            while piece := pipe.read(1 << 20):
                out.write(piece)
                if out.tell() > _PIPED:
                    raise ModaError(f"{path} gives more than {_PIPED // 10**9} GB; is it a {what}?")
    except OSError as error:
        raise ModaError(f"the pipe {path} cannot be read: {why(error)}") from error
    if not os.path.getsize(name):
        raise ModaError(f"nothing came through the pipe {path}")
    return Path(name)


def clean() -> None:
    """Remove what `_read_once` made."""
    while _temporary:
        _temporary.pop().unlink(missing_ok=True)
