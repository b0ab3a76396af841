"""The template by itself: linters have nothing to say, and what it says agrees with the code and the Makefile.

What no stand-in of AWS enforces is checked here instead: permissions, throttling, CORS, gradual deployment."""

import json
import re
import subprocess
import tomllib

import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN
from samtranslator.parser.parser import Parser
from samtranslator.sdk.parameter import SamParameterValues
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
RESOURCES = TEMPLATE["Resources"]
SOURCE = (ROOT / "template.yaml").read_text()
DASHBOARD = yaml_parse((ROOT / "infra/dashboard.yaml").read_text())

# What AWS itself publishes (its developer guides: "Working with HTTP API metrics", "Types of metrics for Lambda").
AWS_METRICS = {
    **{("AWS/ApiGateway", name): {"ApiId"} for name in ("4xx", "5xx", "Count", "Latency", "IntegrationLatency")},
    **{("AWS/Lambda", name): {"FunctionName"} for name in ("Errors", "Throttles", "ConcurrentExecutions", "Invocations")},
}


def run(*command):
    environment = TOOLCHAIN | NO_AWS_ACCOUNT | {"SAM_CLI_TELEMETRY": "0"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)


def tool(name, environment="tools"):
    return str(ROOT / f".venv/{environment}/bin/{name}")


def test_sam_and_cfn_lint_find_nothing():
    validated = run(tool("sam"), "validate", "--lint")
    assert validated.returncode == 0, validated.stdout + validated.stderr
    templates = ["template.yaml", *map(str, sorted((ROOT / "infra").glob("*.yaml")))]
    linted = run(tool("cfn-lint"), "--append-rules", "cfn_lint_serverless.rules", "--template", *templates)
    assert linted.returncode == 0, linted.stdout


def test_checkov_finds_nothing_that_is_not_answered_in_place():
    scanned = run(
        tool("checkov", "checkov"), "--framework", "cloudformation", "--skip-download", "--quiet", "--output", "json",
        "--file", "template.yaml", *map(str, sorted((ROOT / "infra").glob("*.yaml"))),
    )  # fmt: skip
    report = json.loads(scanned.stdout)
    failed = [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]]
    assert failed == [] and report["summary"]["passed"] > 10
    assert report["summary"]["parsing_errors"] == 0


def test_the_template_sets_what_the_function_reads_and_nothing_else():
    config = (ROOT / "function/src/config.rs").read_text()
    read = {name for name in re.findall(r'^const ([A-Z_]+): &str = "\1";', config, re.MULTILINE)}
    set_ = set(RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"])
    assert set_ == {name for name in read if not name.startswith("AWS_LAMBDA_")}


def test_every_parameter_and_output_is_described_and_every_parameter_used():
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [name for group in groups for name in group["Parameters"]] == list(TEMPLATE["Parameters"])
    for name, parameter in TEMPLATE["Parameters"].items():
        assert len(parameter["Description"]) > 40 and "Default" in parameter, name
        if parameter["Default"] == "" and name not in ("Repository",):
            assert re.search(r"\bEmpty\b", parameter["Description"]), f"{name} does not say what empty means"
        assert re.search(rf"!Ref {name}\b|\${{{name}}}", SOURCE), f"{name} is not used"
    for output in TEMPLATE["Outputs"].values():
        assert len(output["Description"]) > 20


def published_by_the_function(in_lambda, simulator):
    """Namespace, metric and dimensions out of a real record of the release binary."""
    program, invoke = in_lambda(OPENAI_BASE_URL=f"{simulator}/v1", OPENAI_API_KEY="sk-test")
    invoke((ROOT / "function/events/http-api.json").read_bytes())
    record = next(json.loads(line) for line in program.log.read_text().splitlines() if line.startswith('{"_aws"'))
    for directive in record["_aws"]["CloudWatchMetrics"]:
        for metric in directive["Metrics"]:
            for dimensions in directive["Dimensions"]:
                yield (directive["Namespace"], metric["Name"]), set(dimensions)


def watched_by_alarms():
    for name, resource in RESOURCES.items():
        if resource["Type"] != "AWS::CloudWatch::Alarm":
            continue
        alarm = resource["Properties"]
        metrics = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query] or [alarm]
        for metric in metrics:
            values = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
            yield name, (metric["Namespace"], metric["MetricName"]), values


