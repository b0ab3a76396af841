"""Reads template.yaml without a YAML library, so that the estimates need no installation."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]

# The template's conditions on alarms and the dashboard.
CONDITIONS = {
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


def parameters(given=()):
    """The values of the parameters: the template's defaults, replaced by those given as Name=value."""
    default = re.compile(r"^    Default: (.*)$", re.MULTILINE)
    found = {name: default.search(text)[1].strip('"') for name, text in blocks("Parameters").items()}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise Refused(f"{word} has no value. Write Name=value, for example DailyMintLimit=10000.")
        if name not in found:
            raise Refused(f"template.yaml has no parameter {name}. Write Name=value, for example DailyMintLimit=10000.")
        if found[name].isdigit() and not value.isdigit():
            raise Refused(f"{word}: {name} must be a whole number.")
        found[name] = value
    return found


def resources(kind, given):
    """The resources of one type in a stack with these parameters, as text."""
    found = [text for text in blocks("Resources").values() if f"    Type: {kind}\n" in text]
    conditions = [re.search(r"^    Condition: (\w+)$", text, re.MULTILINE) for text in found]
    return [text for text, named in zip(found, conditions, strict=True) if not named or CONDITIONS[named[1]](given)]


def has_quotas(given):
    """Whether any quota or limit is on, so that the function counts."""
    return any(given[name] != "0" for name in ("QuotaPerMinute", "QuotaPerDay", "DailyMintLimit"))


def alarm_metrics(given):
    """The number of metrics that alarms are billed for: one for each alarm, or those in its metric math."""
    return sum(text.count("MetricStat:") or 1 for text in resources("AWS::CloudWatch::Alarm", given))


def memory_mb():
    return int(re.search(r"^      MemorySize: (\d+)", blocks("Resources")["MintFunction"], re.MULTILINE)[1])
