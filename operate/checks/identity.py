"""Who runs the commands, and where: the identity at AWS, the Region, the profile and the partition."""

import os

from operate import environment
from operate.checks.check import check, ok, wrong


@check("identity", "sts:GetCallerIdentity")
def identity(deployed):
    arn = deployed.client("sts").get_caller_identity()["Arn"]
    if arn.endswith(":root"):
        yield wrong(f"you work as {arn}, which policies do not restrict", "Use a role or an IAM Identity Center user instead")
    else:
        yield ok(arn)


@check("region")
def region(deployed):
    """Other tools read AWS_DEFAULT_REGION, or samconfig.toml alone: none of them may mean another Region."""
    used = deployed.session.region_name
    others = {
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION"),
        "region in samconfig.toml": environment.read()[deployed.environment.name].get("region"),
    }
    differing = [f"{name} is {given}" for name, given in others.items() if given not in (None, "", used)]
    if differing:
        fault = f"the commands use {used}, but {' and '.join(differing)}, which other tools use"
        yield wrong(fault, "Set the same Region in each, or in neither of them")
    else:
        partition = deployed.session.get_partition_for_region(used)
        yield ok(f"{used}, profile {deployed.session.profile_name}, partition {partition}")
