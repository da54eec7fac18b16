"""The command line: arguments, progress and errors that a person reads. The work is done elsewhere."""

from __future__ import annotations

import sys
from typing import cast

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 a mistake in what was given (one line on stderr), 130 after Ctrl-C.

    1 is a fault of moda's own: one line as well; with MODA_DEBUG=1 the traceback.
    """
    from moda.cli.surroundings import DEBUG, debugging, prepare

    try:
        prepare()
        code = run(arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if debugging():
            raise
        _say(f"a fault of moda's own: {type(error).__name__}: {error}; {DEBUG}=1 shows where")
        code = 1
    sys.exit(code)


def _say(message: str) -> None:
    try:
        print(f"moda: {' '.join(message.split())}", file=sys.stderr)
    except OSError:  # nobody is there to read it
        pass


def run(arguments: list[str] | None = None) -> int:
    """-> the exit code."""
    import typer

    from moda.cli.app import app
    from moda.cli.files import clean
    from moda.cli.surroundings import require_a_folder
    from moda.errors import ModaError

    usage_error = cast(
        "type[typer.BadParameter]", typer.BadParameter.__mro__[1]
    )  # typer names only its children
    message = None
    try:
        require_a_folder()
        code = app(args=arguments, prog_name="moda", standalone_mode=False) or 0
    except ModaError as error:
        code, message = USAGE_ERROR, str(error)
    except usage_error as error:
        code, message = USAGE_ERROR, f"{error.format_message()} (see moda --help)"
    except ImportError as error:  # a package or a system library, libGL for one, is missing
        if (error.name or "").startswith("moda"):
            raise
        code, message = USAGE_ERROR, f"{error}; `moda doctor` says what is missing and how to get it"
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except MemoryError:
        code, message = (
            USAGE_ERROR,
            "there is not enough memory for this; smaller pictures or a smaller --size need less",
        )
    finally:
        clean()
    if code == INTERRUPTED:  # some versions of typer turn Ctrl-C into this code, others raise
        message = "interrupted; nothing half-written is left"
    if message:
        _say(message)
    return code
