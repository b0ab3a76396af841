"""The stack at CloudFormation: its state, the states of its nested stacks, and drift."""

import datetime
import time

import botocore.exceptions

from operate.checks.check import check, ok, skip, wrong

STABLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
# A gradual deployment takes up to 15 minutes. CloudFormation waits for one resource for up to an hour.
LONGEST_UPDATE = datetime.timedelta(minutes=60)

DEPLOY_AGAIN = "Fix the cause and run `make deploy` again"
CONTINUE = "Fix the cause, then run `aws cloudformation continue-update-rollback --stack-name {name}`"
START_AGAIN = "Run `make delete`, fix the cause, then run `make deploy` and `make key`"
WAIT = "Wait until it ends, then fix the cause and run `make deploy` again"
# What a state means for the operator, and what to do. {name} is the stack.
FAILED = {
    "REVIEW_IN_PROGRESS": ("nothing was deployed: its first change set was not executed", "Run `make deploy` and confirm it"),
    "CREATE_FAILED": ("the first deployment failed", START_AGAIN),
    "ROLLBACK_COMPLETE": ("the first deployment failed, and its resources were deleted", START_AGAIN),
    "ROLLBACK_FAILED": ("the first deployment failed, and could not be undone", START_AGAIN),
    "ROLLBACK_IN_PROGRESS": ("the first deployment failed, and is being undone", f"Wait until it ends. {START_AGAIN}"),
    "UPDATE_FAILED": ("the last deployment failed halfway", CONTINUE),
    "UPDATE_ROLLBACK_COMPLETE": ("the last deployment failed, and was undone", DEPLOY_AGAIN),
    "UPDATE_ROLLBACK_FAILED": ("the last deployment failed, and could not be undone", CONTINUE),
    "UPDATE_ROLLBACK_IN_PROGRESS": ("the last deployment failed, and is being undone", WAIT),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": ("the last deployment failed, and is being undone", WAIT),
    "IMPORT_ROLLBACK_COMPLETE": ("the last import failed, and was undone", DEPLOY_AGAIN),
    "IMPORT_ROLLBACK_FAILED": ("the last import failed, and could not be undone", CONTINUE),
    "IMPORT_ROLLBACK_IN_PROGRESS": ("the last import failed, and is being undone", WAIT),
    "DELETE_FAILED": ("it could not be deleted", "Fix the cause and run `make delete` again"),
    "DELETE_IN_PROGRESS": ("it is being deleted", "To have it again, wait until it is gone, then run `make deploy` and `make key`"),
}  # fmt: skip

# How long drift detection may take before the check goes without it, and the pause between two looks, in seconds.
DRIFT_SECONDS = 60
DRIFT_PAUSE = 2
# Other checks report these: an alias that was moved, and a pause.
REPORTED_ELSEWHERE = {
    ("AWS::Lambda::Alias", "/FunctionVersion"),
    ("AWS::Lambda::Function", "/ReservedConcurrentExecutions"),
}


@check("stack", "cloudformation:DescribeStackEvents")
def state(deployed):
    yield judged(deployed, deployed.stack)


@check(
    "nested stacks", "cloudformation:ListStackResources", "cloudformation:DescribeStacks", "cloudformation:DescribeStackEvents"
)
def nested_states(deployed):
    nested = deployed.of_type("AWS::CloudFormation::Stack")
    for name, stack in nested.items():
        yield judged(deployed, deployed.describe(stack), f"{name}: ")
    if not nested:
        yield skip("there are none: Dashboard, MonthlyBudgetUsd and ConnectionArn are empty")


