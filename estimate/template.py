"""What template.yaml says, read without a YAML library, so that nothing has to be installed."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]

# The template's conditions under which alarms and the dashboard are made.
CONDITIONS = {
    "HasQuietAlarm": lambda given: given["QuietMinutesAlarm"] != "",
    "HasDashboard": lambda given: given["Dashboard"] == "yes",
}


class Refused(Exception):
    """A sentence for whoever typed the command."""


def blocks(section):
    """The named parts of one section, such as each resource, as text."""
    text = (ROOT / "template.yaml").read_text()
    text = re.search(rf"^{section}:\n(.*?)(?=^\w|\Z)", text, re.MULTILINE | re.DOTALL)[1]
    return dict(re.findall(r"^  (\w+):\n(.*?)(?=^  \w|\Z)", text, re.MULTILINE | re.DOTALL))


def parameters(given=()):
    """The parameters' values: the template's own, and those given as Name=value in their place."""
    default = re.compile(r"^    Default: (.*)$", re.MULTILINE)
    found = {name: default.search(text)[1].strip('"') for name, text in blocks("Parameters").items()}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or name not in found:
            raise Refused(f"{word} is no parameter of template.yaml with a value, such as DailyMintLimit=10000.")
        if found[name].isdigit() and not value.isdigit():
            raise Refused(f"{word} has to be a whole number.")
        found[name] = value
    return found


def made(kind, given):
    """The resources of one kind that a stack with these parameters has, as text."""
    found = [text for text in blocks("Resources").values() if f"    Type: {kind}\n" in text]
    conditions = [re.search(r"^    Condition: (\w+)$", text, re.MULTILINE) for text in found]
    return [text for text, named in zip(found, conditions) if not named or CONDITIONS[named[1]](given)]


def has_quotas(given):
    """Whether the function counts at all."""
    return any(given[name] != "0" for name in ("QuotaPerMinute", "QuotaPerDay", "DailyMintLimit"))


def alarm_metrics(given):
    """How many metrics the alarms look at, which is what is billed: one each, or those of its arithmetic."""
    return sum(text.count("MetricStat:") or 1 for text in made("AWS::CloudWatch::Alarm", given))


def memory_mb():
    return int(re.search(r"^      MemorySize: (\d+)", blocks("Resources")["MintFunction"], re.MULTILINE)[1])
