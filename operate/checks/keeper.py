"""The keeper, which ends calls at their time: there, scheduled, running, allowed to, and heard."""

import datetime
import json

import botocore.exceptions

from operate import keeper
from operate.checks import logs
from operate.checks.check import Missing, check, is_gone, ok, skip, wrong
from operate.checks.role import SIMULATE, judged, log_needs, secret_needs, trace_needs
from operate.checks.settings import differences, machine

# The time in which the rounds are counted. CloudWatch may be some minutes late with the last of them.
WINDOW = datetime.timedelta(minutes=15)
# Fewer rounds than that in the time are too few: one a minute is due.
LEAST_ROUNDS = 8
# The rule in template.yaml. PutRule clears a description that is not given.
SCHEDULE, DESCRIPTION = "rate(1 minute)", "A round of the keeper each minute."
EVERY_CALL = "Until then, calls do not end at their time: run `make pause`, or end them with `make hang-up ALL=yes`"


def name_of(deployed):
    """The keeper's name. A stack without calls, or of an earlier release, has no keeper."""
    if keeper.OUTPUT not in deployed.outputs:
        raise Missing("this stack has no calls: Endpoints is token, or it was deployed from an earlier release")
    return deployed.outputs[keeper.OUTPUT]


def found(deployed):
    """The keeper's configuration and code."""
    return deployed.version_of(name_of(deployed), "$LATEST")


@check(
    "keeper",
    "lambda:GetFunction",
    "lambda:GetFunctionConcurrency",
    "cloudformation:GetTemplate",
    "cloudformation:ListStackResources",
)
def exists(deployed):
    name, function = name_of(deployed), found(deployed)
    configuration, built = function["Configuration"], machine(function["Code"]["Location"])
    architecture = configuration.get("Architectures", ["x86_64"])[0]
    declared = deployed.template["Resources"]["KeeperFunction"]["Properties"]["Environment"]["Variables"]
    differing = differences(deployed, declared, configuration)
    reserved = deployed.client("lambda").get_function_concurrency(FunctionName=name).get("ReservedConcurrentExecutions")
    if configuration.get("State", "Active") == "Failed":
        yield wrong(f"{name} cannot run: {configuration.get('StateReason', 'AWS gives no reason')}", "Run `make deploy`")
    elif reserved == 0:
        command = f"aws lambda delete-function-concurrency --function-name {name}"
        yield wrong("its reserved concurrency is 0, so it never runs", f"Run `{command}`")
    elif built != architecture:
        yield wrong(f"it runs on {architecture}, but its program is {built}", "Run `make build` and `make deploy`")
    elif differing:
        yield wrong(f"it differs from the stack's parameters: {', '.join(differing)}", "Run `make deploy`")
    else:
        yield ok(f"{name}, with the {len(declared)} variables that the parameters set")


@check(
    "keeper schedule",
    "cloudformation:ListStackResources",
    "events:DescribeRule",
    "events:ListTargetsByRule",
    "lambda:GetPolicy",
)
def schedule(deployed):
    name, rule = name_of(deployed), deployed.physical_id("KeeperSchedule")
    described = deployed.client("events").describe_rule(Name=rule)
    targets = deployed.client("events").list_targets_by_rule(Rule=rule)["Targets"]
    own = deployed.arn("lambda", f"function:{name}")
    if described["State"] != "ENABLED":
        yield wrong(f"the rule {rule} is disabled", f"Run `aws events enable-rule --name {rule}`. {EVERY_CALL}")
    elif described.get("ScheduleExpression") != SCHEDULE:
        fault = f"the rule {rule} has the schedule {described.get('ScheduleExpression')}, not {SCHEDULE}"
        command = f"aws events put-rule --name {rule} --schedule-expression '{SCHEDULE}' --description '{DESCRIPTION}'"
        yield wrong(fault, f"Run `{command}`. {EVERY_CALL}")
    elif [target["Arn"] for target in targets] != [own]:
        command = f"aws events put-targets --rule {rule} --targets Id=keeper,Arn={own}"
        yield wrong(f"the keeper is not the only target of the rule {rule}", f"Run `{command}`. {EVERY_CALL}")
    elif not may_be_invoked(deployed, name, described["Arn"]):
        command = (
            f"aws lambda add-permission --function-name {name} --statement-id schedule --action lambda:InvokeFunction "
            f"--principal events.amazonaws.com --source-arn {described['Arn']}"
        )
        yield wrong("the rule lacks the permission to invoke the keeper", f"Run `{command}`. {EVERY_CALL}")
    else:
        yield ok("a round each minute")