def dashboard():
    """The dashboard's body with every parameter in place of its name."""
    body = DASHBOARD["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    names = [*DASHBOARD["Parameters"], "AWS::Region"]
    for name in names:
        body = body.replace(f"${{{name}}}", "1" if name == "MintsPerMinuteAlarm" else f"<{name}>")
    assert "${" not in body.replace("${!", "")
    return json.loads(body)


def watched_by_the_dashboard():
    for widget in dashboard()["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if isinstance(metric[0], str):
                namespace, name, *rest = [part for part in metric if isinstance(part, str)]
                yield widget["properties"]["title"], (namespace, name), dict(zip(rest[::2], rest[1::2]))
            else:
                search = re.search(r"{(\w+),([\w,]+)} MetricName=\"(\w+)\"", metric[0]["expression"])
                yield widget["properties"]["title"], (search[1], search[3]), dict.fromkeys(search[2].split(","), None)


def test_every_alarm_and_widget_watches_what_someone_publishes_under_these_dimensions(in_lambda, simulator):
    published = [*AWS_METRICS.items(), *published_by_the_function(in_lambda, simulator)]
    codes = set(re.findall(r'"([a-z_]+)",\s+(?:NO_SESSION|")', (ROOT / "function/src/error.rs").read_text())) | {"ok"}
    watched = [*watched_by_alarms(), *watched_by_the_dashboard()]
    assert len(watched) > 20
    for place, metric, dimensions in watched:
        assert (metric, set(dimensions)) in published, f"{place} watches {metric} by {set(dimensions)}, which no one publishes"
        if isinstance(dimensions.get("Code"), str):
            assert dimensions["Code"] in codes, f"{place} waits for a code that does not exist"
        of = {"ApiId": ({"Ref": "Api"}, "<ApiId>"), "FunctionName": ({"Ref": "MintFunction"}, "<FunctionName>")}
        for name, allowed in of.items():
            assert dimensions.get(name) in (None, *allowed), f"{place} watches another stack's {name}"


def test_an_alarm_tells_the_woken_person_what_to_do_and_reaches_them():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    alarms = {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"}
    assert len(alarms) == 9
    for name, alarm in alarms.items():
        told = alarm["AlarmDescription"]
        assert re.search(r"\b(run|raise|open|ask|make a new one|pay)\b", told, re.IGNORECASE), f"{name}: {told}"
        assert set(re.findall(r"\bmake ([a-z-]+)", told)) - {"a"} <= targets, name
        tell = [{"Fn::If": ["HasAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]}]
        assert alarm["AlarmActions"] == alarm["OKActions"] == tell
    shown = set(re.findall(r"!GetAtt (\w+Alarm)\.Arn", SOURCE))
    assert shown == set(alarms) - {"NoMintsAlarm"}, "the dashboard shows all that are always there"


def test_the_function_may_read_one_secret_and_write_its_log_and_nothing_else():
    granted = []
    for policy in RESOURCES["MintRole"]["Properties"]["Policies"]:
        policy = policy["Fn::If"][1] if "Fn::If" in policy else policy
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            granted += [(action, json.dumps(statement["Resource"])) for action in ([actions] if isinstance(actions, str) else actions)]
    assert sorted(granted) == [
        ("logs:CreateLogStream", '{"Fn::GetAtt": ["FunctionLogs", "Arn"]}'),
        ("logs:PutLogEvents", '{"Fn::GetAtt": ["FunctionLogs", "Arn"]}'),
        ("secretsmanager:GetSecretValue", '{"Ref": "Secret"}'),
        ("xray:PutTelemetryRecords", '"*"'),
        ("xray:PutTraceSegments", '"*"'),
    ]


def test_nothing_but_post_token_is_reachable_and_all_of_it_throttled():
    routes = [found["Properties"]["RouteKey"] for found in RESOURCES.values() if found["Type"].endswith("::Route")]
    assert routes == ["POST /token"]
    settings = RESOURCES["Stage"]["Properties"]["DefaultRouteSettings"]
    assert settings == {"ThrottlingRateLimit": {"Ref": "RateLimit"}, "ThrottlingBurstLimit": {"Ref": "BurstLimit"}}
    assert RESOURCES["ApiMayInvoke"]["Properties"]["SourceArn"]["Fn::Sub"].endswith("${Api}/$default/POST/token")
    cors = RESOURCES["Api"]["Properties"]["CorsConfiguration"]["Fn::If"]
    assert cors[0] == "HasOrigins" and cors[2] == {"Ref": "AWS::NoValue"}
    assert cors[1]["AllowOrigins"] == {"Ref": "AllowedOrigins"} and cors[1]["AllowMethods"] == ["POST"]


def test_the_access_log_has_no_address():
    line = RESOURCES["Stage"]["Properties"]["AccessLogSettings"]["Format"]
    assert {"requestId", "status", "latency", "integrationRequestId"} <= set(json.loads(line))
    assert not re.search(r"identity|sourceIp|userAgent|ip\b", line, re.IGNORECASE)


def test_what_holds_data_says_what_becomes_of_it():
    for name, found in RESOURCES.items():
        if found["Type"] in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"):
            assert found["DeletionPolicy"] == found["UpdateReplacePolicy"] == "Delete", name


def transformed(deployment_type):
    """The template as CloudFormation sees it after AWS's own transform."""
    defaults = {name: parameter["Default"] for name, parameter in TEMPLATE["Parameters"].items()}
    template = yaml_parse(SOURCE)
    for nested in [name for name, found in template["Resources"].items() if found["Type"] == "AWS::Serverless::Application"]:
        del template["Resources"][nested]
    template["Resources"]["MintFunction"]["Properties"]["CodeUri"] = "s3://bucket/key"
    parameters = SamParameterValues(defaults | {"DeploymentType": deployment_type})
    parameters.add_default_parameter_values(template)
    translator = Translator({}, Parser())
    return translator.translate(template, parameters.parameter_values)["Resources"]


def test_a_gradual_deployment_rolls_back_on_alarms_and_all_at_once_needs_no_codedeploy(monkeypatch):
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


@pytest.mark.parametrize("environment", ["default", "prod"])
def test_samconfig_builds_and_deploys_without_flags(environment):
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())[environment]
    deploy = config["deploy"]["parameters"]
    assert deploy["stack_name"] and deploy["resolve_s3"] is True
    given = dict(pair.split("=") for pair in deploy["parameter_overrides"].split())
    assert set(given) <= set(TEMPLATE["Parameters"])
    assert config["build"]["parameters"]["parameter_overrides"] == f"Architecture={given['Architecture']}"
    assert "cached" not in json.dumps(config)
