"""The options of both commands: the assumptions that they share, where to write, and the parameters."""

import argparse


def parser(description, page):
    """A parser with the shared options, for a command that can write its tables into this page."""
    shared = argparse.ArgumentParser(description=description)
    shared.add_argument(
        "--upstream-ms",
        type=int,
        default=400,
        help="OpenAI's typical time for a token, in milliseconds; the load model takes it for the median (default: %(default)s)",
    )
    shared.add_argument(
        "--quota-ms",
        type=int,
        default=5,
        help="DynamoDB's time for an update, in milliseconds (default: %(default)s)",
    )
    shared.add_argument(
        "--start-ms",
        type=int,
        default=200,
        help="time that a cold start waits for Lambda, TLS and the secret, in milliseconds (default: %(default)s)",
    )
    shared.add_argument("--write", action="store_true", help=f"write the tables into {page}")
    shared.add_argument("parameters", nargs="*", help="parameters of the template, as Name=value")
    return shared


def positive(text):
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
