"""Commands for a stack: its deployment, parameters, versions, OpenAI key, callers, calls, proxy, pauses and checks.

`make help` lists them. All commands use the AWS SDK with the operator's own credentials. ENV selects the stack in samconfig.toml,
or STACK names it. PARAMETERS contains values of its parameters, TO names a version, SUBJECT, ADDRESS or CALLER names a caller,
and CALL names a call.
"""

import argparse
import os
import sys

import botocore.exceptions

from operate import account, environment
from operate.callers import block, caller, unblock
from operate.calls import calls, hang_up
from operate.deploy import deploy, set_parameters
from operate.doctor import doctor
from operate.error import CommandError
from operate.key import key
from operate.pause import pause, resume
from operate.proxy import proxy_secret
from operate.rollback import rollback
from operate.sam import sam
from operate.stack import Stack
from operate.status import status
from operate.update_code import update_code
from operate.versions import versions

COMMANDS = [
    *(sam, deploy, set_parameters, key, caller, block, unblock, proxy_secret, versions, update_code, rollback, pause, resume),
    *(calls, hang_up, doctor, status),
]
# Commands that also do their work where there is no complete stack.
OF_AN_ENVIRONMENT = [sam, doctor, status]


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
        if command is deploy:
            added.epilog = "Further options are those of sam deploy."
    asked, options = parser.parse_known_args(words)
    if asked.run is deploy:
        asked.options = options
    elif options:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    return asked


def main():
    asked = arguments()
    try:
        chosen = environment.resolve(os.environ)
        of_stack = asked.run not in OF_AN_ENVIRONMENT
        asked.run(Stack(chosen, may_be_missing=asked.run is deploy) if of_stack else chosen, asked)
    except CommandError as error:
        sys.exit(str(error))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(account.explanation(error))
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nThe command was interrupted.")


if __name__ == "__main__":
    main()
