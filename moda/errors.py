"""The one exception that a person is meant to read."""


class ModaError(Exception):
    """A mistake in what was given: says what, where and what to do, in one line.

    The command line prints it without a traceback and exits with code 2.
    """


def why(error: BaseException) -> str:
    """What went wrong with a file, without the number and the path that an OSError's text has."""
    return getattr(error, "strerror", None) or str(error)
