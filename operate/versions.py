"""Published versions of the function, and the alias that selects the live one."""

import base64
import dataclasses
import hashlib
import io
import re
import urllib.request
import zipfile

from operate.error import CommandError
from operate.template import FUNCTION, REVISION

ALIAS = "live"


@dataclasses.dataclass
class Version:
    """A published version. Its description, which nothing can change, says which version it replaced."""

    number: int
    published: str
    architecture: str
    code_sha: str
    revision: str = ""
    replaced: str = ""


def record(revision, replaced):
    """The description of a version, as VersionDescription in template.yaml has it."""
    return f"revision {revision}, replaces {replaced}"


class Alias:
    """The published versions, and the shares of the requests that the alias sends to them."""

    def __init__(self, stack):
        self.stack = stack
        pages = stack.functions.get_paginator("list_versions_by_function").paginate(FunctionName=stack.function)
        found = [version for page in pages for version in page["Versions"]]
        self.latest_code_sha = next((one["CodeSha256"] for one in found if one["Version"] == "$LATEST"), None)
        self.versions = {int(one["Version"]): parsed(one) for one in found if one["Version"] != "$LATEST"}
        alias = stack.functions.get_alias(FunctionName=stack.function, Name=ALIAS)
        self.revision_id = alias["RevisionId"]
        self.live = int(alias["FunctionVersion"])
        weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
        self.weights = {int(number): weight for number, weight in weights.items()}
        resources = stack.cloudformation.describe_stack_resources(StackName=stack.name)["StackResources"]
        self.recorded = recorded_version(resources, stack.parameters)

    @property
    def shares(self):
        """The requests that go to other versions than the main one, as a clause; empty if there are none."""
        return ", ".join(f"{weight:.0%} of requests to version {number}" for number, weight in self.weights.items())

    @property
    def moved(self):
        """Whether the alias was moved without CloudFormation, by a rollback, update-code or the console."""
        return self.recorded not in (None, self.live)

    @property
    def revision(self):
        """The revision of the live version."""
        return self.versions[self.live].revision

    @property
    def revisions(self):
        return {version.revision for version in self.versions.values()} - {""}

    def predecessor(self):
        """The version that the live one replaced, and whether the live one's own record says so."""
        live = self.versions[self.live]
        if live.replaced:
            return (None if live.replaced == "none" else int(live.replaced)), True
        return max((number for number in self.versions if number < self.live), default=None), False

    def configuration(self):
        """The configuration of the live version."""
        return self.stack.functions.get_function_configuration(FunctionName=self.stack.function, Qualifier=str(self.live))

    def archive(self):
        """The zip file of the live version's code."""
        found = self.stack.functions.get_function(FunctionName=self.stack.function, Qualifier=str(self.live))
        with urllib.request.urlopen(found["Code"]["Location"], timeout=60) as answer:
            packed = answer.read()
        if base64.b64encode(hashlib.sha256(packed).digest()).decode() != found["Configuration"]["CodeSha256"]:
            raise CommandError(f"The downloaded code is not that of version {self.live}. Nothing was changed. Try again.")
        return packed

    def move(self, version):
        """Sends all requests to one version, unless the alias was changed since it was read."""
        try:
            self.stack.functions.update_alias(
                FunctionName=self.stack.function,
                Name=ALIAS,
                FunctionVersion=str(version),
                RoutingConfig={"AdditionalVersionWeights": {}},
                RevisionId=self.revision_id,
            )
        except self.stack.functions.exceptions.PreconditionFailedException:
            raise CommandError(
                "Another command or deployment changed the live version at the same time. This command did not change it. "
                "`make versions` shows which version is live."
            ) from None


def parsed(found):
    written = re.fullmatch(r"revision ([0-9a-f]{12}), replaces (\d+|none)", found.get("Description", ""))
    return Version(
        number=int(found["Version"]),
        published=found["LastModified"][:16].replace("T", " "),
        architecture=found.get("Architectures", ["x86_64"])[0],
        code_sha=found["CodeSha256"],
        revision=written[1] if written else "",
        replaced=written[2] if written else "",
    )


def recorded_version(resources, parameters):
    """The version that CloudFormation made live last, as a resource of the stack records it. None if there is none."""
    numbers = {
        one["LogicalResourceId"]: int(one["PhysicalResourceId"].rpartition(":")[2])
        for one in resources
        if one["ResourceType"] == "AWS::Lambda::Version"
        and not one["ResourceStatus"].startswith("DELETE")
        and one.get("PhysicalResourceId", "").rpartition(":")[2].isdigit()
    }
    # While an update cleans up, the replaced resource is still there. SAM ends the names of these resources in 10 digits.
    current = f"{FUNCTION}Version{parameters.get(REVISION, '')[:10]}"
    return numbers.get(current, max(numbers.values(), default=None))


def bootstrap_of(packed):
    """The program in the zip file of a version."""
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        return file.read("bootstrap")


def archive(bootstrap):
    """The zip file that Lambda runs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16  # Lambda starts executable files only
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, bootstrap)
    return packed.getvalue()


def versions(stack, _):
    """List the published versions, and which of them are live."""
    alias = Alias(stack)
    row = "{:>7}  {:16}  {:12}  {:>8}  {:12}  {}"
    print(row.format("version", "published (UTC)", "revision", "replaced", "architecture", "").rstrip())
    shares = {alias.live: 1 - sum(alias.weights.values()), **alias.weights}
    for number, version in sorted(alias.versions.items()):
        share = f"live, {shares[number]:.0%} of requests" if alias.weights and number in shares else ""
        print(
            row.format(
                number,
                version.published,
                version.revision or "–",
                version.replaced or "–",
                version.architecture,
                share or ("live" if number in shares else ""),
            ).rstrip()
        )
    if stack.status().endswith("_IN_PROGRESS"):
        print("An update of the stack is in progress.")
    elif alias.moved:
        print(f"The stack records version {alias.recorded}: version {alias.live} was made live without CloudFormation.")
        print("The next make set or make deploy starts from the live version.")
