"""A template as CloudFormation evaluates it for given parameters: its rules, conditions, properties and outputs.

References to resources stay as they are. SAM's transform is not applied.
"""

import re

from conftest import ROOT
from samtranslator.yaml_helper import yaml_parse

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "token-mint",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = object()


class Evaluated:
    def __init__(self, path="template.yaml", pseudo=None, **parameters):
        self.template = yaml_parse((ROOT / path).read_text())
        declared = self.template["Parameters"]
        assert set(parameters) <= set(declared), parameters
        defaults = {name: given["Default"] for name, given in declared.items() if "Default" in given}
        texts = {name: str(value) for name, value in (defaults | parameters).items()}
        lists = {name for name, given in declared.items() if given["Type"] == "CommaDelimitedList"}
        self.values = (
            PSEUDO | (pseudo or {}) | {name: value.split(",") if name in lists else value for name, value in texts.items()}
        )

    @property
    def refusals(self):
        """The sentences of the assertions that refuse these parameters."""
        return [
            assertion["AssertDescription"]
            for rule in self.template.get("Rules", {}).values()
            if "RuleCondition" not in rule or self.value(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.value(assertion["Assert"])
        ]

    @property
    def resources(self):
        return self.section("Resources")

    @property
    def outputs(self):
        return {name: output["Value"] for name, output in self.section("Outputs").items()}

    def section(self, name):
        found = self.template.get(name, {})
        return {
            entry: self.value({key: value for key, value in text.items() if key != "Condition"})
            for entry, text in found.items()
            if "Condition" not in text or self.holds(text["Condition"])
        }

    def holds(self, condition):
        return self.value(self.template["Conditions"][condition])

    def value(self, node):
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, of)] = node.items()
            if function == "Condition" and isinstance(of, str):
                return self.holds(of)
            if function == "Ref" and of == "AWS::NoValue":
                return NO_VALUE
            if function == "Ref":
                return self.values.get(of, node)
            if function.startswith("Fn::") and hasattr(self, own := f"fn_{function.removeprefix('Fn::').lower()}"):
                return getattr(self, own)(of)
        evaluated = {key: self.value(value) for key, value in node.items()}
        return {key: value for key, value in evaluated.items() if value is not NO_VALUE}

    def fn_if(self, of):
        return self.value(of[1] if self.holds(of[0]) else of[2])

    def fn_equals(self, of):
        left, right = map(self.value, of)
        return left == right

    def fn_not(self, of):
        return not self.value(of[0])

    def fn_and(self, of):
        return all(map(self.value, of))

    def fn_or(self, of):
        return any(map(self.value, of))

    def fn_contains(self, of):
        return self.value(of[1]) in self.value(of[0])

    def fn_eachmemberequals(self, of):
        return all(member == self.value(of[1]) for member in self.value(of[0]))

    def fn_join(self, of):
        parts = self.value(of[1])
        return of[0].join(parts) if all(isinstance(part, str) for part in parts) else {"Fn::Join": [of[0], parts]}

    def fn_select(self, of):
        return self.value(of[1])[int(of[0])]

    def fn_split(self, of):
        return self.value(of[1]).split(of[0])

    def fn_sub(self, of):
        text, more = of if isinstance(of, list) else (of, {})
        known = self.values | self.value(more)
        return re.sub(
            r"\${([\w:]+)}", lambda found: known[found[1]] if isinstance(known.get(found[1]), str) else found[0], text
        )
