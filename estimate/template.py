"""Reads template.yaml without a YAML library, so that the estimates need no installation."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]

# The template's conditions on alarms and the dashboard.
CONDITIONS = {
    "HasCalls": lambda given: given["Endpoints"] != "token",
    "HasQuietAlarm": lambda given: given["QuietMinutesAlarm"] != "",
    "HasDashboard": lambda given: given["Dashboard"] == "yes",
}


class Refused(Exception):
    """An error message for the user of the command."""


def blocks(section):
    """The entries of one section of the template, such as each resource, as text."""
    text = (ROOT / "template.yaml").read_text()
    text = re.search(rf"^{section}:\n(.*?)(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)[1]
    return dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w|\Z)", text, re.MULTILINE | re.DOTALL))


def setting(text, name):
    """A property of an entry: a string on one line, in double quotes or not, or folded over several. None if it is missing."""
    found = re.search(rf"^( +){name}: (?:>-\n((?:\1  .*\n)+)|(.*)\n)", text, re.MULTILINE)
    if not found:
        return None
    value = " ".join((found[2] or found[3]).split())
    return json.loads(value) if value.startswith('"') else value


def parameters(given=()):
    """The values of the parameters: the template's defaults, replaced by those given as Name=value."""
    declared = blocks("Parameters")
    found = {name: setting(text, "Default") for name, text in declared.items()}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise Refused(f"{word} has no value. Write Name=value, for example DailyMintLimit=10000.")
        if name not in found:
            raise Refused(f"template.yaml has no parameter {name}. Write Name=value, for example DailyMintLimit=10000.")
        if rule := broken_rule(declared[name], value):
            raise Refused(f"{word} is not valid: {rule}.")
        found[name] = value
    return found


def broken_rule(text, value):
    """The rule of a parameter that the value breaks, as the end of a sentence, or None. CloudFormation applies the same rules."""
    least, most, pattern, listed = (setting(text, key) for key in ("MinValue", "MaxValue", "AllowedPattern", "AllowedValues"))
    allowed = [choice.strip(' "') for choice in (listed or "").strip("[]").split(",")]
    if listed and value not in allowed:
        return f"must be one of: {', '.join(choice or '(empty)' for choice in allowed)}"
    if least and not (re.fullmatch("[0-9]+", value) and int(least) <= int(value) <= int(most)):
        return f"must be a whole number from {least} to {most}"
    if pattern and not re.fullmatch(pattern, value):
        return setting(text, "ConstraintDescription") or f"must match {pattern}"
    return None


def resources(kind, given):
    """The resources of one type in a stack with these parameters, as text."""
    found = [text for text in blocks("Resources").values() if f"    Type: {kind}\n" in text]
    conditions = [re.search(r"^    Condition: (\w+)$", text, re.MULTILINE) for text in found]
    return [text for text, named in zip(found, conditions, strict=True) if not named or CONDITIONS[named[1]](given)]


def has_quotas(given):
    """Whether any quota or limit is on, so that the function counts."""
    return any(given[name] != "0" for name in ("QuotaPerMinute", "QuotaPerDay", "DailyMintLimit"))


def has_tokens(given):
    return given["Endpoints"] != "call"


def has_calls(given):
    return CONDITIONS["HasCalls"](given)


def alarm_metrics(given):
    """The number of metrics that alarms are billed for: one for each alarm, or those in its metric math."""
    return sum(text.count("MetricStat:") or 1 for text in resources("AWS::CloudWatch::Alarm", given))


def memory_mb(function="MintFunction"):
    return int(re.search(r"^      MemorySize: (\d+)", blocks("Resources")[function], re.MULTILINE)[1])
