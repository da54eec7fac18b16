"""Where files may be written, and writing them whole or not at all: the one place for both."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from moda.errors import ModaError, why

WINDOWS = re.compile(r"^([A-Za-z]:[\\/]|\\\\)")  # C:\..., \\server\...
MAX_NAME = 255  # bytes; of every file system in common use


def check_name(path: str | os.PathLike) -> Path:
    """A path that can be a file's here. Errors: ModaError for a Windows path, a name too long or with a NUL."""
    text = os.fspath(path)
    if os.name != "nt" and WINDOWS.match(text):
        raise ModaError(f"{text} is a Windows path; give it as this system sees it (in WSL: /mnt/c/...)")
    if "\0" in text:
        raise ModaError(f"{text!r} is no file's name: it has a NUL character in it")
    path = Path(text)
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > MAX_NAME:
        raise ModaError(f"{text[:60]}... is no file's name: it has {longest} bytes, {MAX_NAME} are the most")
    return path


def check_input(path: str | os.PathLike, what: str) -> Path:
    """A regular file with something in it; `what` names it: "picture", "sound file", "video".

    Errors: ModaError if it is missing, a folder, a pipe or device, empty, or may not be read.
    """
    path = check_name(path)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModaError(f"there is no {what} {path}") from error
    except OSError as error:  # a loop of links, a locked folder on the way
        raise ModaError(f"the {what} {path} cannot be read: {why(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ModaError(f"{path} is a folder, but a {what} is needed")
    if not stat.S_ISREG(status.st_mode):
        raise ModaError(f"{path} is a pipe or a device, which cannot be read twice; write it to a file first")
    if not os.access(path, os.R_OK):
        raise ModaError(f"the {what} {path} may not be read; see its permissions")
    if status.st_size == 0:
        raise ModaError(f"the {what} {path} is empty")
    return path


def check_folder(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Path:
    """A path that a file may be written to; an older file of the name will be replaced.

    inputs: what the same run reads, which is never replaced
    Errors: ModaError for a missing or locked folder; for what must not be replaced: a folder, a link, a pipe or
    device, a read-only file, an input.
    """
    path = check_name(path)
    try:
        status: os.stat_result | None = path.lstat()
    except OSError:
        status = None
    if status and stat.S_ISLNK(status.st_mode):
        raise ModaError(f"cannot write {path}: it is a link to {os.readlink(path)}; name that file itself")
    if status and stat.S_ISDIR(status.st_mode):
        raise ModaError(f"cannot write {path}: it is a folder")
    if status and not stat.S_ISREG(status.st_mode):
        raise ModaError(f"cannot write {path}: it is a pipe or a device")
    if not path.parent.is_dir():
        raise ModaError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ModaError(f"cannot write {path}: the folder {path.parent} is not writable")
    if status:
        if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(path, os.W_OK):
            raise ModaError(f"cannot write {path}: there is a read-only file of that name")
        for name in inputs:
            if os.path.exists(name) and os.path.samefile(path, name):
                raise ModaError(f"cannot write {path}: it is {os.fspath(name)}, which this run reads")
    return path


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new, empty file's path beside `path`; at the end of the block it becomes `path`.

    If the block is left by an error or Ctrl-C, it is deleted and an older `path` stays as it was. The name is
    new each time, so that two runs that write one `path` never meet: whoever ends last has written it, whole.

    Errors: ModaError if it cannot be made, or moved into its place.
    """
    path = check_folder(path)
    part = path.with_name(f".{secrets.token_hex(8)}.part")  # short: the longest name allowed works, too
    try:  # from before the file is there: Ctrl-C may come between any two lines
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        check_folder(path)  # somebody may have put a link or a read-only file there meanwhile
        os.replace(part, path)
    except OSError as error:  # a full disk, most often
        raise ModaError(f"cannot write {path}: {why(error)}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Files of a folder that belong together: written into the temporary one that is given, moved when all are there.

    config.json comes last: a folder that has one is whole. A folder that was not there before is not there if the block is
    left by an error. Errors: ModaError if it cannot be written.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
    except OSError as error:
        raise ModaError(f"cannot write into {folder}: {why(error)}") from error
    try:
        yield made
        for part in sorted(made.rglob("*"), key=lambda part: part.name == "config.json"):
            if part.is_file():
                place = folder / part.relative_to(made)
                place.parent.mkdir(exist_ok=True)
                os.replace(part, place)
        new = False
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if new:
            with suppress(OSError):  # somebody else may have put something there
                folder.rmdir()
