"""The SAM CLI, run for the same stack, Region and profile as the other commands."""

import os
import pathlib
import re
import shlex
import sys

import botocore.exceptions

from operate import account, change_set, keeper
from operate.error import CommandError
from operate.release import deployed_template
from operate.stack import Stack

# These would make SAM and the other commands work on different stacks.
OTHER_TARGETS = {"--config-env": "ENV", "--stack-name": "STACK", "--region": "AWS_REGION", "--profile": "AWS_PROFILE"}
PIPELINE = "infra/pipeline.yaml"


def sam(environment, asked):
    """Run a command of the SAM CLI for the stack."""
    uploaded = []
    if asked.command == "delete":
        uploaded = uploads(environment)
        end_calls(environment, "--no-prompts" not in asked.options)
    words, variables = prepared(environment, asked.command, [*uploaded, *asked.options])
    os.execve(words[0], words, variables)


def prepared(environment, command, options):
    """The words and the environment variables of a command of the SAM CLI, which is printed without its path."""
    for option in options:
        name = option.partition("=")[0]
        if name in OTHER_TARGETS:
            raise CommandError(f"Set {OTHER_TARGETS[name]} instead of {name}, so that all commands use the same value.")
    words = [command, "--config-env", environment.name]
    variables = os.environ | {"SAM_CLI_TELEMETRY": "0"}
    if command != "build":
        session = account.session(environment)
        words += target(environment, session)
        variables |= {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name}
    words += options
    print(shlex.join(["sam", *words]), file=sys.stderr, flush=True)
    # SAM itself, and the build tools that it starts, are installed beside this Python.
    tools = pathlib.Path(sys.executable).parent
    variables["PATH"] = f"{tools}{os.pathsep}{variables.get('PATH', os.defpath)}"
    return [str(tools / "sam"), *words], variables


def target(environment, session):
    """SAM's options for the stack. They take precedence over samconfig.toml."""
    profile = ["--profile", environment.profile] if environment.profile else []
    return ["--stack-name", environment.stack, "--region", session.region_name, *profile]


def uploads(environment):
    """The options that make `sam delete` delete all files uploaded for the stack, if there is one.

    Without them, SAM deletes only the folder of the last deployment's code, and `make deploy` gives the code a folder of its own
    after update-code.
    """
    try:
        bucket = deployed_template(Stack(environment, may_be_missing=True)).uploaded_to()
    except KeyError:  # a stack without this function
        return []
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return []
    return ["--s3-bucket", bucket, "--s3-prefix", environment.stack]


def end_calls(environment, asks):
    """Ends the calls of a stack that is to be deleted: without its keeper, they would last until OpenAI ends them."""
    stack = Stack(environment, may_be_missing=True)
    if keeper.OUTPUT not in stack.outputs:
        return
    if asks and not change_set.confirmed("This deletes the keeper. End all calls, and let none begin for 15 minutes?"):
        raise CommandError("Nothing was changed.")
    try:
        keeper.end_all(stack, keeper.CLOSED_SECONDS_FOR_UPDATE, "Nothing was deleted.")
    except keeper.NoKeeper:
        return  # an earlier attempt to delete the stack has deleted it
    except CommandError as error:
        print(error, file=sys.stderr, flush=True)
        question = "Delete the stack all the same? Calls that are open then last until OpenAI ends them, an hour at most."
        if not asks or not change_set.confirmed(question):
            raise CommandError("Nothing was deleted.") from None


def check_length(name, connection):
    """Refuses a stack name that is too long for a pipeline, which would fail only after all other resources exist."""
    limit = int(re.search(r"MaxLength: (\d+)", pathlib.Path(PIPELINE).read_text())[1])
    if len(name) <= limit:
        return
    if connection:
        raise CommandError(
            f"The name {name} has {len(name)} characters. With a pipeline (ConnectionArn), a stack's name may have at most "
            f"{limit}: CloudFormation shortens longer ones in the names of roles, which the pipeline's permissions name. Set "
            "STACK to a shorter name, or deploy without a pipeline (ConnectionArn=). Nothing was changed."
        )
    print(f"Note: {name} has {len(name)} characters. A stack with a pipeline may have at most {limit}.", file=sys.stderr)
