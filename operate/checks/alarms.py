"""The alarms: their states, the metrics that they watch, and the subscriptions of their topic."""

import datetime

import botocore.exceptions

from operate import keeper
from operate.checks.check import CREATE_AGAIN, check, is_gone, ok, skip, wrong

ALARMS = ("cloudformation:ListStackResources", "cloudwatch:DescribeAlarms")
# A new alarm has no state until its first evaluation.
FIRST_EVALUATION = datetime.timedelta(minutes=15)
# CloudWatch may know a metric only once it has happened. Then another one, that every request has, stands for it.
PRESENT_WITH = {
    ("AWS/ApiGateway", "5xx"): "Count",
    ("AWS/CodeBuild", "FailedBuilds"): "Builds",
    ("AWS/Lambda", "Errors"): "Invocations",
    ("AWS/Lambda", "Throttles"): "Invocations",
}
# Likewise for this dimension, the outcome of a request: any other outcome stands for it.
CODE = "Code"
# The namespace of the pipeline's metrics, which exist only after a push.
BUILDS = "AWS/CodeBuild"
RESTORE = "Restore the alarm's actions in CloudWatch (see drift)"
DELETED = "all alarms were deleted: see alarms"


@check("alarms", *ALARMS, "cloudwatch:GetMetricStatistics")
def states(deployed):
    gone = set(deployed.alarm_names) - set(deployed.alarms)
    faults = [wrong(f"{name} was deleted outside CloudFormation", CREATE_AGAIN) for name in sorted(gone)]
    for name, alarm in deployed.alarms.items():
        since = f"{alarm['StateUpdatedTimestamp']:%Y-%m-%d %H:%M} UTC"
        if is_overdue(alarm):
            place = "keeper rounds" if watches_keeper(deployed, alarm) else "metrics"
            faults.append(wrong(f"{name} has had no data since {since}", f"See the check {place}"))
        elif is_on(deployed, alarm):
            faults.append(wrong(f"{name} has been on since {since}", alarm.get("AlarmDescription") or "See the dashboard"))
        elif not alarm.get("ActionsEnabled", True):
            command = f"aws cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}"
            faults.append(wrong(f"the actions of {name} are disabled, so it sends no e-mail", f"Run `{command}`"))
    yield from faults or [ok(f"{len(deployed.alarms)}, none of them on")]


def is_on(deployed, alarm):
    """Whether an alarm needs attention. An alarm about silence has no data then; before the first request, it has none either. An
    alarm that also reports missing data, as when the keeper stops, needs attention without data, except just after it was made."""
    if alarm["StateValue"] != "INSUFFICIENT_DATA":
        return alarm["StateValue"] == "ALARM"
    if is_about_silence(alarm):
        return deployed.last_traffic is not None
    made = alarm.get("AlarmConfigurationUpdatedTimestamp", alarm["StateUpdatedTimestamp"])
    return needs_data(alarm) and datetime.datetime.now(datetime.UTC) - made > FIRST_EVALUATION


def needs_data(alarm):
    """Whether missing data leaves the alarm INSUFFICIENT_DATA, which the template sets for a metric that is always reported."""
    return alarm.get("TreatMissingData", "missing") == "missing"


def is_about_silence(alarm):
    """Whether the lack of data is what the alarm is about. One on a number that is reported each minute has data at all times."""
    return needs_data(alarm) and alarm["ComparisonOperator"].startswith("LessThan")


def is_overdue(alarm):
    """Whether an alarm that has data at all times should have a state by now."""
    age = datetime.datetime.now(datetime.UTC) - alarm["StateUpdatedTimestamp"]
    return alarm["StateValue"] == "INSUFFICIENT_DATA" and age > FIRST_EVALUATION and not is_about_silence(alarm)


def watches_keeper(deployed, alarm):
    """Whether the alarm is on a number that the keeper reports."""
    names = [value for _, _, dimensions in metrics_of(alarm) for key, value in dimensions if key == "FunctionName"]
    return bool(names) and all(name == deployed.outputs.get(keeper.OUTPUT) for name in names)


@check("alarm actions", *ALARMS, "sns:ListSubscriptionsByTopic")
def actions(deployed):
    of_alarms = {name: actions_of(alarm) for name, alarm in deployed.alarms.items()}
    if not of_alarms:
        yield skip(DELETED)
        return
    topics = topics_of(deployed)
    if not topics and not any(of_alarms.values()):
        yield skip("no alarm has a topic: set AlarmEmail or AlarmTopicArn to get messages")
        return
    misdirected = [wrong(f"{', '.join(names)} {fault}", RESTORE) for fault, names in other_actions(of_alarms, topics).items()]
    # Before the topics are asked, so that a permission which is missing hides none of these.
    yield from misdirected
    subscriptions = {topic: subscriptions_of(deployed, topic) for topic in sorted(topics)}
    unheard = [fault for topic, found in subscriptions.items() if (fault := fault_of(deployed, topic, found))]
    yield from unheard
    if not misdirected and not unheard:
        addresses = [found["Endpoint"] for of_topic in subscriptions.values() for found in of_topic]
        yield ok(f"all alarms are sent to {', '.join(addresses)}")