def may_be_invoked(deployed, name, rule):
    """Whether the keeper's own policy lets the rule invoke it."""
    try:
        policy = json.loads(deployed.client("lambda").get_policy(FunctionName=name)["Policy"])
    except botocore.exceptions.ClientError as error:
        if not is_gone(error):
            raise
        return False
    return any(
        statement["Effect"] == "Allow"
        and statement["Principal"] == {"Service": "events.amazonaws.com"}
        and statement.get("Condition", {}).get("ArnLike", {}).get("AWS:SourceArn") == rule
        for statement in policy["Statement"]
    )


def total(deployed, namespace, metric, statistic):
    """The sum or the maximum of a metric of the keeper within the last minutes; 0 without data."""
    now = datetime.datetime.now(datetime.UTC)
    points = deployed.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": name_of(deployed)}],
        StartTime=now - WINDOW,
        EndTime=now,
        Period=60,
        Statistics=[statistic],
    )["Datapoints"]
    return int({"Sum": sum, "Maximum": max}[statistic]([point[statistic] for point in points] or [0]))


def is_new(deployed):
    """Whether the stack was changed so recently that the keeper may not have run for the whole time."""
    changed = deployed.stack.get("LastUpdatedTime") or deployed.stack["CreationTime"]
    return datetime.datetime.now(datetime.UTC) - changed < WINDOW + datetime.timedelta(minutes=5)


@check("keeper rounds", "cloudformation:ListStackResources", "cloudwatch:GetMetricStatistics")
def rounds(deployed):
    """What the schedule has started, and how it ended."""
    name = name_of(deployed)
    minutes = int(WINDOW.total_seconds() // 60)
    ran, failed = (total(deployed, "AWS/Lambda", metric, "Sum") for metric in ("Invocations", "Errors"))
    log = deployed.physical_id("KeeperLogs")
    if ran < LEAST_ROUNDS and is_new(deployed):
        yield skip(f"{ran} in {minutes} minutes: the stack was changed a moment ago. Run it again later.")
    elif ran < LEAST_ROUNDS:
        yield wrong(f"{name} ran {ran} times in {minutes} minutes, and not each minute", f"See the checks above. {EVERY_CALL}")
    elif failed:
        fault = f"{failed} of {ran} rounds failed in {minutes} minutes"
        yield wrong(fault, f"Read the end of its log: `aws logs tail {log}`. {EVERY_CALL}")
    else:
        yield ok(f"{ran} in {minutes} minutes, and none failed")


@check("outlived calls", "cloudwatch:GetMetricStatistics")
def outlived(deployed):
    name_of(deployed)
    number = total(deployed, "TokenMint", "CallsOutlived", "Maximum")
    if number:
        remedy = "Run `make hang-up ALL=yes`, which says why calls cannot be ended"
        yield wrong(f"{keeper.counted(number)} lasted longer than 2 minutes beyond the end", remedy)
    else:
        yield ok("no call outlived its end in the last 15 minutes")


@check(
    "keeper role",
    "lambda:GetFunction",
    "cloudformation:ListStackResources",
    "secretsmanager:DescribeSecret",
    SIMULATE,
)
def role(deployed):
    arn, own = found(deployed)["Configuration"]["Role"], deployed.physical_id("KeeperRole")
    if arn.rpartition("/")[2] != own:
        yield wrong(f"the keeper runs under {arn}, not under the stack's {own}", "Run `make deploy`")
        return
    table = deployed.arn("dynamodb", f"table/{deployed.physical_id('QuotaTable')}")
    needs = [
        *secret_needs(deployed),
        (table, ["dynamodb:GetItem", "dynamodb:UpdateItem"], {}),
        log_needs(deployed, "KeeperLogs"),
        *trace_needs(deployed),
    ]
    yield from judged(deployed, arn, needs, "the keeper")


@check("keeper log", *logs.READ_LOGS, "lambda:GetFunction", "cloudwatch:GetMetricStatistics", "logs:FilterLogEvents")
def log(deployed):
    keeper_name, name = name_of(deployed), deployed.physical_id("KeeperLogs")
    group = logs.group(deployed, name)
    results = list(logs.faults(deployed, group, name))
    written = found(deployed)["Configuration"].get("LoggingConfig", {}).get("LogGroup")
    since = deployed.last_hour_with("AWS/Lambda", "Invocations", {"FunctionName": keeper_name})
    if written != name:
        results.append(wrong(f"the keeper writes to {written}, not to the stack's {name}", "Run `make deploy`"))
    elif group and logs.is_silent(deployed, name, since):
        fault = f"the keeper ran in the hour from {logs.hour(since)} on, and no line has arrived since"
        results.append(wrong(fault, "See the check keeper role for logs:PutLogEvents"))
    yield from results or [ok(logs.fact(deployed, group, name))]
