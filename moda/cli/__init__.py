"""The command line: arguments, progress and errors that a person reads. The work is done elsewhere."""

from __future__ import annotations

import os
import signal
import sys

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 a mistake in what was given (one line on stderr), 130 after Ctrl-C."""
    # Threads of a matrix product that wait for each other let others work: much faster where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _quiet_libraries()
    # A polite kill cleans up just as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(run(arguments))


def _quiet_libraries() -> None:
    """Keep stderr for what is meant for a person.

    OpenCV, libpng and MediaPipe write to file descriptor 2 on their own; it goes nowhere from here on, and Python's
    own stderr, tracebacks included, goes on to where it went.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def run(arguments: list[str] | None = None) -> int:
    """-> the exit code."""
    import typer

    from moda.cli.app import app
    from moda.errors import ModaError

    usage_error = typer.BadParameter.__mro__[1]
    message = None
    try:
        code = app(args=arguments, prog_name="moda", standalone_mode=False) or 0
    except ModaError as error:
        code, message = USAGE_ERROR, " ".join(str(error).split())
    except usage_error as error:
        code, message = USAGE_ERROR, f"{error.format_message()} (see moda --help)"
    except ImportError as error:  # a package or a system library, libGL for one, is missing
        if (error.name or "").startswith("moda"):
            raise
        code, message = USAGE_ERROR, f"{error}; `moda doctor` says what is missing and how to get it"
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # some versions of typer turn Ctrl-C into this code, others raise
        message = "interrupted, nothing was written"
    if message:
        print(f"moda: {message}", file=sys.stderr)
    return code
