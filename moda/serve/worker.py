"""Work on what strangers upload, in a process that may die: a broken file takes nobody else down."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from moda.errors import ModaError

BROKEN = "this file broke its reader; give another one"
TIMEOUT = 60.0  # seconds without a word after which it is taken as hung


class Worker:
    """A process that calls functions by name, one at a time; it is started at the first call, and again after a death.

    A function is "module:name"; where it takes `progress`, it may tell how far it is. broken: what is said where the process
    died or hung.
    """

    def __init__(self, timeout: float = TIMEOUT, broken: str = BROKEN) -> None:
        self.timeout, self.broken = timeout, broken
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None

    def call(self, function: str, *args: object, progress: Callable[[float], None] | None = None) -> Any:
        """-> what it returns. Errors: ModaError as it raises it, and where the process died or hung."""
        with self._lock:
            pipe = self._pipe or self._started()
            try:
                pipe.send((function, args))
                while True:
                    if not pipe.poll(self.timeout):
                        raise EOFError("hung")
                    kind, value = pipe.recv()
                    if kind == "progress":
                        if progress:
                            progress(value)
                        continue
                    break
            except (EOFError, OSError) as error:
                self._end()
                raise ModaError(self.broken) from error
            except BaseException:  # the listener gave up: what is under way is of no use
                self._end()
                raise
        if kind == "error":
            raise ModaError(value)
        return value

    def close(self) -> None:
        """End the process, whatever it does."""
        self._end()

    def _started(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = mine
        return mine

    def _end(self) -> None:
        process, self._process, pipe, self._pipe = self._process, None, self._pipe, None
        if process:
            process.kill()
            process.join(5)
        if pipe:
            pipe.close()


def _serve(pipe: Connection) -> None:
    import inspect
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server's to answer
    while True:
        try:
            name, args = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            module, function = name.split(":")
            call = getattr(import_module(module), function)
            options = {}
            if inspect.isfunction(call) and "progress" in inspect.signature(call).parameters:
                options["progress"] = lambda part: pipe.send(("progress", part))
            pipe.send(("done", call(*args, **options)))
        except ModaError as error:
            pipe.send(("error", str(error)))
        except Exception as error:  # a bug of ours: the process lives on
            pipe.send(("error", f"{type(error).__name__}: {error}"))


# -- what workers do ---------------------------------------------------------------------------


def read_picture(path: str) -> Any:
    """-> (H, W, 3) uint8."""
    from moda.media.picture import read_picture

    return read_picture(path)


def check_files(portrait: str, sound: str) -> None:
    """Whether a picture and the beginning of a sound can be read. Errors: ModaError."""
    from moda.audio.decode import iter_audio
    from moda.media.picture import read_picture

    read_picture(portrait)
    next(iter_audio(sound))


_HEADS: dict[tuple[str, str], Any] = {}


def generate(
    model: str,
    device: str,
    portrait: str,
    sound: str,
    out: str,
    options: dict,
    progress: Callable[[float], None],
) -> None:
    """A video of a portrait and a sound, files all of them."""
    from moda.pipeline import TalkingHead

    if (model, device) not in _HEADS:
        _HEADS[model, device] = TalkingHead.from_pretrained(model, device)
    _HEADS[model, device](portrait, sound, **options).save(out, progress)
