"""A release: a version with new code or settings becomes live through CloudFormation, from the version that is live now."""

import itertools

from operate import change_set
from operate.error import CommandError
from operate.template import REPLACED_VERSION, REVISION, Template
from operate.versions import Alias, bootstrap_of

AT_ONCE = "AllAtOnce"


def deployed_template(stack):
    """The template of the stack as it was deployed, before the transform."""
    return Template(stack.cloudformation.get_template(StackName=stack.name, TemplateStage="Original")["TemplateBody"])


class Base:
    """What a release starts from: the deployed template, the live version, and the values that this version runs with."""

    def __init__(self, stack):
        self.stack = stack
        self.template = deployed_template(stack)
        self.alias = Alias(stack)
        if self.alias.weights:
            raise CommandError(
                f"The alias sends {self.alias.shares}, but no deployment is in progress. Run `make rollback` to send all requests to "
                f"version {self.alias.live}. Nothing was changed."
            )
        self.recorded = self.template.defaults() | stack.parameters
        self.configuration = self.alias.configuration()
        ran_with = self.template.values_of(self.configuration, self.recorded) if self.alias.moved else {}
        self.values = self.recorded | ran_with

    @property
    def code_differs(self):
        """Whether CloudFormation would keep another code than that of the version it recorded, since it does not know it."""
        recorded = self.alias.versions.get(self.alias.recorded)
        return recorded is None or recorded.code_sha != self.alias.latest_code_sha

    def explain(self):
        """Says which version a release starts from if that is not the one that the stack records."""
        if not self.alias.moved:
            return
        print(
            f"Version {self.alias.live} was made live without CloudFormation: the stack records version {self.alias.recorded}."
        )
        print(f"This command starts from version {self.alias.live}.")
        restored = [name for name, value in self.values.items() if value != self.recorded.get(name)]
        if restored:
            print(f"It keeps the values with which this version runs: {', '.join(sorted(restored))}.")

    def needs_step(self, values):
        """Whether the stack must record the live version first, because CodeDeploy refuses an alias that was moved."""
        return self.alias.moved and values.get("DeploymentType", AT_ONCE) != AT_ONCE

    def record_live_version(self):
        """Releases the live version again, at once, so that the stack records it. Requests get the same code and settings."""
        if not self.template.publishes_revisions:
            raise CommandError(
                "The deployed template is of an earlier release, so a gradual deployment cannot start from version "
                f"{self.alias.live}. Run `make deploy` once with PARAMETERS=DeploymentType={AT_ONCE}. Nothing was changed."
            )
        print(f"Step 1 of 2: the stack records a copy of version {self.alias.live}, at once.", flush=True)
        predecessor, _ = self.alias.predecessor()
        values = self.values | {"DeploymentType": AT_ONCE}
        # A copy of a version replaced what the original did: a rollback from it must not end at its original.
        template, marked = self.with_live_code(values, predecessor or "none")
        change_set.update(self.stack, template, values | marked, f"record-{marked[REVISION]}")
        return require_live(self.stack, marked[REVISION])

    def with_live_code(self, values, replaced=None):
        """The deployed template with the code of the live version, and the marks of its release with these values."""
        packed = self.alias.archive()
        marked = marks(self, self.template.with_version(self.configuration, ""), bootstrap_of(packed), values, replaced)
        # CloudFormation updates the code only if its place changes, and no version has this revision.
        uri, _ = change_set.upload(self.stack, self.template.uploaded_to(), f"{marked[REVISION]}.zip", packed)
        return self.template.with_version(self.configuration, uri), marked


def marks(base, template, bootstrap, values, replaced=None):
    """The values of Revision and ReplacedVersion for a release, which stay as they are if the same version is live."""
    revision = next_revision(base.alias, template, bootstrap, values)
    if revision == base.alias.revision:
        return {REVISION: revision, REPLACED_VERSION: base.recorded.get(REPLACED_VERSION, "")}
    return {REVISION: revision, REPLACED_VERSION: str(replaced or base.alias.live)}


def next_revision(alias, template, bootstrap, values):
    """The revision that is live, if the release would change nothing; otherwise one that no version has.

    Lambda publishes no version that equals the last one, and CloudFormation none under a name that it has. So a build that is
    released again, after a failed deployment for example, needs another revision.
    """
    if is_live(alias, template, bootstrap, values) and not alias.moved:
        return alias.revision
    return next(revision for revision in attempts(template, bootstrap, values) if revision not in alias.revisions)


def is_live(alias, template, bootstrap, values):
    """Whether the live version has this code and these values."""
    published = itertools.takewhile(alias.revisions.__contains__, attempts(template, bootstrap, values))
    return alias.revision in published


def attempts(template, bootstrap, values):
    """The revisions that a version with this content may have."""
    return (template.revision(bootstrap, values, attempt) for attempt in itertools.count())


def require_live(stack, revision):
    """Says which version is live, and fails if it has another revision."""
    stack.read()
    alias = Alias(stack)
    if alias.revision != revision:
        shown = f"revision {alias.revision}" if alias.revision else "no revision"
        raise CommandError(f"Revision {revision} did not go live. Version {alias.live} with {shown} is live.")
    predecessor, _ = alias.predecessor()
    undo = f" To return to version {predecessor}: make rollback" if predecessor else ""
    print(f"Version {alias.live} with revision {revision} is live.{undo}", flush=True)
