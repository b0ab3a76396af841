"""The error that ends a command."""


class CommandError(Exception):
    """A message for the operator, which names the next step. It is printed without a traceback."""
