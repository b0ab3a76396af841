"""The tables in docs/ that are made from the code: `python3 -m docs.tables` writes them, and a test fails when they differ.

parameters.md has the stack's parameters, from template.yaml, and the function's variables, from function/src/config.rs.
operating.md has the alarms, from template.yaml, and the permissions of the commands, from operate/permissions.py.
"""

import json
import re

from estimate import markdown, template
from estimate.template import ROOT
from operate.permissions import ACTIONS

NONE = "–"


def folded(text, name):
    """A property's value, which is one line or is folded over several; None if there is none."""
    found = re.search(rf"^( +){name}: (?:>-\n((?:\1  .*\n)+)|(.*)\n)", text, re.MULTILINE)
    return found and " ".join((found[2] or found[3]).split())


def whole(text):
    """A number as Rust and YAML write it, as people read it."""
    return text.replace("_", "")


def between(first, last):
    return f"{whole(first)} to {whole(last)}"


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


def ranges():
    """The ranges of numbers that config.rs names, its own and those of the crate on OpenAI's API."""
    found = {}
    for path in ("realtime/src/lib.rs", "function/src/config.rs"):
        source = (ROOT / path).read_text()
        for name, first, last in re.findall(r"const (\w+): RangeInclusive<\w+> = ([\d_]+)\.\.=([\d_]+);", source):
            found[name] = between(first, last)
        for name, other in re.findall(r"(\w+) as (\w+)", source):
            found[other] = found.get(name)
    return found


def variables():
    """A row for each variable of the function: the text is the comment at its constant in config.rs."""
    source = (ROOT / "function/src/config.rs").read_text()
    session = json.loads((ROOT / "function/profiles.json").read_text())["default"]["session"]
    defaults = {
        "MODEL": session["model"],
        "VOICE": session["audio"]["output"]["voice"],
        "OPENAI_BASE_URL": re.search(r'unwrap_or_else\(\|\| "(https:[^"]+)"', source)[1],
        "LOG_LEVEL": re.search(r"return Ok\(Level::(\w+)\)", source)[1],
    }
    numbers = {
        name: (ranges()[span], whole(default))
        for name, span, default in re.findall(r"\b(\w+),\s*read\(\1\),\s*(\w+),\s*([\d_]+),?\s*\)", source)
    }
    for comment, name in re.findall(r'((?:^/// .*\n)*)^const ([A-Z_]+): &str = "\2";', source, re.MULTILINE):
        if name.startswith("AWS_LAMBDA_"):
            continue
        span, default = numbers.get(name, (NONE, f"`{defaults[name]}`" if name in defaults else NONE))
        yield [f"`{name}`", default, span, " ".join(comment.replace("///", "").split())]


def alarms():
    """A row for each alarm of the template."""
    for name, text in template.blocks("Resources").items():
        if "    Type: AWS::CloudWatch::Alarm\n" in text:
            yield [name, folded(text, "AlarmDescription")]


def pages():
    """Each page's path, and its whole text as it has to be."""
    yield "docs/parameters.md", f"""# Parameters

Made by `python3 -m docs.tables` from template.yaml and function/src/config.rs: change the texts there.

## Parameters of the stack

Set them with `make set PARAMETERS="Name=value …"`, or with `make deploy` and a new build. They persist across deployments;
`Name=` resets one to empty. A default of “–” is empty.

{markdown.table(4, ["Parameter", "Default", "Allowed", "Effect"], list(parameters()))}

## Variables of the function

The stack's parameters set these; you need them only to run the function by itself. An empty variable counts as unset; an
invalid one stops the program with a message that names it.

{markdown.table(4, ["Variable", "Default", "Allowed", "Effect"], list(variables()))}
"""
    table = markdown.table(2, ["Alarm", "What it means, and what to do"], list(alarms()))
    yield "docs/operating.md", markdown.fill("docs/operating.md", "alarms", table)
    rows = [[f"`make {name}`", ", ".join(f"`{action}`" for action in sorted(set(actions)))] for name, actions in ACTIONS.items()]
    table = markdown.table(2, ["Command", "Actions"], rows)
    yield "docs/operating.md", markdown.fill("docs/operating.md", "permissions", table)


if __name__ == "__main__":
    for path, text in pages():
        (ROOT / path).write_text(text)
