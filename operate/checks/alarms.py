"""The alarms: their states, the metrics that they watch, and the subscriptions of their topic."""

import datetime

from operate.checks.check import CREATE_AGAIN, check, ok, skip, wrong

ALARMS = ("cloudformation:ListStackResources", "cloudwatch:DescribeAlarms")
# A new alarm has no state until its first evaluation.
FIRST_EVALUATION = datetime.timedelta(minutes=15)
# CloudWatch may know a metric only once it has happened. Then another one, that every request has, stands for it.
PRESENT_WITH = {
    ("AWS/ApiGateway", "5xx"): "Count",
    ("AWS/Lambda", "Errors"): "Invocations",
    ("AWS/Lambda", "Throttles"): "Invocations",
}
# Likewise for this dimension, the outcome of a request: any other outcome stands for it.
CODE = "Code"


@check("alarms", *ALARMS, "cloudwatch:GetMetricStatistics")
def states(deployed):
    gone = set(deployed.of_type("AWS::CloudWatch::Alarm")) - set(deployed.alarms)
    faults = [wrong(f"{name} was deleted outside CloudFormation", CREATE_AGAIN) for name in sorted(gone)]
    for name, alarm in deployed.alarms.items():
        since = f"{alarm['StateUpdatedTimestamp']:%Y-%m-%d %H:%M} UTC"
        if is_on(deployed, alarm):
            faults.append(wrong(f"{name} has been on since {since}", alarm.get("AlarmDescription") or "See the dashboard"))
        elif is_overdue(alarm):
            faults.append(wrong(f"{name} has had no data since {since}", "See the check metrics"))
        elif not alarm.get("ActionsEnabled", True):
            command = f"aws cloudwatch enable-alarm-actions --alarm-names {alarm['AlarmName']}"
            faults.append(wrong(f"the actions of {name} are disabled, so it sends no e-mail", f"Run `{command}`"))
    yield from faults or [ok(f"{len(deployed.alarms)}, none of them on")]


def is_on(deployed, alarm):
    """Whether an alarm asks for attention. One that is about silence has no data then; before the first request, it has none
    either."""
    silent = alarm["StateValue"] == "INSUFFICIENT_DATA" and is_about_silence(alarm)
    return alarm["StateValue"] == "ALARM" or (silent and deployed.last_traffic is not None)


def is_about_silence(alarm):
    return alarm.get("TreatMissingData", "missing") == "missing"


def is_overdue(alarm):
    """Whether an alarm that has data at all times should have a state by now."""
    age = datetime.datetime.now(datetime.UTC) - alarm["StateUpdatedTimestamp"]
    return alarm["StateValue"] == "INSUFFICIENT_DATA" and age > FIRST_EVALUATION and not is_about_silence(alarm)


@check("alarm actions", *ALARMS, "sns:ListSubscriptionsByTopic")
def actions(deployed):
    of_alarms = {name: actions_of(alarm) for name, alarm in deployed.alarms.items()}
    used = set().union(*of_alarms.values())
    if not used and not any(map(deployed.parameters.get, ("AlarmEmail", "AlarmTopicArn"))):
        yield skip("no alarm has a topic: set AlarmEmail or AlarmTopicArn to get messages")
        return
    faults, confirmed = [], []
    silent = [name for name, found in of_alarms.items() if not found]
    if silent:
        remedy = "Restore the alarm's actions in CloudWatch (see drift)"
        faults.append(wrong(f"{', '.join(silent)} has no action, so it sends no e-mail", remedy))
    for topic in sorted(action for action in used if action.split(":")[2] == "sns"):
        subscriptions = subscriptions_of(deployed, topic)
        pending = [found["Endpoint"] for found in subscriptions if not found["SubscriptionArn"].startswith("arn:")]
        confirmed += [found["Endpoint"] for found in subscriptions if found["SubscriptionArn"].startswith("arn:")]
        if pending:
            remedy = "Open the link in AWS's e-mail; look in the spam folder"
            faults.append(wrong(f"{', '.join(pending)} has not confirmed the subscription", remedy))
        elif not subscriptions:
            command = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint ADDRESS"
            faults.append(wrong("the topic of the alarms has no subscription", f"Run `{command}` and confirm it"))
    receivers = f"all alarms are sent to {', '.join(confirmed)}" if confirmed else "all alarms have an action"
    yield from faults or [ok(receivers)]


def actions_of(alarm):
    """The actions of an alarm when it goes off, which is INSUFFICIENT_DATA for one that is about silence."""
    return {*alarm.get("AlarmActions", []), *(alarm.get("InsufficientDataActions", []) if is_about_silence(alarm) else [])}


def subscriptions_of(deployed, topic):
    pages = deployed.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    return [found for page in pages for found in page["Subscriptions"]]


@check("metrics", *ALARMS, "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics")
def metrics(deployed):
    """An alarm on a metric that does not exist never goes off, and CloudWatch does not say so."""
    if deployed.last_traffic is None:
        yield skip("there was no request in the last 13 days, apart from this hour, and without requests there are no metrics")
        return
    watched = {name: list(metrics_of(alarm)) for name, alarm in deployed.alarms.items()}
    known = {metric: exists(deployed, *metric) for metric in {metric for found in watched.values() for metric in found}}
    dead = {name: [metric for metric in found if not known[metric]] for name, found in watched.items()}
    for name, missing in dead.items():
        for namespace, metric, dimensions in missing:
            by = ", ".join(f"{key}={value}" for key, value in dimensions)
            fault = f"{name} watches {metric} of {namespace} by {by}, and CloudWatch has no such metric"
            yield wrong(fault, "If `make logs` shows records, correct the alarm in template.yaml and run `make deploy`")
    if not any(dead.values()):
        yield ok(f"CloudWatch has the {len(known)} metrics that the {len(watched)} alarms watch, as far as they have happened")


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
