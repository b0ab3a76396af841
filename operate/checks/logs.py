"""The log groups of the function and of the API: there, kept as long as the parameter says, and written to."""

import datetime

from operate.checks.check import check, ok, wrong

READ_LOGS = ("cloudformation:ListStackResources", "logs:DescribeLogGroups", "logs:DescribeLogStreams")


def group(deployed, name):
    """A log group by its name, or None."""
    pages = deployed.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=name)
    return next((found for page in pages for found in page["logGroups"] if found["logGroupName"] == name), None)


def last_event(deployed, name):
    """The time of a log group's last event, or None. CloudWatch may be an hour late with it."""
    asked = {"logGroupName": name, "orderBy": "LastEventTime", "descending": True, "limit": 1}
    streams = deployed.client("logs").describe_log_streams(**asked)["logStreams"]
    times = [stream["lastEventTimestamp"] for stream in streams if "lastEventTimestamp" in stream]
    return datetime.datetime.fromtimestamp(times[0] / 1000, datetime.UTC) if times else None


def faults(deployed, found, name):
    """Results on what every log group must have."""
    wanted = deployed.parameter("LogRetentionDays")
    if not found:
        command = f"aws logs create-log-group --log-group-name {name}"
        yield wrong(f"the log group {name} was deleted outside CloudFormation", f"Run `{command}`, then `make doctor` again")
    elif str(found.get("retentionInDays", "")) != wanted:
        kept = f"{found['retentionInDays']} days" if "retentionInDays" in found else "forever"
        command = f"aws logs put-retention-policy --log-group-name {name} --retention-in-days {wanted}"
        yield wrong(f"{name} is kept {kept}, but LogRetentionDays is {wanted}", f"Run `{command}`")


def fact(deployed, found, name):
    last = last_event(deployed, name)
    return f"{'the last line is of ' + format(last, '%Y-%m-%d %H:%M') + ' UTC' if last else 'no line yet'}, kept {found['retentionInDays']} days"


@check(
    "function log",
    *READ_LOGS,
    "lambda:GetAlias",
    "lambda:GetFunction",
    "cloudwatch:GetMetricStatistics",
    "logs:FilterLogEvents",
)
def function_log(deployed):
    name = deployed.physical_id("FunctionLogs")
    found = group(deployed, name)
    results = list(faults(deployed, found, name))
    written = deployed.live["Configuration"].get("LoggingConfig", {}).get("LogGroup")
    if written != name:
        remedy = "Run `make deploy`, because alarms and queries read only the stack's"
        results.append(wrong(f"the live version writes to {written}, not to the stack's {name}", remedy))
    elif found and is_silent(deployed, name, deployed.last_traffic):
        fault = f"the function ran in the hour from {hour(deployed.last_traffic)} on, and no line has arrived since"
        results.append(wrong(fault, "See the check role for logs:PutLogEvents"))
    yield from results or [ok(fact(deployed, found, name))]


def hour(time):
    return f"{time:%Y-%m-%d %H}:00 UTC"


def is_silent(deployed, name, since):
    """Whether a log has no line since this time, if it is kept for that long."""
    kept = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=int(deployed.parameter("LogRetentionDays")))
    if since is None or since < kept:
        return False
    pages = deployed.client("logs").get_paginator("filter_log_events")
    lines = pages.paginate(logGroupName=name, startTime=int(since.timestamp() * 1000), PaginationConfig={"PageSize": 1})
    return next((True for page in lines if page["events"]), None) is None


@check("access log", *READ_LOGS, "apigateway:GET", "cloudwatch:GetMetricStatistics", "logs:FilterLogEvents")
def access_log(deployed):
    name = deployed.physical_id("AccessLogs")
    found = group(deployed, name)
    results = list(faults(deployed, found, name))
    stage = deployed.client("apigatewayv2").get_stage(ApiId=deployed.physical_id("Api"), StageName="$default")
    written = stage.get("AccessLogSettings", {}).get("DestinationArn", "")
    if not written.removesuffix(":*").endswith(f":log-group:{name}"):
        remedy = "Restore the stage's access log (see drift)"
        results.append(wrong(f"the API writes to {written or 'no log'}, not to the stack's {name}", remedy))
    elif found:
        since = deployed.last_hour_with("AWS/ApiGateway", "Count", {"ApiId": deployed.physical_id("Api")})
        if is_silent(deployed, name, since):
            fault = f"the API had requests in the hour from {hour(since)} on, and no line has arrived since"
            remedy = "Save the stage's access log again in the API Gateway console, which also restores its log delivery"
            results.append(wrong(fault, remedy))
    yield from results or [ok(fact(deployed, found, name))]
