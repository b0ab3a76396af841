"""Who runs the commands, and where: the identity at AWS, the Region, the profile and the partition."""

import os
import tomllib
from pathlib import Path

from operate.checks.check import check, ok, wrong

SAMCONFIG = Path(__file__).resolve().parents[2] / "samconfig.toml"


@check("identity", "sts:GetCallerIdentity")
def identity(deployed):
    arn = deployed.client("sts").get_caller_identity()["Arn"]
    if arn.endswith(":root"):
        yield wrong(f"you work as {arn}, which policies do not restrict", "Use a role or an IAM Identity Center user instead")
    else:
        yield ok(arn)


@check("region")
def region(deployed):
    """The SAM CLI reads samconfig.toml, and other tools read AWS_REGION: none of them may mean another place."""
    used, profile = deployed.session.region_name, deployed.session.profile_name
    partition = deployed.session.get_partition_for_region(used)
    configured = sam_settings(deployed.name)
    others = {
        "AWS_REGION": (os.environ.get("AWS_REGION"), used),
        "region in samconfig.toml": (configured.get("region"), used),
        "profile in samconfig.toml": (configured.get("profile"), profile),
    }
    differing = [f"{name} is {given}, not {here}" for name, (given, here) in others.items() if given not in (None, "", here)]
    if differing:
        remedy = "Export the same Region in AWS_DEFAULT_REGION and AWS_REGION, and the same profile in AWS_PROFILE"
        yield wrong(f"the commands use {used} with profile {profile}, but {' and '.join(differing)}", remedy)
    else:
        yield ok(f"{used}, profile {profile}, partition {partition}")


def sam_settings(stack):
    """The deployment settings of samconfig.toml for the stack with this name."""
    environments = tomllib.loads(SAMCONFIG.read_text()).values() if SAMCONFIG.exists() else []
    for environment in environments:
        settings = environment.get("deploy", {}).get("parameters", {}) if isinstance(environment, dict) else {}
        if settings.get("stack_name") == stack:
            return settings
    return {}
