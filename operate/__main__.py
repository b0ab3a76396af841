"""Commands for a deployed stack: its OpenAI key, its callers, its proxy, its versions, and pauses. `make help` lists them.

All commands use the AWS SDK with the operator's own credentials. ENV selects the stack in samconfig.toml, or STACK names it.
SUBJECT, ADDRESS or CALLER names a caller.
"""

import argparse
import os
import sys

import botocore.exceptions

from operate import account, environment
from operate.callers import block, caller, unblock
from operate.error import CommandError
from operate.key import key
from operate.pause import pause, resume
from operate.proxy import proxy_secret
from operate.sam import sam
from operate.stack import Stack
from operate.versions import publish_if_changed, rollback, update_code

COMMANDS = [sam, key, caller, block, unblock, proxy_secret, publish_if_changed, update_code, rollback, pause, resume]


def arguments(words=None):
    parser = argparse.ArgumentParser(prog="python -m operate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in COMMANDS:
        added = commands.add_parser(command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__)
        added.set_defaults(run=command)
        if command is sam:
            added.add_argument("command", help="a command of the SAM CLI, such as deploy")
            added.add_argument("options", nargs=argparse.REMAINDER, help="its options")
        if command is key:
            added.add_argument("--unchecked", action="store_true", help="store the key without minting a test token")
        if command is update_code:
            added.add_argument("bootstrap", help="path of the built function")
    return parser.parse_args(words)


def main():
    asked = arguments()
    try:
        chosen = environment.resolve(os.environ)
        asked.run(chosen if asked.run is sam else Stack(chosen), asked)
    except CommandError as error:
        sys.exit(str(error))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(account.explanation(error))
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nThe command was interrupted.")


if __name__ == "__main__":
    main()
