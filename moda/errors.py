"""The one exception that a person is meant to read."""


class ModaError(Exception):
    """A mistake in what was given: says what, where and what to do, in one line.

    The command line prints it without a traceback and exits with code 2.
    """
