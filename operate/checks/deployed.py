"""A deployed stack as the checks see it: what one check has read from AWS, the others do not read again."""

import datetime
import functools
import json

import botocore.client
import botocore.exceptions

from operate import account, secret, stack
from operate.checks.check import Missing, is_gone
from operate.error import CommandError
from operate.versions import ALIAS, recorded_version

# No check waits longer than that for one answer of AWS.
PATIENCE = botocore.client.Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3})

# CloudWatch shows a new metric after up to 15 minutes, and lists a metric for 14 days after its last value.
METRIC_DELAY = datetime.timedelta(minutes=15)
METRIC_DAYS = datetime.timedelta(days=13)

UNREADABLE = "the secret cannot be read: see secret"


class Deployed:
    def __init__(self, environment):
        self.environment = environment
        self.name = environment.stack
        self.session = account.session(environment)
        self.stack = stack.existing(self.session, self.name)
        self.outputs = stack.outputs(self.stack)
        self.parameters = stack.parameters(self.stack)
        # Why the API could not be reached, once a check has tried.
        self.unreachable = None
        self.client = functools.cache(functools.partial(self.session.client, config=PATIENCE))

    def output(self, name):
        if name not in self.outputs:
            raise Missing(f"the stack has no output {name}")
        return self.outputs[name]

    def parameter(self, name):
        if name not in self.parameters:
            raise Missing(f"the stack has no parameter {name}: it was deployed from another template")
        return self.parameters[name]

    def listed(self, name):
        """The values of a parameter that is a list."""
        return [value.strip() for value in self.parameter(name).split(",") if value.strip()]

    # --- CloudFormation -----------------------------------------------------------------------------------------------

    def describe(self, stack):
        return self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]

    @property
    def is_in_progress(self):
        return self.stack["StackStatus"].endswith("_IN_PROGRESS")

    @functools.cached_property
    def resources(self):
        """The stack's resources by their names in the template."""
        return self.resources_of(self.name)

    @functools.cached_property
    def all_resources(self):
        """The resources of the stack and of its nested stacks by their names in the templates."""
        found = dict(self.resources)
        for nested in self.of_type("AWS::CloudFormation::Stack").values():
            found |= self.resources_of(nested)
        return found

    def resources_of(self, stack):
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        return {found["LogicalResourceId"]: found for page in pages for found in page["StackResourceSummaries"]}

    def of_type(self, kind, nested=False):
        """The IDs of all resources of a type, by their names in the template; with those of nested stacks if asked for."""
        return {
            name: found["PhysicalResourceId"]
            for name, found in (self.all_resources if nested else self.resources).items()
            if found["ResourceType"] == kind and found.get("PhysicalResourceId")
        }

    def physical_id(self, name):
        found = self.resources.get(name, {}).get("PhysicalResourceId")
        if not found:
            raise Missing(f"the stack has no resource {name}")
        return found

    def arn(self, service, resource):
        """The ARN of a resource in the stack's own partition, Region and account."""
        _, partition, _, region, account, _ = self.stack["StackId"].split(":", 5)
        return f"arn:{partition}:{service}:{region}:{account}:{resource}"

    @functools.cached_property
    def template(self):
        """The template that is deployed, as CloudFormation has it after SAM's transform."""
        body = self.client("cloudformation").get_template(StackName=self.name, TemplateStage="Processed")["TemplateBody"]
        return json.loads(body) if isinstance(body, str) else body

    @functools.cached_property
    def drift_detections(self):
        """The IDs of the drift detections of the stack and its nested stacks, started now, since each takes a while."""
        start = self.client("cloudformation").detect_stack_drift
        stacks = [self.stack["StackId"], *self.of_type("AWS::CloudFormation::Stack").values()]
        return {stack: start(StackName=stack)["StackDriftDetectionId"] for stack in stacks}

    # --- Lambda -------------------------------------------------------------------------------------------------------

    @property
    def function(self):
        return self.output("FunctionName")

    @functools.cached_property
    def alias(self):
        return self.client("lambda").get_alias(FunctionName=self.function, Name=ALIAS)

    @functools.cached_property
    def live(self):
        """Configuration and code of the live version."""
        try:
            return self.version(self.alias["FunctionVersion"])
        except botocore.exceptions.ClientError as error:
            if is_gone(error):
                raise Missing("there is no live version: see live version") from None
            raise

    def version(self, number):
        return self.version_of(self.function, number)

    @functools.cache  # noqa: B019, the object lives as long as its command
    def version_of(self, function, number):
        """Configuration and code of one version of a function."""
        return self.client("lambda").get_function(FunctionName=function, Qualifier=number)

    @property
    def recorded_version(self):
        """The number of the version that the stack's last deployment published, as text."""
        found = recorded_version(self.resources.values(), self.parameters)
        if found is None:
            raise Missing("the stack has no published version")
        return str(found)

    @functools.cached_property
    def reserved_concurrency(self):
        """How many mints may run at once; None if only the account's limit applies."""
        found = self.client("lambda").get_function_concurrency(FunctionName=self.function)
        return found.get("ReservedConcurrentExecutions")

    @functools.cached_property
    def last_traffic(self):
        """The beginning of the last hour with an invocation that CloudWatch surely knows, or None."""
        return self.last_hour_with("AWS/Lambda", "Invocations", {"FunctionName": self.function})

    def last_hour_with(self, namespace, metric, dimensions):
        """The beginning of the last hour in which a metric was above 0, as far as CloudWatch surely knows it, or None."""
        now = datetime.datetime.now(datetime.UTC)
        end = (now - METRIC_DELAY).replace(minute=0, second=0, microsecond=0)
        found = self.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=end - METRIC_DAYS,
            EndTime=end,
            Period=3600,
            Statistics=["Sum"],
        )["Datapoints"]
        return max((point["Timestamp"] for point in found if point["Sum"] > 0), default=None)

    # --- the secret ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def secret_text(self):
        """The secret as it is stored; None if it is binary."""
        return self.client("secretsmanager").get_secret_value(SecretId=self.output("SecretArn")).get("SecretString")

    @functools.cached_property
    def secret_fields(self):
        """The fields of the secret."""
        try:
            return secret.parse(self.secret_text)
        except (botocore.exceptions.ClientError, CommandError):
            raise Missing(UNREADABLE) from None

    @functools.cached_property
    def secret_description(self):
        return self.client("secretsmanager").describe_secret(SecretId=self.output("SecretArn"))

    # --- CloudWatch ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def alarm_names(self):
        """The names of the stack's alarms and of those in nested stacks, by their names in the templates."""
        names = self.of_type("AWS::CloudWatch::Alarm", nested=True)
        if not names:
            raise Missing("the stack has no alarms")
        return names

    @functools.cached_property
    def alarms(self):
        """The alarms that exist in CloudWatch, by their names in the templates."""
        names = self.alarm_names
        pages = self.client("cloudwatch").get_paginator("describe_alarms").paginate(AlarmNames=list(names.values()))
        found = {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}
        return {name: found[physical] for name, physical in names.items() if physical in found}
