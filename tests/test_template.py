"""The template by itself: linters report no findings, and it agrees with the code and the Makefile.

Permissions, throttling, CORS and gradual deployments are checked here, because the stand-in of AWS does not enforce them."""

import hashlib
import itertools
import json
import pathlib
import re
import subprocess
import tomllib

import cfnlint
import pytest
from alarms import Alarm
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN, post
from evaluated import Evaluated
from samtranslator.yaml_helper import yaml_parse
from test_pipeline import statements

from docs import permissions
from estimate.description import CODES, KEEPER_METRICS, METRICS, VARIABLES

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
SOURCE = (ROOT / "template.yaml").read_text()
DASHBOARD = yaml_parse((ROOT / "infra/dashboard.yaml").read_text())

# The metrics that AWS itself publishes (developer guides: "Working with HTTP API metrics", "Types of metrics for Lambda").
AWS_METRICS = {
    **{("AWS/ApiGateway", name): {"ApiId"} for name in ("4xx", "5xx", "Count", "Latency", "IntegrationLatency")},
    **{("AWS/Lambda", name): {"FunctionName"} for name in ("Errors", "Throttles", "ConcurrentExecutions", "Invocations")},
}


def run(*command):
    environment = TOOLCHAIN | NO_AWS_ACCOUNT | {"SAM_CLI_TELEMETRY": "0"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


# The metrics of calls in the records of the function and of the keeper, by FunctionName.
CALL_METRICS = {
    "MintFunction": {metric["name"] for metric in METRICS if metric["calls_only"]},
    "KeeperFunction": {metric["name"] for metric in KEEPER_METRICS},
}


def tool(name, environment="tools"):
    return str(ROOT / f".venv/{environment}/bin/{name}")


def test_sam_reports_no_findings():
    validated = run(tool("sam"), "validate", "--lint")
    assert validated.returncode == 0, validated.stdout + validated.stderr


# The schema of each resource type in each Region, as cfn-lint ships them; Regions with the same schemas share a file's name.
PROVIDERS = pathlib.Path(cfnlint.__file__).parent / "data/schemas/providers"
SCHEMAS = {file.stem: json.loads(file.read_text()) for file in PROVIDERS.glob("*-*-*.json")}
TEMPLATES = ["template.yaml", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "infra").glob("*.yaml")))]


def complete_regions(types):
    """From each Region that has all these types to its schemas of them."""
    return {region: tuple(map(found.get, types)) for region, found in SCHEMAS.items() if set(types) <= set(found)}


def one_of_each(complete):
    """One Region for each set of schemas: of the others, cfn-lint says the same."""
    return {schemas: region for region, schemas in complete.items()}.values()


