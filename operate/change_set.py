"""An update of the stack through a change set, without SAM."""

import os
import sys
import time

import botocore.exceptions

from operate.error import CommandError

# The longest template that CloudFormation takes in a request, in bytes. Longer ones go through S3.
MAXIMUM_BYTES = 51_200
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
POLL = 2
BUSY = (
    "Another update of the stack is in progress. Nothing was changed. Try again when it has ended, or run `make rollback` to "
    "stop it."
)


def require_idle(stack):
    """Refuses a stack that another update is changing, or that cannot be updated."""
    status = stack.status()
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        raise CommandError(BUSY)
    if status in ("UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED", "DELETE_FAILED"):
        raise CommandError(
            f"The stack is {status}, and CloudFormation does not update it. Continue the rollback in the AWS console, under "
            "Stack actions, or after DELETE_FAILED run `make delete` again. Nothing was changed."
        )


def confirmed(question):
    """Whether the operator agrees; without asking where CI=true."""
    if os.environ.get("CI"):
        return True
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def update(stack, template, values, name):
    """Updates the stack to this template and these values of all its parameters, and waits for the end."""
    create(stack, template, values, name)
    try:
        stack.cloudformation.execute_change_set(StackName=stack.name, ChangeSetName=name)
    except botocore.exceptions.ClientError as error:
        stack.cloudformation.delete_change_set(StackName=stack.name, ChangeSetName=name)
        if error.response["Error"]["Code"] in ("InvalidChangeSetStatus", "InvalidChangeSetStatusException"):
            raise CommandError(BUSY) from None
        if "IN_PROGRESS" in error.response["Error"]["Message"]:
            raise CommandError(BUSY) from None
        raise
    wait(stack)


def create(stack, template, values, name):
    """Creates the change set, and waits until CloudFormation has transformed and checked the template."""
    text = template.text
    if len(text.encode()) > MAXIMUM_BYTES:
        source = {"TemplateURL": upload(stack, template.uploaded_to(), f"{name}.template", text.encode())[1]}
    else:
        source = {"TemplateBody": text}
    # The template itself, not UsePreviousTemplate: that can reuse the template as it was transformed with the old values, as
    # it does for AWS::LanguageExtensions, and a new Revision would then publish no version. All values are given, because
    # the transform reads them.
    given = [{"ParameterKey": key, "ParameterValue": values[key]} for key in template.parameters if key in values]
    arguments = {
        **source,
        "StackName": stack.name,
        "ChangeSetName": name,
        "ChangeSetType": "UPDATE",
        "Capabilities": CAPABILITIES,
        "Tags": stack.tags,
        "Parameters": given,
    }
    role = os.environ.get("DEPLOY_ROLE_ARN")
    if role:
        arguments["RoleARN"] = role  # without it, CloudFormation uses the stack's own role
    try:
        stack.cloudformation.create_change_set(**arguments)
        described = stack.cloudformation.describe_change_set(StackName=stack.name, ChangeSetName=name)
        while described["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            time.sleep(POLL)
            described = stack.cloudformation.describe_change_set(StackName=stack.name, ChangeSetName=name)
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            raise CommandError(f"CloudFormation refused: {error.response['Error']['Message']}. Nothing was changed.") from None
        raise
    except KeyboardInterrupt:
        stack.cloudformation.delete_change_set(StackName=stack.name, ChangeSetName=name)
        raise
    if described["Status"] != "CREATE_COMPLETE":
        stack.cloudformation.delete_change_set(StackName=stack.name, ChangeSetName=name)
        raise CommandError(f"CloudFormation refused: {described.get('StatusReason', '')} Nothing was changed.")


def upload(stack, bucket, name, content):
    """Stores an object in the stack's folder of SAM's bucket, and returns its S3 URI and its URL."""
    key = f"{stack.name}/{name}"
    stack.objects.put_object(Bucket=bucket, Key=key, Body=content)
    return f"s3://{bucket}/{key}", f"{stack.objects.meta.endpoint_url}/{bucket}/{key}"


def wait(stack):
    """Waits for the end of an update, and prints why it failed."""
    try:
        shown = ""
        while (status := stack.status()).endswith("_IN_PROGRESS"):
            if status != shown:
                print(f"The stack is {status}.", flush=True)
                shown = status
            time.sleep(POLL)
    except KeyboardInterrupt:
        raise CommandError(
            "\nInterrupted. CloudFormation continues this update. `make versions` shows which version is live, and "
            "`make rollback` stops the update."
        ) from None
    if status == "UPDATE_COMPLETE":
        return
    reasons = [
        f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
        for event in stack.events()
        if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason")
    ]
    # The newest event comes first, and the first failure causes the others.
    reason = reasons[-1] if reasons else "The stack's events in the AWS console say why."
    raise CommandError(f"The update failed, and the stack is {status}. {reason}")