def judged(deployed, stack, prefix=""):
    """The result for one stack's state."""
    status = stack["StackStatus"]
    since = stack.get("LastUpdatedTime") or stack["CreationTime"]
    if status in STABLE:
        return ok(f"{prefix}{status} since {since:%Y-%m-%d %H:%M} UTC")
    if status in FAILED:
        meaning, remedy = FAILED[status]
        reason = first_failure(deployed, stack["StackId"])
        because = f". {reason}" if reason else ""
        return wrong(f"{prefix}{status}: {meaning}{because}", remedy.format(name=stack["StackName"]))
    age = datetime.datetime.now(datetime.UTC) - since
    minutes = int(age.total_seconds() // 60)
    if status.endswith("_IN_PROGRESS") and age < LONGEST_UPDATE:
        return skip(f"{prefix}{status} for {minutes} minutes. Run it again when the deployment has ended.")
    remedy = f"Open its events in the CloudFormation console, or run `aws cloudformation cancel-update-stack --stack-name {stack['StackName']}`"
    return wrong(f"{prefix}{status} for {minutes} minutes", remedy)


def first_failure(deployed, stack):
    """The first resource that failed in the last operation on a stack, and AWS's reason."""
    pages = deployed.client("cloudformation").get_paginator("describe_stack_events")
    failure = None
    for event in pages.paginate(StackName=stack, PaginationConfig={"MaxItems": 300}).search("StackEvents[]"):
        status, reason = event.get("ResourceStatus", ""), event.get("ResourceStatusReason", "")
        if status.endswith("_FAILED") and "cancelled" not in reason:
            failure = f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}"
        if event.get("PhysicalResourceId") == stack and status in (
            "CREATE_IN_PROGRESS",
            "UPDATE_IN_PROGRESS",
            "DELETE_IN_PROGRESS",
        ):
            break
    return failure


@check(
    "drift",
    "cloudformation:ListStackResources",
    "cloudformation:DetectStackDrift",
    "cloudformation:DetectStackResourceDrift",
    "cloudformation:DescribeStackDriftDetectionStatus",
    "cloudformation:DescribeStackResourceDrifts",
)
def drift(deployed):
    try:
        started = deployed.drift_detections
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        yield skip(f"CloudFormation cannot detect it now: {error.response['Error']['Message']}")
        return
    found, complete = [], True
    deadline = time.monotonic() + DRIFT_SECONDS
    for stack, detection in started.items():
        outcome = wait_for_detection(deployed, detection, deadline)
        if outcome["DetectionStatus"] == "DETECTION_IN_PROGRESS":
            yield skip(f"CloudFormation has not finished after {DRIFT_SECONDS} s. Run it again later.")
            return
        if outcome["DetectionStatus"] == "DETECTION_FAILED":
            reason = outcome.get("DetectionStatusReason", "it gave no reason")
            yield wrong(f"CloudFormation could not detect it: {reason}", "Allow what it names, or detect drift in the console")
            complete = False
        found += differences(deployed, stack)
    for difference in found:
        yield wrong(difference, "Undo that change: `make deploy` does not see it, and leaves it in place")
    if complete and not found:
        yield ok("every resource is as the template describes it")


def wait_for_detection(deployed, detection, deadline):
    while True:
        outcome = deployed.client("cloudformation").describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        if outcome["DetectionStatus"] != "DETECTION_IN_PROGRESS" or time.monotonic() >= deadline:
            return outcome
        time.sleep(DRIFT_PAUSE)


def differences(deployed, stack):
    """A clause for each resource that differs from the template. Values are left out: one of them may be a secret."""
    cloudformation = deployed.client("cloudformation")
    asked = {"StackName": stack, "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"]}
    clauses = []
    while True:
        answer = cloudformation.describe_stack_resource_drifts(**asked)
        for resource in answer["StackResourceDrifts"]:
            name, kind = resource["LogicalResourceId"], resource["ResourceType"]
            properties = [found["PropertyPath"] for found in resource.get("PropertyDifferences", [])]
            properties = [path for path in properties if (kind, path) not in REPORTED_ELSEWHERE]
            if resource["StackResourceDriftStatus"] == "DELETED":
                clauses.append(f"{name} ({kind}) was deleted outside CloudFormation")
            elif properties:
                clauses.append(f"{name} ({kind}) was changed outside CloudFormation: {', '.join(properties)}")
        if not answer.get("NextToken"):
            return clauses
        asked["NextToken"] = answer["NextToken"]
