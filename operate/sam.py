"""The SAM CLI, run for the same stack, Region and profile as the other commands."""

import os
import pathlib
import re
import shlex
import sys

from operate import account, stack
from operate.error import CommandError

# These would make SAM and the other commands work on different stacks.
OTHER_TARGETS = {"--config-env": "ENV", "--stack-name": "STACK", "--region": "AWS_REGION", "--profile": "AWS_PROFILE"}
PIPELINE = "infra/pipeline.yaml"


def sam(environment, asked):
    """Run a command of the SAM CLI for the stack."""
    command, options = asked.command, asked.options
    for option in options:
        name = option.partition("=")[0]
        if name in OTHER_TARGETS:
            raise CommandError(f"Set {OTHER_TARGETS[name]} instead of {name}, so that all commands use the same value.")
    words = ["sam", command, "--config-env", environment.name]
    variables = os.environ | {"SAM_CLI_TELEMETRY": "0"}
    if command != "build":
        session = account.session(environment)
        words += target(environment, session)
        variables |= {"AWS_REGION": session.region_name, "AWS_DEFAULT_REGION": session.region_name}
    if command == "deploy":
        check_length(environment, session, options)
        words += ["--s3-prefix", environment.stack]
    words += options
    print(shlex.join(words), file=sys.stderr, flush=True)
    # SAM itself, and the build tools that it starts, are installed beside this Python.
    tools = pathlib.Path(sys.executable).parent
    variables["PATH"] = f"{tools}{os.pathsep}{variables.get('PATH', os.defpath)}"
    os.execve(tools / "sam", words, variables)


def target(environment, session):
    """SAM's options for the stack. They take precedence over samconfig.toml."""
    profile = ["--profile", environment.profile] if environment.profile else []
    return ["--stack-name", environment.stack, "--region", session.region_name, *profile]


def check_length(environment, session, options):
    """Refuses a stack name that is too long for a pipeline, which would fail only after all other resources exist."""
    limit = int(re.search(r"MaxLength: (\d+)", pathlib.Path(PIPELINE).read_text())[1])
    name = environment.stack
    if len(name) <= limit:
        return
    if connection(environment, session, options):
        raise CommandError(
            f"The name {name} has {len(name)} characters. With a pipeline (ConnectionArn), a stack's name may have at most "
            f"{limit}: CloudFormation shortens longer ones in the names of roles, which the pipeline's permissions name. Set "
            "STACK to a shorter name, or deploy without a pipeline (ConnectionArn=)."
        )
    print(f"Note: {name} has {len(name)} characters. A stack with a pipeline may have at most {limit}.", file=sys.stderr)


def connection(environment, session, options):
    """The value of ConnectionArn for this deployment: given, in samconfig.toml, or kept from the last deployment."""
    replaced = any(option.startswith("--parameter-overrides") for option in options)
    given = " ".join(options) if replaced else environment.parameters
    if found := re.search(r'\bConnectionArn(?:,ParameterValue)?="?([^\s"]*)', given):
        return found[1]
    deployed = stack.describe(session, environment.stack)
    return deployed and stack.parameters(deployed).get("ConnectionArn")
