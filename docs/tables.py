"""The tables in docs/ that are made from the code: `python3 -m docs.tables` writes them, and a test fails when they differ.

parameters.md has the stack's parameters, from template.yaml, and the function's variables, from function/description.json.
operating.md has the alarms, from template.yaml.
"""

import re

from estimate import markdown, template
from estimate.description import VARIABLES
from estimate.template import ROOT

NONE = "–"


def folded(text, name):
    """A property's value, which is one line or is folded over several; None if there is none."""
    found = re.search(rf"^( +){name}: (?:>-\n((?:\1  .*\n)+)|(.*)\n)", text, re.MULTILINE)
    return found and " ".join((found[2] or found[3]).split())


def between(first, last):
    return f"{first} to {last}"


def parameters():
    """A row for each parameter of the template."""
    for name, text in template.blocks("Parameters").items():
        least, most, listed = (folded(text, key) for key in ("MinValue", "MaxValue", "AllowedValues"))
        values = [value.strip(' "') for value in (listed or "").strip("[]").split(",")]
        allowed = between(least, most) if least else ", ".join(f"`{value}`" for value in values if value)
        # What CloudFormation says of a value that does not fit, without the verb.
        form = re.sub(r"^(expected|has to be|must be) |, or empty$", "", folded(text, "ConstraintDescription") or NONE)
        default = folded(text, "Default").strip('"')
        yield [f"`{name}`", default or NONE, allowed or form, folded(text, "Description")]


def variables():
    """A row for each variable of the function."""
    for name, variable in VARIABLES.items():
        default, span = variable["default"], variable["range"]
        if isinstance(default, str):
            default = f"`{default}`"
        yield [f"`{name}`", NONE if default is None else str(default), between(*span) if span else NONE, variable["comment"]]


def alarms():
    """A row for each alarm of the template."""
    for name, text in template.blocks("Resources").items():
        if "    Type: AWS::CloudWatch::Alarm\n" in text:
            yield [name, folded(text, "AlarmDescription")]


def pages():
    """Each page's path, and its whole text as it has to be."""
    yield (
        "docs/parameters.md",
        f"""# Parameters

Made by `python3 -m docs.tables` from template.yaml and, by way of function/description.json, from function/src/config.rs:
change the texts there.

## Parameters of the stack

Set them with `make deploy PARAMETERS="Name=value …"`. They persist across deployments; `Name=` resets one to empty. A default of
“–” is empty.

{markdown.table(4, ["Parameter", "Default", "Allowed", "Effect"], list(parameters()))}

## Variables of the function

The stack's parameters set these; you need them only to run the function by itself. An empty variable counts as unset; an
invalid one stops the program with a message that names it.

{markdown.table(4, ["Variable", "Default", "Allowed", "Effect"], list(variables()))}
""",
    )
    table = markdown.table(2, ["Alarm", "What it means, and what to do"], list(alarms()))
    yield "docs/operating.md", markdown.fill("docs/operating.md", "alarms", table)


if __name__ == "__main__":
    for path, text in pages():
        (ROOT / path).write_text(text)
