"""A deployed stack: its outputs, its parameters, and the AWS services that it is made of."""

import boto3
import botocore.exceptions

from operate.error import CommandError


class Stack:
    """Reads the stack with this name from CloudFormation."""

    def __init__(self, name):
        self.name = name
        self.session = boto3.Session()
        if not self.session.region_name:
            raise CommandError("No Region is set. Export AWS_DEFAULT_REGION, such as eu-west-1, or AWS_PROFILE.")
        try:
            found = self.session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise CommandError(f"There is no stack {name} in {self.session.region_name}. Name another with STACK=…") from None
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        self.parameters = {given["ParameterKey"]: given["ParameterValue"] for given in found.get("Parameters", [])}

    @property
    def function(self):
        return self.outputs["FunctionName"]

    @property
    def functions(self):
        return self.session.client("lambda")

    @property
    def secrets(self):
        return self.session.client("secretsmanager")
