"""Values of the stack's parameters: those that the operator gives, and those in samconfig.toml."""

import difflib
import json
import os
import re
import shlex

from operate.error import CommandError
from operate.template import SET_BY_COMMANDS


def written():
    """The names and values in the variable PARAMETERS, unchecked."""
    try:
        words = shlex.split(os.environ.get("PARAMETERS", ""))
    except ValueError:
        raise CommandError("PARAMETERS has a quotation mark that is not closed. Nothing was changed.") from None
    for word in words:
        if "=" not in word:
            raise CommandError(f'{word} has no value. Write PARAMETERS="Name=value Name=value". Nothing was changed.')
    return dict(word.split("=", 1) for word in words)


def given(template):
    """The values in the variable PARAMETERS, checked against the template."""
    found = written()
    for name in found:
        if name in SET_BY_COMMANDS:
            raise CommandError(f"{name} is set by make deploy and make set alone. Nothing was changed.")
        if name not in template.parameters:
            raise CommandError(f"There is no parameter {name}. {suggestion(name, template)} Nothing was changed.")
    for name, value in found.items():
        problem = template.problem(name, value)
        if problem:
            raise CommandError(f"{name}={value}: {problem}. Nothing was changed.")
    return found


def suggestion(name, template):
    names = {known.lower(): known for known in template.parameters if known not in SET_BY_COMMANDS}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(names[one] for one in near)}?"
    return "docs/parameters.md lists them."


def configured(environment):
    """The values in samconfig.toml for deployments of this environment."""
    # Imported here because it takes a tenth of a second, and most commands do not need it.
    from samcli.cli.types import CfnParameterOverridesType

    found = CfnParameterOverridesType().convert(environment.parameters, None, None)
    return {name: value for name, value in found.items() if name not in SET_BY_COMMANDS}


def for_sam(values):
    """Values as the content of a file for SAM's --parameter-overrides, which may hold spaces, quotation marks and commas.

    SAM reads YAML, which JSON is a part of.
    """
    return json.dumps({name: quoted(quoted(value)) for name, value in values.items()})


def quoted(value):
    """A value that SAM has not unquoted yet. It does so twice: for the file, and for the whole option.

    SAM removes a pair of quotation marks around a value, and a backslash in front of a quotation mark or a space.
    """
    return '"' + re.sub(r"""\\(?=[ "'])""", r"\\\\", value) + '"'


def as_words(values):
    """Values in the form that PARAMETERS takes."""
    return " ".join(f"{name}={shlex.quote(value) if value else ''}" for name, value in values.items())


def changes(before, after):
    """A line for each value that changes."""
    return [
        f"  {name}: {before.get(name) or '(empty)'} → {value or '(empty)'}"
        for name, value in after.items()
        if name not in SET_BY_COMMANDS and value != before.get(name, "")
    ]
