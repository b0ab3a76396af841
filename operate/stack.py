"""A deployed stack: its outputs, its parameters, and the AWS services that it is made of."""

import functools

import boto3
import botocore.exceptions

from operate.error import CommandError


class Stack:
    """Reads the stack with this name from CloudFormation. A first deployment may find none."""

    def __init__(self, name, may_be_missing=False):
        self.name = name
        self.session = boto3.Session()
        if not self.session.region_name:
            raise CommandError("No Region is set. Export AWS_DEFAULT_REGION, such as eu-west-1, or AWS_PROFILE.")
        self.read(may_be_missing)

    def read(self, may_be_missing=False):
        """Reads the outputs and parameters again, as after an update."""
        try:
            found = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            if not may_be_missing:
                raise CommandError(
                    f"There is no stack {self.name} in {self.session.region_name}. Name another with STACK=…"
                ) from None
            found = {}
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        self.parameters = {given["ParameterKey"]: given["ParameterValue"] for given in found.get("Parameters", [])}
        self.tags = found.get("Tags", [])

    def status(self):
        """The state in which the stack is now."""
        return self.cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackStatus"]

    @functools.cached_property
    def cloudformation(self):
        return self.session.client("cloudformation")

    @property
    def function(self):
        return self.outputs["FunctionName"]

    @functools.cached_property
    def functions(self):
        return self.session.client("lambda")

    @functools.cached_property
    def deployments(self):
        return self.session.client("codedeploy")

    @functools.cached_property
    def objects(self):
        return self.session.client("s3")

    @property
    def secrets(self):
        return self.session.client("secretsmanager")