@pytest.mark.parametrize("name", TEMPLATES)
def test_cfn_lint_reports_no_findings_in_any_region_with_these_services(name, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    resources = yaml_parse((ROOT / name).read_text())["Resources"]
    if name == "template.yaml":
        resources = resources | transformed("Canary10Percent5Minutes")
    types = sorted({found["Type"] for found in resources.values() if "::Serverless::" not in found["Type"]})
    complete = complete_regions(types)
    lacking = {kind for found in SCHEMAS.values() for kind in types if kind not in found}
    assert lacking <= {"AWS::Budgets::Budget", "AWS::CodeBuild::Project"}, "docs/operating.md names what some Regions lack"
    assert not lacking or name != "template.yaml", "a type that a Region lacks fails the whole template there"
    assert len(complete) > (20 if name == "infra/budget.yaml" else 40)
    chosen = one_of_each(complete)
    linted = run(tool("cfn-lint"), "--append-rules", "cfn_lint_serverless.rules", "--regions", *chosen, "--template", name)
    assert linted.returncode == 0, linted.stdout


def test_cfn_lint_reports_no_findings_in_what_sam_makes_of_a_gradual_deployment(tmp_path, monkeypatch):
    """cfn-lint transforms the template with the parameters' defaults, without CodeDeploy's resources."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    resources = transformed("Canary10Percent5Minutes")
    kinds = sorted({found["Type"] for found in resources.values()})
    assert {"AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"} <= set(kinds)
    assert "CodeDeployLambdaAliasUpdate" in resources["MintFunctionAliaslive"]["UpdatePolicy"]

    template = {part: text for part, text in TEMPLATE.items() if part != "Transform"} | {"Resources": resources}
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template, default=str))
    # SAM's transform, and the nested stacks, which are left out, use the other parameters, mappings and conditions.
    unused = ("--ignore-checks", "W2001", "W7001", "W8001")
    chosen = one_of_each(complete_regions(kinds))
    linted = run(tool("cfn-lint"), "--regions", *chosen, "--template", str(file), *unused)
    assert linted.returncode == 0, linted.stdout


def texts(node):
    """Every text in a template, however deep."""
    if isinstance(node, str):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from texts(inner)


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_arn_and_no_host_belongs_to_one_partition(name):
    template = yaml_parse((ROOT / name).read_text())
    for text in texts([template["Resources"], template.get("Outputs", {})]):
        assert set(re.findall(r"\barn:(\$\{.*?\}|[^:\s]*)", text)) <= {"${AWS::Partition}"}, text
        # A service's principal is the same in every partition.
        assert "amazonaws.com" not in text or re.fullmatch(r"[a-z]+\.amazonaws\.com", text), text


def test_checkov_reports_no_findings_beyond_the_explained_exceptions():
    scanned = run(
        tool("checkov", "checkov"), "--framework", "cloudformation", "--skip-download", "--quiet", "--output", "json",
        "--file", "template.yaml", *map(str, sorted((ROOT / "infra").glob("*.yaml"))),
    )  # fmt: skip
    report = json.loads(scanned.stdout)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert failed == [] and report["summary"]["passed"] > 10
    assert report["summary"]["parsing_errors"] == 0


def test_the_template_sets_exactly_the_variables_of_the_function():
    assert set(RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"]) == set(VARIABLES)


def test_parameters_and_outputs_are_described_and_parameters_are_used():
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name for group in groups for name in group["Parameters"]] == list(TEMPLATE["Parameters"])
    for name, parameter in TEMPLATE["Parameters"].items():
        assert len(parameter["Description"]) > 40 and "Default" in parameter, name
        if parameter["Default"] == "" and name not in ("Repository",):
            assert re.search(r"\bEmpty\b", parameter["Description"]), f"{name}: the description must explain the empty value"
        assert re.search(rf"!Ref {name}\b|\${{{name}}}", SOURCE), f"{name} is not used"
    for output in TEMPLATE["Outputs"].values():
        assert len(output["Description"]) > 20


@pytest.fixture
def log(in_lambda, simulator, aws):
    """All lines that the release binary logs at DEBUG: of a mint, and of a refusal by OpenAI."""
    endpoint, session = aws
    table = {name: RESOURCES["QuotaTable"]["Properties"][name] for name in ("AttributeDefinitions", "KeySchema", "BillingMode")}
    session.client("dynamodb", endpoint_url=endpoint).create_table(TableName="quotas", **table)
    program, invoke = in_lambda(
        OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_API_KEY="sk-test", QUOTA_TABLE="quotas", AWS_ENDPOINT_URL_DYNAMODB=endpoint,
        LOG_LEVEL="DEBUG",
    )  # fmt: skip
    event = (ROOT / "function/events/http-api.json").read_bytes()
    invoke(event)
    post(f"{simulator}/simulator/faults", b'{"fault": "not-found"}')
    invoke(event)
    return [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def records(log):
    """Real records, with all that they can contain."""
    minted, refused = [line for line in log if "_aws" in line]
    assert (minted["Code"], refused["Code"]) == ("ok", "openai_rejected_session")
    spans = [line["span"]["requestId"] for line in log if "span" in line]
    assert {minted["requestId"], refused["requestId"]} == set(spans), "DEBUG lines are of a request"
    return minted, refused


# Lambda's own names, from the most detailed to the least (its API reference, "LoggingConfig").
APPLICATION_LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]


def level_in_lambda(line):
    """The level that Lambda takes a line for ("Log-level filtering"): INFO without a valid level and an RFC 3339 timestamp."""
    stated = str(line.get("level")).upper()
    stamped = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", str(line.get("timestamp")))
    return stated if stamped and stated in APPLICATION_LEVELS else "INFO"


def test_lambda_drops_no_line_that_the_function_logs(log):
    logging = RESOURCES["MintFunction"]["Properties"]["LoggingConfig"]
    assert logging["LogFormat"] == "JSON"
    least = APPLICATION_LEVELS.index(logging.get("ApplicationLogLevel", "INFO"))
    dropped = [line for line in log if APPLICATION_LEVELS.index(level_in_lambda(line)) < least]
    assert not dropped, f"Lambda drops {len(dropped)} of {len(log)} lines"
    assert {level_in_lambda(line) for line in log if "_aws" not in line} >= {"DEBUG"}, "DEBUG lines state their level and time"
    assert {level_in_lambda(line) for line in log if "_aws" in line} == {"INFO"}
    for level in TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"]:
        assert APPLICATION_LEVELS.index(level) >= least, f"LogLevel={level} would show nothing more"


def test_lambda_writes_the_platform_lines_that_the_bill_counts():
    """At WARN there is no platform.start, and a platform.report of failures only; DEBUG adds further lines."""
    assert RESOURCES["MintFunction"]["Properties"]["LoggingConfig"]["SystemLogLevel"] == "INFO"
    assert "platform.start and platform.report" in (ROOT / "estimate/cost.py").read_text()


def published_by_the_function(records):
    """The namespace, metric and dimensions in the function's records."""
    for record in records:
        for directive in record["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                for dimensions in directive["Dimensions"]:
                    yield (directive["Namespace"], metric["Name"]), set(dimensions)


def metrics_of_alarms():
    for name, resource in RESOURCES.items():
        if resource["Type"] != "AWS::CloudWatch::Alarm":
            continue
        alarm = resource["Properties"]
        metrics = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query] or [alarm]
        for metric in metrics:
            values = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
            yield name, (metric["Namespace"], metric["MetricName"]), values


def dashboard():
    """The dashboard's body with a value for each parameter, and with calls."""
    body, more = DASHBOARD["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    condition, widgets, without = more["CallWidgets"]["Fn::If"]
    assert (condition, without) == ("HasCalls", "")
    body = body.replace("${CallWidgets}", widgets["Fn::Sub"])
    names = [*DASHBOARD["Parameters"], "AWS::Region"]
    for name in names:
        body = body.replace(f"${{{name}}}", "1" if name == "MintsPerMinuteAlarm" else f"<{name}>")
    assert "${" not in body.replace("${!", "")
    return json.loads(body)


def metrics_of_the_dashboard():
    for widget in dashboard()["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], str):
                namespace, name, *rest = [part for part in metric if isinstance(part, str)]
                yield widget["properties"]["title"], (namespace, name), dict(zip(rest[::2], rest[1::2], strict=True))
            else:
                search = re.search(r"{(\w+),([\w,]+)} MetricName=\"(\w+)\"", metric[0]["expression"])
                yield widget["properties"]["title"], (search[1], search[3]), dict.fromkeys(search[2].split(","), None)


def test_every_alarm_and_widget_uses_a_metric_and_dimensions_that_are_published(records):
    of_calls = [(("TokenMint", name), {"FunctionName"}) for names in CALL_METRICS.values() for name in names]
    published = [*AWS_METRICS.items(), *published_by_the_function(records), *of_calls]
    codes = CODES | {"ok"}
    watched = [*metrics_of_alarms(), *metrics_of_the_dashboard()]
    assert len(watched) > 20
    for place, metric, dimensions in watched:
        assert (metric, set(dimensions)) in published, f"{place} uses {metric} by {set(dimensions)}, which is not published"
        if isinstance(dimensions.get("Code"), str):
            assert dimensions["Code"] in codes, f"{place} uses a code that does not exist"
        if metric[1] in CALL_METRICS["KeeperFunction"]:
            writer = {"Ref": "KeeperFunction"}, "<KeeperName>"
        else:
            writer = {"Ref": "MintFunction"}, "<FunctionName>"
        if metric[1] == "CallMinutesUsed":
            writer = "<FunctionName>", "<KeeperName>"
        of = {"ApiId": ({"Ref": "Api"}, "<ApiId>"), "FunctionName": writer}
        for name, allowed in of.items():
            assert dimensions.get(name) in (None, *allowed), f"{place} uses another stack's {name}"


def test_the_dashboard_shows_every_metric_of_calls_from_its_writer():
    shown = {
        (metric[1], dimensions["FunctionName"]) for _, metric, dimensions in metrics_of_the_dashboard() if "Call" in metric[1]
    }
    shown |= {
        (metric[1], dimensions["FunctionName"])
        for _, metric, dimensions in metrics_of_the_dashboard()
        if metric[1] == "HangUpsLate"
    }
    names = {"MintFunction": "<FunctionName>", "KeeperFunction": "<KeeperName>"}
    assert shown == {(name, names[writer]) for writer, found in CALL_METRICS.items() for name in found}
    given = dict.fromkeys(DASHBOARD["Parameters"], "x") | {"MintsPerMinuteAlarm": 1}
    bodies = [
        Evaluated("infra/dashboard.yaml", **given | {"KeeperName": keeper}).resources["Dashboard"]["Properties"][
            "DashboardBody"
        ]
        for keeper in ("keeper", "")
    ]
    with_calls, without = (json.loads(body.replace("${!", "{"))["widgets"] for body in bodies)
    assert with_calls[: len(without)] == without and len(with_calls) == len(without) + 3
    assert {widget["y"] for widget in with_calls[len(without) :]} == {22}, "a row of their own"
    assert max(widget["y"] + widget["height"] for widget in without) == 22
    for endpoints, name in [("both", {"Ref": "KeeperFunction"}), ("call", {"Ref": "KeeperFunction"}), ("token", "")]:
        found = Evaluated(Endpoints=endpoints).resources["DashboardStack"]["Properties"]["Parameters"]
        assert found["KeeperName"] == name


def saved_queries():
    return {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::Logs::QueryDefinition"}


def test_every_saved_query_uses_fields_of_a_record(records):
    queries = {name: query["QueryString"] for name, query in saved_queries().items()}
    assert len(queries) == 4
    [log_widget] = [widget for widget in dashboard()["widgets"] if widget["type"] == "log"]
    queries["dashboard"] = log_widget["properties"]["query"].partition(" | ")[2]
    language = [
        "filter",
        "or",
        "fields",
        "stats",
        "sort",
        "limit",
        "by",
        "as",
        "desc",
        "asc",
        "sum",
        "count",
        "bin",
        "substr",
        "strcontains",
        "ispresent",
    ]
    fields = {field for record in records for field in record} | {"@timestamp", "span", *CALL_METRICS["MintFunction"]}
    for name, query in queries.items():
        comment = " ".join(line for line in query.splitlines() if line.startswith("#"))
        code = "\n".join(line for line in query.splitlines() if not line.startswith("#"))
        for field, value in re.findall(r"(\w+) = '(.*?)'", code):
            to_fill_in = value.isupper() and f"in place of {value}" in comment
            assert to_fill_in or value in [record.get(field) for record in records], f"{name} filters for {field} = {value}"
        words = re.findall(r"(?<![\w'])@?[A-Za-z]\w*", re.sub(r"'.*?'", "", code))
        named = {after for before, after in itertools.pairwise(words) if before == "as"}
        assert {"caller", "message", "requestId", "Code"} & set(words)
        assert set(words) - set(language) - named <= fields, f"{name} uses a field that no record has"


def test_saved_queries_belong_to_the_stack_and_messages_name_them_correctly():
    queries = saved_queries().values()
    names = [query["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}/") for query in queries]
    assert names == ["top callers", "refusals by code", "one request", "one caller"]
    assert all(query["LogGroupNames"] == [{"Ref": "FunctionLogs"}] for query in queries)
    mentioned = re.findall(r"saved\s+query\s+(\w+\s+\w+)", SOURCE)
    assert {" ".join(name.split()) for name in mentioned} == {"top callers"}
    assert "saved query {stack.name}/one caller." in (ROOT / "operate/callers.py").read_text()


def test_an_alarm_names_the_next_step_and_sends_it():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    alarms = {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"}
    assert len(alarms) == 15
    for name, alarm in alarms.items():
        text = alarm["AlarmDescription"]
        assert re.search(r"\b(run|raise|open|ask|make a new one|pay)\b", text, re.IGNORECASE), f"{name}: {text}"
        assert set(re.findall(r"\bmake ([a-z-]+)", text)) - {"a"} <= targets, name
        topics = [("HasAlarmEmail", "AlarmTopic"), ("HasAlarmTopic", "AlarmTopicArn")]
        sent = [{"Fn::If": [condition, {"Ref": topic}, {"Ref": "AWS::NoValue"}]} for condition, topic in topics]
        on = {"NoMintsAlarm": ["InsufficientDataActions"], "CallOutlivedAlarm": ["AlarmActions", "InsufficientDataActions"]}
        expected = dict.fromkeys([*on.get(name, ["AlarmActions"]), "OKActions"], sent)
        assert {action: alarm[action] for action in alarm if action.endswith("Actions")} == expected
    shown = RESOURCES["DashboardStack"]["Properties"]["Parameters"]["AlarmArns"]["Fn::Join"][1]
    there = []
    for name, alarm in RESOURCES.items():
        if alarm["Type"] == "AWS::CloudWatch::Alarm":
            arn = {"Fn::GetAtt": [name, "Arn"]}
            there.append({"Fn::If": [alarm["Condition"], arn, {"Ref": "AWS::NoValue"}]} if "Condition" in alarm else arn)
    assert sorted(shown, key=str) == sorted(there, key=str), "the dashboard shows every alarm"


def test_a_parameter_is_changed_with_make_set():
    """`make deploy` would release the build on the reader's disk with it."""
    alarms = {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"}
    texts = {name: " ".join(alarm["AlarmDescription"].split()) for name, alarm in alarms.items()}
    by_parameter = {name for name, text in texts.items() if "make set" in text}
    assert by_parameter == {
        "ThrottlesAlarm",
        "QuotaUnavailableAlarm",
        "DailyLimitAlarm",
        "DailyMinutesAlarm",
        "QuotaRefusalsAlarm",
    }
    for name, text in texts.items():
        assert "make deploy" not in text, name
        changed = re.findall(r"\b(?:raise|lower|higher|set) (\w+)|\b(\w+)=", text)
        assert name in by_parameter or not {word for words in changed for word in words} & set(TEMPLATE["Parameters"]), name

    # The pages deploy with parameters only where there is no stack yet, or with a release.
    first = {"README.md": 1, "docs/operating.md": 3}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        if page.name == "CHANGELOG.md":
            continue
        found = re.findall(r"make deploy\b[^`\n]*PARAMETERS=(?:\S*)", page.read_text())
        assert len(found) == first.get(str(page.relative_to(ROOT)), 0), (page, found)
        assert all(re.search(r'PARAMETERS="(AllowedOrigins=|…)', command) for command in found), (page, found)


QUIET = 30
GIVEN = {name: parameter["Default"] for name, parameter in TEMPLATE["Parameters"].items()} | {"QuietMinutesAlarm": QUIET}
ALARMS = {
    name: Alarm(found["Properties"], GIVEN) for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"
}
# Codes of refusals with an alarm of their own, which end when somebody acts.
LASTING = {alarm: code for alarm in ALARMS for name, *code in ALARMS[alarm].metrics() if name == "Requests" and code != ["ok"]}
for name in ("ApiErrorsAlarm", "QuotaRefusalsAlarm"):
    del LASTING[name]


@pytest.mark.parametrize("name", ALARMS)
def test_a_new_stack_wakes_nobody(name):
    sent = ALARMS[name].sent({metric: [[]] * 1500 for metric in ALARMS[name].metrics()})
    assert {state for _, state in sent} <= {"OK"}, "the state of a minute without data"


@pytest.mark.parametrize("name", sorted(set(ALARMS) - {"ApiErrorsAlarm", "LatencyAlarm", "NoMintsAlarm"}))
def test_an_alarm_on_one_metric_goes_off_above_its_threshold_only(name):
    alarm = ALARMS[name]
    [metric] = alarm.metrics()
    least = int(alarm.threshold) + 1
    calm = [[], [1] * (least - 1), []]
    assert not [state for _, state in alarm.sent({metric: calm * 20}) if state == "ALARM"]
    assert (3, "ALARM") in alarm.sent({metric: [*calm, [1] * least, *calm]}), "within the minute"


@pytest.mark.parametrize("name", [*LASTING, "ThrottlesAlarm"])
def test_a_lasting_fault_of_a_quiet_stack_mails_once(name):
    """With one request in ten minutes, each of them refused."""
    [metric] = ALARMS[name].metrics()
    refused = [[1], *[[]] * 9] * 12
    sent = ALARMS[name].sent({metric: [[]] * 5 + refused + [[]] * 30})
    assert [state for _, state in sent] == ["OK", "ALARM", "OK"], sent
    ended = sent[-1][0]
    assert ended - (5 + 110) == 15, "a quarter of an hour after the last one"


def test_an_alarm_that_rolls_back_ends_soon_enough_for_the_deployment_that_repairs_it():
    for alarm in RESOURCES["MintFunction"]["Properties"]["DeploymentPreference"]["Alarms"]:
        assert ALARMS[alarm["Ref"]].period * ALARMS[alarm["Ref"]].periods <= 5


def test_5xx_are_compared_with_all_requests():
    sent = ALARMS["ApiErrorsAlarm"].sent
    requests, none = [[1] * 20] * 30, [[0] * 20] * 30
    two = [[1] * 2 + [0] * 18] * 30
    assert not [state for _, state in sent({("Count",): requests, ("5xx",): none}) if state == "ALARM"]
    # Whether API Gateway publishes a zero or nothing.
    assert not [state for _, state in sent({("Count",): requests, ("5xx",): [[]] * 30}) if state == "ALARM"]
    assert not [state for _, state in sent({("Count",): [[]] * 30, ("5xx",): [[]] * 30}) if state == "ALARM"]
    assert not [state for _, state in sent({("Count",): requests, ("5xx",): [*two[:1], *none[:29]]}) if state == "ALARM"]
    assert not [state for _, state in sent({("Count",): requests, ("5xx",): [[1] + [0] * 19] * 30}) if state == "ALARM"]
    assert (1, "ALARM") in sent({("Count",): requests, ("5xx",): two})


OF_LIMITS = ("busy_lines", "daily_limit_reached", "daily_minutes_reached")


def test_refusals_by_a_limit_do_not_stop_the_deployment_that_raises_it():
    """ApiErrorsAlarm gates the gradual deployment of production."""
    sent = ALARMS["ApiErrorsAlarm"].sent
    requests, all_refused = [[1] * 20] * 30, [[1] * 20] * 30
    for code in OF_LIMITS:
        refused = {("Count",): requests, ("5xx",): all_refused, ("Requests", code): all_refused}
        assert not [state for _, state in sent(refused) if state == "ALARM"], code
    # Other errors are seen beside them.
    of_each = {("Requests", code): [[1] * 6] * 30 for code in OF_LIMITS}
    assert not [
        state for _, state in sent({("Count",): requests, ("5xx",): [[1] * 19 + [0]] * 30} | of_each) if state == "ALARM"
    ]
    assert (1, "ALARM") in sent({("Count",): requests, ("5xx",): all_refused} | of_each)
    watched = {code for name, *codes in ALARMS["ApiErrorsAlarm"].metrics() if name == "Requests" for code in codes}
    assert watched == set(OF_LIMITS)
    text = " ".join(ALARMS["ApiErrorsAlarm"].properties["AlarmDescription"].split())
    assert "(busy_lines, daily_limit_reached and daily_minutes_reached) are not counted" in text
    assert len(ALARMS["ApiErrorsAlarm"].stats) <= 10, "AWS's limit for an alarm on an expression"


SLOW, FAST = GIVEN["LatencyAlarmMilliseconds"] + 1, 500


def latencies(per_minute, slow_of, minutes=20):
    """The same requests each minute. Of slow_of requests, one is slow, evenly; none if that is 0."""
    asked = [SLOW if slow_of and one % slow_of == slow_of - 1 else FAST for one in range(per_minute * minutes)]
    return {("Latency",): [asked[minute * per_minute :][:per_minute] for minute in range(minutes)]}


@pytest.mark.parametrize(
    ("per_minute", "slow_of", "goes_off_by"),
    [
        (3, 0, None), (3, 1, 0), (3, 2, 1), (3, 5, 4), (3, 15, None),
        # A canary's tenth of all requests, all of them slow. From 6 a minute on, it is seen within its first 5 minutes.
        (5, 10, 5), (6, 10, 4), (10, 10, 2), (60, 10, 0),
        (60, 50, 2), (60, 200, None), (600, 0, None), (600, 50, 0), (600, 200, None), (12_000, 50, 0), (12_000, 101, None),
    ],
)  # fmt: skip
def test_slow_answers_are_noticed_on_a_quiet_stack_and_on_a_busy_one(per_minute, slow_of, goes_off_by):
    went_off = [minute for minute, state in ALARMS["LatencyAlarm"].sent(latencies(per_minute, slow_of)) if state == "ALARM"]
    assert went_off[:1] == ([] if goes_off_by is None else [goes_off_by])


def test_the_alarm_on_latency_says_what_it_does():
    alarm = ALARMS["LatencyAlarm"]

    def goes_off(slow, answers):
        return "ALARM" in [state for _, state in alarm.sent({("Latency",): [[SLOW] * slow + [FAST] * (answers - slow)]})]

    for answers in (3, 7, 15, 100, 299):
        least = next(slow for slow in range(1, answers + 1) if goes_off(slow, answers))
        assert f"at least {least}, took longer" in alarm.properties["AlarmDescription"]
    percent = next(percent for percent in range(1, 100) if goes_off(percent * 1000 + 1, 100_000))
    assert not goes_off(percent * 1000, 100_000)
    assert f"more than {percent} % of all answers" in alarm.properties["AlarmDescription"]
    assert f"Within {alarm.period * alarm.periods} minutes" in alarm.properties["AlarmDescription"]
    exactly = {("Latency",): [[GIVEN["LatencyAlarmMilliseconds"]] * 100]}
    assert alarm.sent(exactly) == [(0, "OK")], "as long as the parameter is not longer"
    [share] = [stat["Stat"] for stat in alarm.stats.values() if stat["Stat"] != "SampleCount"]
    upper = int(re.search(r":(\d+)\)", share["Fn::Sub"])[1])
    assert upper >= 2 * RESOURCES["TokenIntegration"]["Properties"]["TimeoutInMillis"], "no answer takes longer"


def test_silence_wakes_somebody_but_not_before_the_first_token():
    def sent(minutes):
        return ALARMS["NoMintsAlarm"].sent({("Requests", "ok"): minutes, ("Mints",): minutes})

    silence = [[]] * 24 * 60
    # Refused requests publish a zero under Mints and nothing under the code of a token.
    refused = ALARMS["NoMintsAlarm"].sent({("Requests", "ok"): silence, ("Mints",): [[0]] * len(silence)})
    assert refused == [], "no token was ever issued"
    assert sent([*silence, [1]]) == [(len(silence), "OK")], "the first token"
    [first, quiet, again] = sent([[1], *silence, [1]])
    assert (first, again) == ((0, "OK"), (len(silence) + 1, "OK")) and quiet == (QUIET, "INSUFFICIENT_DATA")
    assert sent([[1], *[[]] * (QUIET - 1)] * 10) == [(0, "OK")], "busy enough"


def test_a_keeper_that_stops_wakes_somebody_and_so_does_a_call_that_outlives_its_end():
    alarm = ALARMS["CallOutlivedAlarm"]

    def sent(minutes):
        return alarm.sent({("CallsOutlived",): minutes})

    assert sent([[]] * 1500) == [], "a new stack, before the keeper's first round"
    rounds = [[0]] * 60
    assert sent([[], *rounds]) == [(1, "OK")]
    assert sent([*rounds, [], *rounds, *[[]] * 4, *rounds]) == [(0, "OK")], "a late round is no alarm"
    assert sent([*rounds, *[[]] * 30, *rounds]) == [(0, "OK"), (64, "INSUFFICIENT_DATA"), (90, "OK")]
    assert sent([*rounds, [3], *rounds]) == [(0, "OK"), (60, "ALARM"), (65, "OK")]


def test_no_edit_overwrites_the_key():
    """With any change of this property, CloudFormation writes a new value: a placeholder, another identifier key, no block list.

    Do not adjust the hash: the key of every stack that is updated would be lost. This logical name and this type belong to it.
    """
    secret = RESOURCES["Secret"]
    assert secret["Type"] == "AWS::SecretsManager::Secret"
    # A name would make a change of it a replacement, and a literal value would be in the template.
    assert set(secret["Properties"]) == {"Description", "GenerateSecretString", "KmsKeyId"}
    # Without a key of the operator's the property is missing, as it always was.
    assert secret["Properties"]["KmsKeyId"] == {"Fn::If": ["HasKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]}
    generated = json.dumps(secret["Properties"]["GenerateSecretString"], sort_keys=True)
    pinned = "f275fe717888bc11bb687de89848b13404f93bab9f0e6be2d8cb1d6032eda6ca"
    assert hashlib.sha256(generated.encode()).hexdigest() == pinned


def test_the_stack_policy_refuses_updates_of_the_secret_and_of_nothing_else():
    """As CloudFormation evaluates it ("Prevent updates to stack resources"): denied by default, and an explicit Deny wins."""
    statements = json.loads((ROOT / "infra/stack-policy.json").read_text())["Statement"]

    def refused(name):
        effects = [one["Effect"] for one in statements if one["Resource"] in ("*", f"LogicalResourceId/{name}")]
        assert all((one["Action"], one["Principal"]) == ("Update:*", "*") for one in statements)
        return effects == [] or "Deny" in effects

    assert [name for name in RESOURCES if refused(name)] == ["Secret"]


def test_limits_that_aws_reports_in_mid_deployment_are_documented():
    parameters, operating = TEMPLATE["Parameters"], (ROOT / "docs/operating.md").read_text()
    longest = yaml_parse((ROOT / "infra/pipeline.yaml").read_text())["Parameters"]["StackName"]["MaxLength"]
    texts = re.findall(r"^\| (?:Deploy on push|.*StackName failed).*$", operating, re.MULTILINE)
    for text in (parameters["ConnectionArn"]["Description"], *texts):
        assert re.search(rf"must (then )?have {longest} characters at most", text), text
    assert len(texts) == 2
    assert "100 must stay unreserved" in parameters["ReservedConcurrency"]["Description"]
    # The error's text, so that a search for it leads here.
    assert "decreases account's UnreservedConcurrentExecution below its minimum value of [100]" in operating


def test_the_quota_table_exists_for_all_limits():
    """An earlier version that still counts, after a rollback or during a gradual deployment, must find the table."""
    for name in ("QuotaTable", "QuotaUnavailableAlarm", "DailyLimitAlarm", "QuotaRefusalsAlarm"):
        assert "Condition" not in RESOURCES[name]
    assert RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"]["QUOTA_TABLE"] == {"Ref": "QuotaTable"}
    threshold = RESOURCES["QuotaRefusalsAlarm"]["Properties"]["Threshold"]
    assert threshold == {"Ref": "QuotaRefusalsPerMinuteAlarm"}
    table = RESOURCES["QuotaTable"]["Properties"]
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def granted(name):
    """What a role may do: always, and by condition."""
    role = RESOURCES[name]["Properties"]
    assert set(role) == {"Description", "AssumeRolePolicyDocument", "PermissionsBoundary", "Policies"}
    [trusted] = role["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "lambda.amazonaws.com"}
    always, sometimes = [], {}
    for conditional in role["Policies"]:
        condition, policy, otherwise = conditional.get("Fn::If", [None, conditional, {"Ref": "AWS::NoValue"}])
        assert otherwise == {"Ref": "AWS::NoValue"}
        granted = sometimes.setdefault(condition, []) if condition else always
        for statement in policy["PolicyDocument"]["Statement"]:
            assert set(statement) - {"Condition"} == {"Effect", "Action", "Resource"} and statement["Effect"] == "Allow"
            assert ("Condition" in statement) is (condition == "HasKey")
            actions = statement["Action"]
            granted += [(action, statement["Resource"]) for action in ([actions] if isinstance(actions, str) else actions)]
    return always, sometimes


def test_the_functions_have_exactly_the_permissions_they_need():
    always, sometimes = granted("MintRole")
    assert always == [
        ("secretsmanager:GetSecretValue", {"Ref": "Secret"}),
        ("logs:CreateLogStream", {"Fn::GetAtt": ["FunctionLogs", "Arn"]}),
        ("logs:PutLogEvents", {"Fn::GetAtt": ["FunctionLogs", "Arn"]}),
        ("dynamodb:UpdateItem", {"Fn::GetAtt": ["QuotaTable", "Arn"]}),
    ]
    both = {
        "HasKey": [("kms:Decrypt", {"Ref": "KmsKeyArn"})],
        "IsTraced": [("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")],
    }
    assert sometimes == both | {"HasCalls": [("dynamodb:GetItem", {"Fn::GetAtt": ["QuotaTable", "Arn"]})]}
    always, sometimes = granted("KeeperRole")
    assert always == [
        ("secretsmanager:GetSecretValue", {"Ref": "Secret"}),
        ("logs:CreateLogStream", {"Fn::GetAtt": ["KeeperLogs", "Arn"]}),
        ("logs:PutLogEvents", {"Fn::GetAtt": ["KeeperLogs", "Arn"]}),
        ("dynamodb:GetItem", {"Fn::GetAtt": ["QuotaTable", "Arn"]}),
        ("dynamodb:UpdateItem", {"Fn::GetAtt": ["QuotaTable", "Arn"]}),
    ]
    assert sometimes == both
    # There are no other roles for them, and no separate policy that could give a function more.
    roles = [name for name, found in RESOURCES.items() if "::IAM::" in found["Type"]]
    assert sorted(roles) == ["CodeDeployServiceRole", "KeeperRole", "MintRole"]
    for function, role in [("MintFunction", "MintRole"), ("KeeperFunction", "KeeperRole")]:
        assert RESOURCES[function]["Properties"]["Role"] == {"Fn::GetAtt": [role, "Arn"]}
        assert "Policies" not in RESOURCES[function]["Properties"]


ROUTES_BY_ENDPOINT = {"token": {"POST /token"}, "call": {"POST /call", "DELETE /call/{handle}"}}
ROUTES_BY_ENDPOINT["both"] = ROUTES_BY_ENDPOINT["token"] | ROUTES_BY_ENDPOINT["call"]


@pytest.mark.parametrize("endpoints", ROUTES_BY_ENDPOINT)
def test_only_the_routes_of_the_endpoints_are_reachable_and_they_are_throttled(endpoints):
    found = Evaluated(Endpoints=endpoints, AllowedOrigins="https://app.example.com")
    of_type = {kind: [one["Properties"] for one in found.resources.values() if one["Type"] == kind] for kind in
               ("AWS::ApiGatewayV2::Route", "AWS::Lambda::Permission")}  # fmt: skip
    routes = {route["RouteKey"] for route in of_type["AWS::ApiGatewayV2::Route"]}
    assert routes == ROUTES_BY_ENDPOINT[endpoints]
    # API Gateway names a route's parameter in braces, or by its value; a star matches both.
    sources = {re.sub(r"\{\w+\}", "*", route.replace(" ", "")) for route in routes}
    api = [one for one in of_type["AWS::Lambda::Permission"] if one["Principal"] == "apigateway.amazonaws.com"]
    assert {one["SourceArn"].split("${Api}/$default/")[1] for one in api} == sources
    assert all(one["FunctionName"] == {"Ref": "MintFunction.Alias"} for one in api)
    settings = found.resources["Stage"]["Properties"]["DefaultRouteSettings"]
    assert settings == {"ThrottlingRateLimit": "50", "ThrottlingBurstLimit": "100"}
    assert set(found.outputs) & {"TokenUrl", "CallUrl"} == {
        output for output, route in [("TokenUrl", "POST /token"), ("CallUrl", "POST /call")] if route in routes
    }
    cors = found.resources["Api"]["Properties"]["CorsConfiguration"]
    assert cors["AllowOrigins"] == ["https://app.example.com"] and "AllowCredentials" not in cors
    assert set(cors["AllowMethods"]) == {route.split()[0] for route in routes}
    limits = {"retry-after", "ratelimit", "ratelimit-policy", "date"}
    assert set(cors["ExposeHeaders"]) == (limits | {"location", "call-expires-at"} if endpoints != "token" else limits)
    assert "CorsConfiguration" not in Evaluated(Endpoints=endpoints).resources["Api"]["Properties"]


def test_the_keeper_exists_only_with_calls_and_no_route_leads_to_it():
    of_keeper = {"KeeperFunction", "KeeperRole", "KeeperLogs", "KeeperSchedule", "ScheduleMayInvoke"}
    of_keeper |= {"CallOutlivedAlarm", "DailyMinutesAlarm"}
    for endpoints in ROUTES_BY_ENDPOINT:
        found = Evaluated(Endpoints=endpoints)
        assert of_keeper & set(found.resources) == (set() if endpoints == "token" else of_keeper)
        assert ("KeeperName" in found.outputs) is (endpoints != "token")
    keeper = RESOURCES["KeeperFunction"]
    assert keeper["Metadata"]["BuildProperties"] == {"Binary": "keeper"}
    # An alias or a version would let an older keeper meet newer records.
    assert not {"AutoPublishAlias", "DeploymentPreference", "Events", "ReservedConcurrentExecutions"} & set(
        keeper["Properties"]
    )
    assert keeper["Properties"]["MemorySize"] == 128 and keeper["Properties"]["Timeout"] == 150
    # Otherwise Lambda itself repeats a failed round twice, and starts late ones for up to 6 hours, beside those of each minute.
    own = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}
    assert keeper["Properties"]["EventInvokeConfig"] == own
    same = ("CodeUri", "Handler", "Runtime", "Architectures", "Tracing")
    assert all(keeper["Properties"][name] == RESOURCES["MintFunction"]["Properties"][name] for name in same)
    variables = keeper["Properties"]["Environment"]["Variables"]
    of_mint = RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"]
    assert variables.items() <= of_mint.items(), "the same values as the function's"
    assert {"OPENAI_SECRET_ARN", "OPENAI_BASE_URL", "QUOTA_TABLE", "CALLS_AT_ONCE_FOR_ALL", "MAX_CALL_SECONDS"} <= set(
        variables
    )
    schedule = RESOURCES["KeeperSchedule"]["Properties"]
    assert schedule["ScheduleExpression"] == "rate(1 minute)" and "State" not in schedule
    assert schedule["Targets"] == [{"Id": "keeper", "Arn": {"Fn::GetAtt": ["KeeperFunction", "Arn"]}}]
    permission = RESOURCES["ScheduleMayInvoke"]["Properties"]
    assert permission == {
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Ref": "KeeperFunction"},
        "Principal": "events.amazonaws.com",
        "SourceArn": {"Fn::GetAtt": ["KeeperSchedule", "Arn"]},
    }


def mappings(node):
    """Every mapping in a template, at every depth."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from mappings(inner)


def test_only_the_routes_are_public(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    deployed = transformed("Canary10Percent5Minutes")
    # All types of resources, those of AWS's own transform included. A new type may be a new way in: consider it, then add it.
    assert {found["Type"].removeprefix("AWS::") for found in deployed.values()} == {
        "ApiGatewayV2::Api", "ApiGatewayV2::ApiMapping", "ApiGatewayV2::Authorizer", "ApiGatewayV2::DomainName",
        "ApiGatewayV2::Integration", "ApiGatewayV2::Route", "ApiGatewayV2::Stage",
        "CloudWatch::Alarm", "CodeDeploy::Application", "CodeDeploy::DeploymentGroup", "DynamoDB::Table", "Events::Rule",
        "IAM::Role",
        "Lambda::Alias", "Lambda::EventInvokeConfig", "Lambda::Function", "Lambda::Permission", "Lambda::Version",
        "Logs::LogGroup", "Logs::QueryDefinition",
        "Route53::RecordSet", "SNS::Topic", "SecretsManager::Secret",
    }  # fmt: skip
    nested = [yaml_parse(path.read_text())["Resources"] for path in sorted((ROOT / "infra").glob("*.yaml"))]
    for resources in [deployed, *nested]:
        for name, found in resources.items():
            properties = found.get("Properties", {})
            if found["Type"] == "AWS::Lambda::Permission":
                service = "events" if name == "ScheduleMayInvoke" else "apigateway"
                assert properties["Principal"] == f"{service}.amazonaws.com" and "SourceArn" in properties, name
                assert "FunctionUrlAuthType" not in properties, name
            elif found["Type"] != "AWS::IAM::Role":
                assert "Principal" not in json.dumps(found), f"{name} grants access by its own policy"
            assert not re.search(r"Url$|Policy$", found["Type"]) or found["Type"] == "AWS::IAM::Policy", name
            assert "ResourcePolicy" not in properties and "FunctionUrlConfig" not in properties, name
        for inner in mappings(resources):
            if "Principal" in inner:
                principal = inner["Principal"]
                assert not isinstance(principal, dict) or set(principal) == {"Service"}, inner
                services = principal["Service"] if isinstance(principal, dict) else principal
                for service in [services] if isinstance(services, str) else services:
                    assert re.fullmatch(r"[a-z]+\.amazonaws\.com", service), inner


def test_with_an_issuer_the_routes_require_its_tokens_and_cors_admits_them():
    assert TEMPLATE["Conditions"]["HasAuth"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "AuthIssuer"}, ""]}]}
    authorizer = RESOURCES["Authorizer"]
    assert authorizer["Condition"] == "HasAuth"
    assert authorizer["Properties"] == {
        "ApiId": {"Ref": "Api"},
        "Name": "sign-in",
        "AuthorizerType": "JWT",
        "IdentitySource": ["$request.header.Authorization"],
        "JwtConfiguration": {"Issuer": {"Ref": "AuthIssuer"}, "Audience": {"Ref": "AuthAudience"}},
    }
    routes = {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"].endswith("::Route")}
    assert len(routes) == 3
    for name, route in routes.items():
        assert route["AuthorizationType"] == {"Fn::If": ["HasAuth", "JWT", "NONE"]}
        assert route["AuthorizerId"] == {"Fn::If": ["HasAuth", {"Ref": "Authorizer"}, {"Ref": "AWS::NoValue"}]}
        # `sam local start-api` reads only the routes in front of the first Serverless resource.
        assert list(RESOURCES).index(name) < list(RESOURCES).index("MintFunction")
    signed_in = {"AuthIssuer": "https://login.example.com", "AuthAudience": "page"}
    for endpoints, given, headers in [
        ("token", {}, {"content-type"}),
        ("token", signed_in, {"content-type", "authorization"}),
        # OpenAI's browser SDKs send these two with an offer, also where no sign-in is required.
        ("call", {}, {"content-type", "authorization", "x-openai-agents-sdk"}),
        ("both", signed_in, {"content-type", "authorization", "x-openai-agents-sdk"}),
    ]:
        found = Evaluated(Endpoints=endpoints, AllowedOrigins="https://app.example.com", **given)
        assert set(found.resources["Api"]["Properties"]["CorsConfiguration"]["AllowHeaders"]) == headers


def test_the_access_log_contains_no_address():
    line = RESOURCES["Stage"]["Properties"]["AccessLogSettings"]["Format"]
    assert {"requestId", "status", "latency", "integrationRequestId"} <= set(json.loads(line))
    assert not re.search(r"identity|sourceIp|userAgent|ip\b", line, re.IGNORECASE)


def test_the_access_log_needs_no_room_in_the_resource_policy():
    """AWS, "Avoiding Amazon CloudWatch Logs resource policy size restrictions"; names are at most 512 characters."""
    destination = RESOURCES["Stage"]["Properties"]["AccessLogSettings"]["DestinationArn"]
    assert destination == {"Fn::GetAtt": ["AccessLogs", "Arn"]}
    name = RESOURCES["AccessLogs"]["Properties"]["LogGroupName"]["Fn::Sub"]
    assert name.startswith("/aws/vendedlogs/")
    names = {
        name.replace("${AWS::StackName}", stack).replace("${Api}", api)
        for stack in ("a" * 128, "token-mint") for api in ("a1b2c3d4e5", "f6a7b8c9d0")
    }  # fmt: skip
    assert len(names) == 4, "two stacks, or one that is made again, have names of their own"
    assert all(re.fullmatch(r"[.\-_/#A-Za-z0-9]{1,512}", name) for name in names)


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws", "eu-west-1", "console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "console.amazonaws-us-gov.com"),
        ("aws-eusc", "eusc-de-east-1", "console.amazonaws-eusc.eu"),
    ],
)
def test_the_dashboard_has_a_name_for_each_region_and_the_url_of_its_partition(partition, region, console):
    """Dashboards are global to an account, and each partition has its own console."""
    found = Evaluated(pseudo={"AWS::Partition": partition, "AWS::Region": region})
    name = found.resources["DashboardStack"]["Properties"]["Parameters"]["DashboardName"]
    assert name == f"token-mint-{region}"
    url = found.outputs["DashboardUrl"]
    assert url == f"https://{region}.{console}/cloudwatch/home?region={region}#dashboards/dashboard/{name}"
    [of_dashboard] = [one["Resource"] for one in statements("DeployRole") if "cloudwatch:PutDashboard" in one["Action"]]
    allowed = [resource["Fn::Sub"] for resource in of_dashboard if ":dashboard/" in resource["Fn::Sub"]]
    assert [resource.split(":dashboard/")[1] for resource in allowed] == ["${StackName}-${AWS::Region}"]


def test_resources_with_data_have_a_deletion_policy():
    for name, found in RESOURCES.items():
        if found["Type"] in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::DynamoDB::Table"):
            assert found["DeletionPolicy"] == found["UpdateReplacePolicy"] == "Delete", name


def transformed(deployment_type):
    """The resources of the template after AWS's own transform, without the nested stacks."""
    found = permissions.transformed(DeploymentType=deployment_type)
    return {name: one for name, one in found.items() if one["Type"] != "AWS::CloudFormation::Stack"}


def test_gradual_deployments_roll_back_on_alarms_and_others_need_no_codedeploy(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    gradual = transformed("Canary10Percent5Minutes")
    groups = [found["Properties"] for found in gradual.values() if found["Type"] == "AWS::CodeDeploy::DeploymentGroup"]
    assert len(groups) == 1
    assert "Canary10Percent5Minutes" in json.dumps(groups[0]["DeploymentConfigName"])
    alarms = [alarm["Name"]["Ref"] for alarm in groups[0]["AlarmConfiguration"]["Alarms"]]
    assert alarms == ["ApiErrorsAlarm", "FunctionErrorsAlarm", "LatencyAlarm"]
    assert "UpdatePolicy" in gradual["MintFunctionAliaslive"]
    at_once = transformed("AllAtOnce")
    assert not [name for name, found in at_once.items() if found["Type"].startswith("AWS::CodeDeploy::")]
    mapped = {name: entry["Gradual"] for name, entry in TEMPLATE["Mappings"]["Release"].items()}
    assert list(mapped) == TEMPLATE["Parameters"]["DeploymentType"]["AllowedValues"]
    assert mapped == {name: name != "AllAtOnce" for name in mapped}


def test_a_pipeline_limits_the_name_of_the_stack_such_that_generated_names_contain_it(monkeypatch):
    """CloudFormation names a role or function STACK-LOGICAL_ID-SUFFIX, with a suffix of up to 13 characters. Beyond IAM's and
    Lambda's 64 characters, it shortens the stack's name, and the patterns in the pipeline's permissions would not match."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    named = [
        name
        for name, found in transformed("Canary10Percent5Minutes").items()
        if found["Type"] in ("AWS::IAM::Role", "AWS::Lambda::Function")
    ]
    assert "CodeDeployServiceRole" in named
    limit = yaml_parse((ROOT / "infra/pipeline.yaml").read_text())["Parameters"]["StackName"]["MaxLength"]
    assert limit == min(64 - len(f"-{name}-") - 13 for name in named)


@pytest.mark.parametrize("environment", ["default", "prod"])
def test_samconfig_builds_and_deploys_without_flags(environment):
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())[environment]
    deploy = config["deploy"]["parameters"]
    assert deploy["stack_name"] and deploy["resolve_s3"] is True
    given = dict(pair.split("=") for pair in deploy["parameter_overrides"].split())
    assert given.pop("Revision") == given.pop("ReplacedVersion") == '""', "or a bare `sam deploy` publishes no changed code"
    assert set(given) <= set(TEMPLATE["Parameters"])
    assert config["build"]["parameters"]["parameter_overrides"] == f"Architecture={given['Architecture']}"
    # `sam build` and `sam deploy` without this file, and the pipeline's machine, take the templates' defaults.
    own = TEMPLATE["Parameters"]["Architecture"]
    of_pipeline = yaml_parse((ROOT / "infra/pipeline.yaml").read_text())["Parameters"]["Architecture"]
    assert given["Architecture"] == own["Default"] == of_pipeline["Default"]
    assert own["AllowedValues"] == of_pipeline["AllowedValues"]
    assert "cached" not in json.dumps(config)
