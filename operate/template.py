"""A template of the stack: its parameters, and the settings of the function that a published version consists of."""

import copy
import hashlib
import json
import re

from samtranslator.yaml_helper import yaml_parse

FUNCTION = "MintFunction"
KEEPER = "KeeperFunction"
SECRET = "Secret"
# The parameters that only the commands set.
REVISION = "Revision"
REPLACED_VERSION = "ReplacedVersion"
SET_BY_COMMANDS = (REVISION, REPLACED_VERSION)
# Properties of the function that are not part of a published version. The code is hashed by its content instead.
NOT_IN_A_VERSION = (
    "CodeUri",
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "AutoPublishCodeSha256",
    "VersionDescription",
    "DeploymentPreference",
    "ReservedConcurrentExecutions",
)


class Template:
    """A template in SAM's syntax, from its text or already parsed."""

    def __init__(self, source):
        self.document = yaml_parse(source) if isinstance(source, str) else source
        self.text = source if isinstance(source, str) else json.dumps(source, separators=(",", ":"), default=str)
        self.parameters = self.document.get("Parameters", {})
        self.function = self.document["Resources"][FUNCTION]["Properties"]
        # A template of a release without calls has no keeper.
        self.keeper = self.document["Resources"].get(KEEPER, {}).get("Properties")
        self.variables = self.function.get("Environment", {}).get("Variables", {})
        self.settings = {name: value for name, value in self.function.items() if name not in NOT_IN_A_VERSION}

    @property
    def publishes_revisions(self):
        """Whether a new Revision publishes a version. Templates before make set do not have this parameter."""
        return REVISION in self.parameters

    def secret_changes(self, deployed):
        """What differs in the secret from the deployed template, so that CloudFormation would write a new value into it.

        Another key in KMS and tags leave the value as it is.
        """
        ours, theirs = (one.document["Resources"].get(SECRET) for one in (self, deployed))
        if not ours or not theirs or ours["Type"] != theirs["Type"]:
            return {SECRET} if ours != theirs else set()
        before, after = theirs["Properties"], ours["Properties"]
        return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {"KmsKeyId", "Tags"}

    def defaults(self):
        return {name: str(given["Default"]) for name, given in self.parameters.items() if "Default" in given}

    def versioned(self):
        """The parameters that a version depends on: a new value of one takes effect only through a new version."""
        return set(self._references(self.settings)) & set(self.parameters) - set(SET_BY_COMMANDS)

    def revision(self, bootstrap, values, attempt):
        """The name of a version with this code and these values. A further attempt gives the same content another name."""
        content = [
            hashlib.sha256(bootstrap).hexdigest(),
            self.settings,
            {name: self.document["Conditions"][name] for name in self._conditions(self.settings)},
            {name: values.get(name, "") for name in self.versioned()},
            attempt,
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def values_of(self, configuration, present):
        """The values of parameters that a version has run with, from its configuration. `present` are the stack's own."""
        found = {}
        variables = configuration.get("Environment", {}).get("Variables", {})
        for name, expression in self.variables.items():
            parameter = self._parameter(expression)
            if parameter and name in variables:
                found[parameter] = variables[name]
        architectures = self.function.get("Architectures", [None])
        if self._parameter(architectures[0]):
            found[self._parameter(architectures[0])] = configuration["Architectures"][0]
        mode = configuration.get("TracingConfig", {}).get("Mode")
        found |= self._value_behind(self.function.get("Tracing"), mode, present)
        return found

    def with_version(self, configuration, code_uri):
        """This template with the code and the fixed settings of a version, so that an update releases the version again."""
        document = copy.deepcopy(self.document)
        function = document["Resources"][FUNCTION]["Properties"]
        function["CodeUri"] = code_uri
        for name in ("MemorySize", "Timeout"):
            function[name] = configuration[name]
        variables = function.setdefault("Environment", {}).setdefault("Variables", {})
        for name, value in configuration.get("Environment", {}).get("Variables", {}).items():
            if name not in variables or isinstance(variables[name], str):
                variables[name] = value
        return Template(document)

    def uploaded_to(self):
        """The bucket that the function's code was uploaded to."""
        uri = self.function["CodeUri"]
        return uri["Bucket"] if isinstance(uri, dict) else uri.removeprefix("s3://").split("/")[0]

    def problem(self, name, value):
        """The constraint that a value of a parameter does not meet, or None."""
        given = self.parameters[name]
        entries = value.split(",") if given["Type"] == "CommaDelimitedList" else [value]
        allowed = [str(one) for one in given.get("AllowedValues", [])]
        if allowed and not all(entry in allowed for entry in entries):
            return f"must be one of {', '.join(one or 'empty' for one in allowed)}"
        if given["Type"] == "Number":
            least, most = given.get("MinValue"), given.get("MaxValue")
            if not re.fullmatch(r"-?\d+(\.\d+)?", value):
                return "must be a number"
            if least is not None and not float(least) <= float(value) <= float(most):
                return f"must be from {least} to {most}"
        pattern = given.get("AllowedPattern")
        if pattern and not all(re.fullmatch(pattern, entry) for entry in entries):
            return given.get("ConstraintDescription", f"must match {pattern}")
        return None

    def _parameter(self, expression):
        """The parameter whose value this expression is: !Ref P, or a list's !Join [",", !Ref P]. None if it is not one."""
        if not isinstance(expression, dict):
            return None
        separator, joined = expression.get("Fn::Join", (None, expression))
        name = joined.get("Ref") if separator in (None, ",") and isinstance(joined, dict) else None
        return name if name in self.parameters else None

    def _value_behind(self, expression, observed, present):
        """The value of the parameter that makes !If [condition, value, other], with !Equals [!Ref parameter, word], this one."""
        if not isinstance(expression, dict) or "Fn::If" not in expression:
            return {}
        name, value, _ = expression["Fn::If"]
        reference, word = self.document["Conditions"][name]["Fn::Equals"]
        parameter = self._parameter(reference)
        if observed == value:
            return {parameter: word}
        if present.get(parameter) == word:
            return {parameter: next(other for other in self.parameters[parameter]["AllowedValues"] if other != word)}
        return {}

    def _conditions(self, node):
        """The names of the conditions that this part of the template depends on."""
        if isinstance(node, dict):
            for key, value in node.items():
                name = value[0] if key == "Fn::If" else value if key == "Condition" else None
                if isinstance(name, str):
                    yield name
                    yield from self._conditions(self.document["Conditions"][name])
                yield from self._conditions(value)
        elif isinstance(node, list):
            for one in node:
                yield from self._conditions(one)

    def _references(self, node):
        """The names that this part of the template and its conditions refer to."""
        yield from self._named(node)
        for name in self._conditions(node):
            yield from self._named(self.document["Conditions"][name])

    def _named(self, node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "Ref":
                    yield value
                elif key == "Fn::Sub":
                    yield from re.findall(r"\$\{(\w+)\}", value if isinstance(value, str) else value[0])
                yield from self._named(value)
        elif isinstance(node, list):
            for one in node:
                yield from self._named(one)
