"""A deployed stack: its outputs, its parameters, and the AWS services that it is made of."""

import functools

import botocore.exceptions

from operate import account
from operate.error import CommandError


class Stack:
    """Reads the environment's stack from CloudFormation. Before the first deployment, there may be none."""

    def __init__(self, environment, may_be_missing=False):
        self.environment = environment
        self.name = environment.stack
        self.session = account.session(environment)
        self.read(may_be_missing)

    def read(self, may_be_missing=False):
        """Reads the outputs and parameters again, as after an update."""
        found = (describe if may_be_missing else existing)(self.session, self.name) or {}
        self.outputs = outputs(found)
        self.parameters = parameters(found)
        self.tags = found.get("Tags", [])
        if not may_be_missing and not {"FunctionName", "SecretArn"} <= set(self.outputs):
            raise CommandError(without_outputs(self.name, found["StackStatus"]))

    def status(self):
        """The state in which the stack is now."""
        return describe(self.session, self.name)["StackStatus"]

    def events(self):
        """The events of the last update, the newest first."""
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=self.name)
        for page in pages:
            for event in page["StackEvents"]:
                yield event
                of_stack = event.get("PhysicalResourceId") == event["StackId"]
                if of_stack and event["ResourceStatus"] in ("UPDATE_IN_PROGRESS", "CREATE_IN_PROGRESS"):
                    return

    @property
    def function(self):
        return self.outputs["FunctionName"]

    @property
    def secret(self):
        return self.outputs["SecretArn"]

    @functools.cached_property
    def cloudformation(self):
        return self.session.client("cloudformation")

    @functools.cached_property
    def deployments(self):
        return self.session.client("codedeploy")

    @functools.cached_property
    def functions(self):
        return self.session.client("lambda")

    @functools.cached_property
    def objects(self):
        return self.session.client("s3")

    @property
    def secrets(self):
        return self.session.client("secretsmanager")


def existing(session, name):
    """CloudFormation's description of the stack, which must exist."""
    found = describe(session, name)
    if not found:
        raise CommandError(
            f"There is no stack {name} in {session.region_name}. Name another stack with STACK=… or ENV=…, or another Region "
            "with AWS_REGION, or create the stack with `make deploy`."
        )
    return found


def outputs(description):
    return {output["OutputKey"]: output["OutputValue"] for output in description.get("Outputs", [])}


def describe(session, name):
    """CloudFormation's description of the stack, or None if there is no such stack."""
    try:
        return session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return None


def parameters(description):
    return {given["ParameterKey"]: given["ParameterValue"] for given in description.get("Parameters", [])}


def without_outputs(name, status):
    """The message for a stack without a function and a secret."""
    if status == "REVIEW_IN_PROGRESS":
        return f"The stack {name} was not created, because its change set was not confirmed. Run `make deploy` and confirm it."
    if status.startswith(("CREATE_FAILED", "ROLLBACK")):
        return (
            f"The stack {name} could not be created ({status}). Its events in the CloudFormation console name the cause. Run "
            "`make delete`, correct the cause, then run `make deploy`."
        )
    if status.endswith("_IN_PROGRESS"):
        return f"CloudFormation is changing the stack {name} ({status}). Run the command again when it has finished."
    return (
        f"The stack {name} ({status}) does not have the outputs of a Token Mint stack. Name another stack with STACK=… or ENV=…"
    )
