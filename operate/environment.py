"""The environment of samconfig.toml that ENV selects, with the stack, the Region and the profile of a command.

`python3 -m operate.environment` checks ENV and STACK. The check needs no installed packages, so that it can run before the
first installation.
"""

import dataclasses
import os
import pathlib
import re
import sys
import tomllib

from operate.error import CommandError

SAMCONFIG = "samconfig.toml"
# CloudFormation's limits: "Parameters" of CreateStack in its API reference.
STACK_NAME = re.compile("[A-Za-z][A-Za-z0-9-]{0,127}")


@dataclasses.dataclass(frozen=True)
class Environment:
    name: str
    stack: str
    # The Region, or None for the profile's own.
    region: str | None
    # The profile in samconfig.toml, or the one in AWS_PROFILE in its place. None if samconfig.toml has none: the SDK then
    # reads AWS_PROFILE itself.
    profile: str | None
    # The template's parameters in samconfig.toml, as Name=value Name=value.
    parameters: str


def resolve(variables):
    """The environment for these environment variables. They take precedence over samconfig.toml."""
    name = variables.get("ENV", "default")
    environments = read()
    if name not in environments:
        raise CommandError(f"{SAMCONFIG} has no environment {name!r}. Set ENV to one of: {', '.join(sorted(environments))}.")
    settings = environments[name]
    profile = settings.get("profile")
    parameters = settings.get("parameter_overrides", "")
    return Environment(
        name,
        stack_name(variables, settings, name),
        region(variables) or settings.get("region"),
        profile and (variables.get("AWS_PROFILE") or profile),
        parameters if isinstance(parameters, str) else " ".join(parameters),
    )


def read():
    """Each environment's settings for deployments. SAM reads the same file in the same folder."""
    try:
        found = tomllib.loads(pathlib.Path(SAMCONFIG).read_text())
    except FileNotFoundError:
        raise CommandError(f"There is no {SAMCONFIG} in this folder. Run make in the folder of the project.") from None
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"{SAMCONFIG} is not valid TOML. Fix it: {error}.") from None
    environments = {name: sections for name, sections in found.items() if isinstance(sections, dict)}
    return {
        name: {
            key.replace("-", "_"): value
            for section in ("global", "deploy")
            for key, value in sections.get(section, {}).get("parameters", {}).items()
        }
        for name, sections in environments.items()
    }


def stack_name(variables, settings, environment):
    """The stack's name in STACK, or otherwise in samconfig.toml."""
    if "STACK" not in variables and not settings.get("stack_name"):
        raise CommandError(
            f"{SAMCONFIG} has no stack_name in [{environment}.deploy.parameters]. Add it, or name a stack with STACK=…"
        )
    name = variables.get("STACK", settings.get("stack_name"))
    if not name:
        raise CommandError("STACK is empty. Give the stack's name, for example STACK=token-mint, or leave STACK out.")
    if not STACK_NAME.fullmatch(name):
        raise CommandError(
            f"{name!r} cannot be the name of a stack: a name begins with a letter, and has at most 128 letters, digits and "
            "hyphens. Set STACK to such a name."
        )
    return name


def region(variables):
    """The Region in the environment variables, with a note if they contradict each other."""
    first, second = variables.get("AWS_REGION"), variables.get("AWS_DEFAULT_REGION")
    if first and second and first != second:
        print(f"AWS_REGION={first} and AWS_DEFAULT_REGION={second} differ. AWS_REGION is used.", file=sys.stderr)
    return first or second


if __name__ == "__main__":
    try:
        resolve(os.environ)
    except CommandError as error:
        sys.exit(str(error))