def topics_of(deployed):
    """The topics that the parameters send alarms to."""
    own = {deployed.physical_id("AlarmTopic")} if deployed.parameters.get("AlarmEmail") else set()
    return own | {arn for arn in [deployed.parameters.get("AlarmTopicArn")] if arn}


def other_actions(of_alarms, topics):
    """The names of the alarms with other actions than these topics, by the clause that says how they differ."""
    found = {}
    for name, actions in of_alarms.items():
        if topics and not actions:
            found.setdefault("has no action, so it sends no e-mail", []).append(name)
            continue
        for topic in sorted(topics - actions):
            found.setdefault(f"is not sent to {topic}", []).append(name)
        for action in sorted(actions - topics):
            found.setdefault(f"is sent to {action}, which is not from the parameters", []).append(name)
    return found


def actions_of(alarm):
    """The actions of an alarm when it goes off, which is INSUFFICIENT_DATA for one that is about silence."""
    return {*alarm.get("AlarmActions", []), *(alarm.get("InsufficientDataActions", []) if is_about_silence(alarm) else [])}


def subscriptions_of(deployed, topic):
    """The subscriptions of a topic, or None if it does not exist."""
    pages = deployed.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    try:
        return [found for page in pages for found in page["Subscriptions"]]
    except botocore.exceptions.ClientError as error:
        if not is_gone(error):
            raise
        return None


def fault_of(deployed, topic, subscriptions):
    """The result on a topic that does not reach everyone, or None."""
    if subscriptions is None:
        by_parameter = topic == deployed.parameters.get("AlarmTopicArn")
        remedy = "Create it, or run `make set` with another AlarmTopicArn" if by_parameter else CREATE_AGAIN
        return wrong(f"the topic {topic} does not exist", remedy)
    pending = [found["Endpoint"] for found in subscriptions if not found["SubscriptionArn"].startswith("arn:")]
    if pending:
        remedy = "Open the link in AWS's e-mail; look in the spam folder"
        return wrong(f"{', '.join(pending)} has not confirmed the subscription", remedy)
    if not subscriptions:
        command = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint ADDRESS"
        return wrong("the topic of the alarms has no subscription", f"Run `{command}` and confirm it")
    return None


@check("metrics", *ALARMS, "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics")
def metrics(deployed):
    """An alarm on a metric that does not exist never goes off, and CloudWatch does not say so."""
    if deployed.last_traffic is None:
        yield skip("there was no request in the last 13 days, apart from this hour, and without requests there are no metrics")
        return
    if not deployed.alarms:
        yield skip(DELETED)
        return
    watched = {name: list(metrics_of(alarm)) for name, alarm in deployed.alarms.items()}
    if not has_built(deployed):
        watched = {name: [metric for metric in found if metric[0] != BUILDS] for name, found in watched.items()}
    if not has_kept(deployed):
        watched = {name: [] if watches_keeper(deployed, deployed.alarms[name]) else found for name, found in watched.items()}
    known = {metric: exists(deployed, *metric) for metric in {metric for found in watched.values() for metric in found}}
    dead = {name: [metric for metric in found if not known[metric]] for name, found in watched.items()}
    for name, missing in dead.items():
        for namespace, metric, dimensions in missing:
            by = ", ".join(f"{key}={value}" for key, value in dimensions)
            fault = f"{name} watches {metric} of {namespace} by {by}, and CloudWatch has no such metric"
            yield wrong(fault, "If `make logs` shows records, correct the alarm in template.yaml and run `make deploy`")
    if not any(dead.values()):
        yield ok(f"CloudWatch has the {len(known)} metrics that the {len(watched)} alarms watch, as far as they have happened")


def has_built(deployed):
    """Whether the pipeline has built within the time for which CloudWatch lists metrics."""
    projects = deployed.of_type("AWS::CodeBuild::Project", nested=True).values()
    return any(exists(deployed, BUILDS, "Builds", (("ProjectName", project),)) for project in projects)


def has_kept(deployed):
    """Whether the keeper ran so long ago that CloudWatch surely knows its metrics."""
    name = deployed.outputs.get(keeper.OUTPUT)
    return name is not None and deployed.last_hour_with("AWS/Lambda", "Invocations", {"FunctionName": name}) is not None


def metrics_of(alarm):
    """Each metric that an alarm watches: namespace, name, and dimensions."""
    stats = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    for metric in stats or [alarm]:
        dimensions = tuple((found["Name"], found["Value"]) for found in metric.get("Dimensions", []))
        yield metric["Namespace"], metric["MetricName"], dimensions


def exists(deployed, namespace, metric, dimensions):
    """Whether CloudWatch has a metric, or the one that stands for it, with exactly these dimensions."""
    metric = PRESENT_WITH.get((namespace, metric), metric)
    wanted = [{"Name": name} if name == CODE else {"Name": name, "Value": value} for name, value in dimensions]
    pages = deployed.client("cloudwatch").get_paginator("list_metrics")
    found = pages.paginate(Namespace=namespace, MetricName=metric, Dimensions=wanted).search("Metrics[]")
    names = {name for name, _ in dimensions}
    return any({dimension["Name"] for dimension in one["Dimensions"]} == names for one in found)
