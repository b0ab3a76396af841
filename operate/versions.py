"""Published versions of the function, and the alias that selects the live one."""

import io
import pathlib
import zipfile

from operate.error import CommandError

ALIAS = "live"


def update_code(stack, asked):
    """Publish a built function and make it live, without CloudFormation."""
    bootstrap = pathlib.Path(asked.bootstrap)
    if not bootstrap.is_file():
        raise CommandError(f"There is no {bootstrap}. Run `make build` first.")
    before = live_version(stack)
    published = stack.functions.update_function_code(
        FunctionName=stack.function,
        ZipFile=archive(bootstrap),
        Architectures=[stack.parameters["Architecture"]],
        Publish=True,
    )["Version"]
    stack.functions.get_waiter("function_updated_v2").wait(FunctionName=stack.function)
    make_live(stack, published)
    print(
        f"Version {published} is live; before, it was {before}. To return: make rollback. The next make deploy replaces both."
    )


def publish_if_changed(stack, _):
    """Publish a version if only parameters changed, for which SAM publishes none. Runs after a deployment."""
    # Compared with the newest version, not with the live one: a rollback stays in effect until something changes.
    if settings(stack, "$LATEST") == settings(stack, versions(stack)[-1]):
        return
    published = stack.functions.publish_version(FunctionName=stack.function)["Version"]
    make_live(stack, published)
    print(f"Version {published} is live, with the changed parameters.")


def rollback(stack, _):
    """Make the version before the live one live again."""
    live = live_version(stack)
    earlier = [version for version in versions(stack) if version < live]
    if not earlier:
        raise CommandError(f"Version {live} is the first one. Nothing was changed.")
    make_live(stack, earlier[-1])
    print(f"Version {earlier[-1]} is live; before, it was {live}. A make deploy with a change continues from there.")


def archive(bootstrap):
    """The zip file that Lambda runs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16  # Lambda starts executable files only
        entry.compress_type = zipfile.ZIP_DEFLATED
        file.writestr(entry, bootstrap.read_bytes())
    return packed.getvalue()


def versions(stack):
    """The numbers of the published versions, oldest first."""
    pages = stack.functions.get_paginator("list_versions_by_function").paginate(FunctionName=stack.function)
    numbers = [version["Version"] for page in pages for version in page["Versions"]]
    return sorted(int(number) for number in numbers if number != "$LATEST")


def settings(stack, version):
    """The settings of a version that decide how it answers."""
    found = stack.functions.get_function_configuration(FunctionName=stack.function, Qualifier=str(version))
    return {name: found.get(name) for name in ("CodeSha256", "Environment", "MemorySize", "Timeout", "Architectures")}


def live_version(stack):
    return int(stack.functions.get_alias(FunctionName=stack.function, Name=ALIAS)["FunctionVersion"])


def make_live(stack, version):
    """Sends all traffic to one version, and ends a gradual deployment's split."""
    stack.functions.update_alias(
        FunctionName=stack.function,
        Name=ALIAS,
        FunctionVersion=str(version),
        RoutingConfig={"AdditionalVersionWeights": {}},
    )
