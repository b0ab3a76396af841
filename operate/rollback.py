"""A rollback: the alias moves within seconds, and an update in progress is stopped first."""

import os
import time

import botocore.exceptions

from operate.error import CommandError
from operate.versions import Alias

# How long a stopped update may take to end, in seconds. The alias has moved before this wait.
PATIENCE = 900
POLL = 2
# The states of a deployment of CodeDeploy that has not ended.
UNFINISHED = ["Created", "Queued", "InProgress", "Baking", "Ready"]


def rollback(stack, _):
    """Return to the version that the live one replaced, or to TO=version, and stop a deployment in progress."""
    alias = Alias(stack)
    asked = chosen(alias)
    status = stack.status()
    stopped = stop_deployment(stack)
    updating = status.startswith("UPDATE_") and status.endswith("_IN_PROGRESS") and "COMPLETE" not in status
    # During a gradual deployment the alias names the old version, and adds a share for the new one. An update at once may
    # not have moved the alias yet.
    stays = stopped or alias.weights or (updating and alias.live != version_of_update(stack))
    target = asked or (alias.live if stays else replaced(alias))
    if stopped:
        print(f"Stopped the gradual deployment {stopped}.")
    elif status == "UPDATE_IN_PROGRESS":
        cancel(stack)
    if alias.weights or target != alias.live:
        move(stack, alias, target)
        shares = f", with {alias.shares}" if alias.weights else ""
        print(f"Version {target} is live; before, it was {alias.live}{shares}.", flush=True)
    else:
        print(f"Version {target} is still live.", flush=True)
    if stopped or updating:
        wait(stack)
        # CloudFormation and CodeDeploy return the alias to the version from before the update, which TO may not name.
        alias = Alias(stack)
        move(stack, alias, target)
        print(f"The stack is {stack.status()}, and version {target} is live.")
    elif target != alias.recorded:
        print(f"The next make set or make deploy starts from version {target}. To return: make rollback TO={alias.live}")


def move(stack, alias, target):
    """Sends all requests to the target, also if CodeDeploy changes the alias at the same time."""
    for _ in range(5):
        if alias.live == target and not alias.weights:
            return
        try:
            alias.move(target)
            return
        except CommandError as error:
            refused = error
            alias = Alias(stack)
    raise refused


def chosen(alias):
    """The version that TO names."""
    asked = os.environ.get("TO", "").strip()
    if not asked:
        return None
    if not asked.isdecimal() or int(asked) not in alias.versions:
        raise CommandError(f"There is no version {asked}. `make versions` lists them. Nothing was changed.")
    if int(asked) == alias.live and not alias.weights:
        raise CommandError(f"Version {asked} is already live. Nothing was changed.")
    return int(asked)


def replaced(alias):
    """The version that the live one replaced."""
    target, written = alias.predecessor()
    if target is None:
        raise CommandError(f"Version {alias.live} is the first one. Nothing was changed.")
    if target not in alias.versions:
        raise CommandError(
            f"Version {alias.live} replaced version {target}, which was deleted. Choose another with TO=, as "
            "`make versions` lists them. Nothing was changed."
        )
    if not written:
        print(f"Version {alias.live} does not record which version it replaced. This returns to the one published before it.")
    return target


def stop_deployment(stack):
    """Stops the deployment of CodeDeploy that is in progress, and returns its ID; None if there is none."""
    found = stack.cloudformation.describe_stack_resources(StackName=stack.name)["StackResources"]
    named = {one["ResourceType"]: one.get("PhysicalResourceId") for one in found}
    application, group = named.get("AWS::CodeDeploy::Application"), named.get("AWS::CodeDeploy::DeploymentGroup")
    if not application or not group:
        return None
    listed = stack.deployments.list_deployments(
        applicationName=application, deploymentGroupName=group, includeOnlyStatuses=UNFINISHED
    )
    for deployment in listed["deployments"]:
        try:
            stack.deployments.stop_deployment(deploymentId=deployment, autoRollbackEnabled=True)
        except stack.deployments.exceptions.DeploymentAlreadyCompletedException:
            continue
        return deployment
    return None


def version_of_update(stack):
    """The version that the update in progress has published, or None."""
    for event in stack.events():
        if event["ResourceType"] == "AWS::Lambda::Version" and event["ResourceStatus"] in (
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
        ):
            return int(event["PhysicalResourceId"].rpartition(":")[2])
    return None


def cancel(stack):
    """Cancels an update that moves the alias at once."""
    try:
        stack.cloudformation.cancel_update_stack(StackName=stack.name)
        print("Cancelled the update of the stack that was in progress.")
    except botocore.exceptions.ClientError as error:
        # It ended, or began to roll back, since its status was read.
        if error.response["Error"]["Code"] != "ValidationError":
            raise


def wait(stack):
    """Waits until CloudFormation has rolled the stopped update back."""
    print("CloudFormation is rolling the update back. Waiting for it to end.", flush=True)
    ends = time.monotonic() + PATIENCE
    try:
        while stack.status().endswith("_IN_PROGRESS"):
            if time.monotonic() > ends:
                raise CommandError(
                    f"CloudFormation has not ended after {PATIENCE // 60} minutes. Requests already go to the version above. "
                    "Look at the stack's events in the AWS console."
                )
            time.sleep(POLL)
    except KeyboardInterrupt:
        raise CommandError(
            "\nInterrupted. The version above is live, and CloudFormation continues to roll the update back."
        ) from None
