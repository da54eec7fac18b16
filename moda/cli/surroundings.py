"""The process that a command runs in: its streams, its log lines, its temporary folder.

Everything here is done once, at the start, and only by the command line: a library must not touch what other threads
and other code of the process share.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from moda.errors import ModaError

DEBUG = "MODA_DEBUG"  # set to 1: nothing that a library writes is hidden, faults show their traceback


def debugging() -> bool:
    return os.environ.get(DEBUG, "") not in ("", "0")


def prepare() -> None:
    """Before anything heavy is imported."""
    # Threads of a matrix product that wait for each other let others work: much faster where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A notebook's plotting backend, handed down to what its cells start, is not here; nothing is plotted.
    os.environ.pop("MPLBACKEND", None)
    _open_closed_streams()
    if not debugging():
        _quiet_libraries()
        warnings.simplefilter("ignore")
        logging.raiseExceptions = False  # stderr may be a pipe that nobody reads any more
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("moda: %(message)s"))
    handler.addFilter(_Once())
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.WARNING)
    # A polite kill cleans up just as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _open_closed_streams() -> None:
    """Started with `2>&-`, the first file opened would get number 2, and every message would be written into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")


def _quiet_libraries() -> None:
    """Keep stderr for what is meant for a person.

    OpenCV, libpng and MediaPipe write to file descriptor 2 on their own; it goes nowhere from here on. Python's own
    stderr goes on to where it went, and so does what is said of a crash in native code.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    faulthandler.enable(file=kept)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def require_a_folder() -> None:
    """In a folder that was deleted meanwhile, the libraries end the process without a word."""
    try:
        os.getcwd()
    except OSError as error:
        raise ModaError("the folder that this was started in is gone; go to another one") from error


def temporary_folder(output: Path) -> None:
    """Where there is no folder for temporary files (a read-only container), the one written to serves."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(output.parent.resolve())


class _OneLine(logging.Formatter):
    """A file's name may hold a line break."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(super().format(record).split())


class _Once(logging.Filter):
    """A file that is opened twice, for the model and for the listener, has its faults told once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in self._said
        self._said.add(message)
        return new
