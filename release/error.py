"""The error that ends `make release`."""


class ReleaseError(Exception):
    """A message for the person who releases. It is printed without a traceback."""
