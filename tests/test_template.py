"""The template by itself: linters have nothing to say, and what it says agrees with the code and the Makefile.

What no stand-in of AWS enforces is checked here instead: permissions, throttling, CORS, gradual deployment."""

import json
import re
import subprocess
import tomllib

import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TOOLCHAIN, post
from samtranslator.parser.parser import Parser
from samtranslator.sdk.parameter import SamParameterValues
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from estimate.description import CODES, VARIABLES

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
    assert set(RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"]) == set(VARIABLES)


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


@pytest.fixture
def records(in_lambda, simulator, aws):
    """Real records of the release binary, with all that it can know: of a mint, and of a refusal by OpenAI."""
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
    minted, refused = [json.loads(line) for line in program.log.read_text().splitlines() if line.startswith('{"_aws"')]
    assert (minted["Code"], refused["Code"]) == ("ok", "openai_rejected_session")
    assert f'"span":{{"requestId":"{minted["requestId"]}"' in program.log.read_text(), "DEBUG lines are of a request"
    return minted, refused


def published_by_the_function(records):
    """Namespace, metric and dimensions out of its records."""
    for record in records:
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


def test_every_alarm_and_widget_watches_a_published_metric(records):
    published = [*AWS_METRICS.items(), *published_by_the_function(records)]
    codes = CODES | {"ok"}
    watched = [*watched_by_alarms(), *watched_by_the_dashboard()]
    assert len(watched) > 20
    for place, metric, dimensions in watched:
        assert (metric, set(dimensions)) in published, f"{place} watches {metric} by {set(dimensions)}, which is not published"
        if isinstance(dimensions.get("Code"), str):
            assert dimensions["Code"] in codes, f"{place} waits for a code that does not exist"
        of = {"ApiId": ({"Ref": "Api"}, "<ApiId>"), "FunctionName": ({"Ref": "MintFunction"}, "<FunctionName>")}
        for name, allowed in of.items():
            assert dimensions.get(name) in (None, *allowed), f"{place} watches another stack's {name}"


def saved_queries():
    return {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::Logs::QueryDefinition"}


def test_every_saved_query_asks_for_what_a_record_has(records):
    queries = {name: query["QueryString"] for name, query in saved_queries().items()}
    assert len(queries) == 4
    [log_widget] = [widget for widget in dashboard()["widgets"] if widget["type"] == "log"]
    queries["dashboard"] = log_widget["properties"]["query"].partition(" | ")[2]
    language = "filter or fields stats sort limit by as desc asc sum count bin substr ispresent".split()
    fields = {field for record in records for field in record} | {"@timestamp", "span"}
    for name, query in queries.items():
        comment = " ".join(line for line in query.splitlines() if line.startswith("#"))
        code = "\n".join(line for line in query.splitlines() if not line.startswith("#"))
        for field, value in re.findall(r"(\w+) = '(.*?)'", code):
            to_fill_in = value.isupper() and f"in place of {value}" in comment
            assert to_fill_in or value in [record.get(field) for record in records], f"{name} waits for {field} = {value}"
        words = re.findall(r"(?<![\w'])@?[A-Za-z]\w*", re.sub(r"'.*?'", "", code))
        named = {after for before, after in zip(words, words[1:]) if before == "as"}
        assert {"caller", "message", "requestId", "Code"} & set(words)
        assert set(words) - set(language) - named <= fields, f"{name} asks for a field that no record has"


def test_saved_queries_are_the_stack_s_own_and_named_where_people_are_sent_to_them():
    queries = saved_queries().values()
    names = [query["Name"]["Fn::Sub"].removeprefix("${AWS::StackName}/") for query in queries]
    assert names == ["top callers", "refusals by code", "one request", "one caller"]
    assert all(query["LogGroupNames"] == [{"Ref": "FunctionLogs"}] for query in queries)
    sent = re.findall(r"saved\s+query\s+(\w+\s+\w+)", SOURCE)
    assert {" ".join(name.split()) for name in sent} == {"top callers"}
    assert "saved query {stack.name}/one caller." in (ROOT / "operate/__main__.py").read_text()


def test_an_alarm_tells_the_woken_person_what_to_do_and_reaches_them():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    alarms = {name: found["Properties"] for name, found in RESOURCES.items() if found["Type"] == "AWS::CloudWatch::Alarm"}
    assert len(alarms) == 12
    for name, alarm in alarms.items():
        told = alarm["AlarmDescription"]
        assert re.search(r"\b(run|raise|open|ask|make a new one|pay)\b", told, re.IGNORECASE), f"{name}: {told}"
        assert set(re.findall(r"\bmake ([a-z-]+)", told)) - {"a"} <= targets, name
        tell = [{"Fn::If": ["HasAlarmEmail", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]}]
        assert alarm["AlarmActions"] == alarm["OKActions"] == tell
    shown = RESOURCES["DashboardStack"]["Properties"]["Parameters"]["AlarmArns"]["Fn::Join"][1]
    there = []
    for name, alarm in RESOURCES.items():
        if alarm["Type"] == "AWS::CloudWatch::Alarm":
            arn = {"Fn::GetAtt": [name, "Arn"]}
            there.append({"Fn::If": [alarm["Condition"], arn, {"Ref": "AWS::NoValue"}]} if "Condition" in alarm else arn)
    assert sorted(shown, key=str) == sorted(there, key=str), "the dashboard shows all that are there"


def test_the_table_is_there_whatever_the_limits_are():
    """A version that still counts, as before a rollback or beside a canary, must find it."""
    for name in ("QuotaTable", "QuotaUnavailableAlarm", "DailyLimitAlarm", "QuotaRefusalsAlarm"):
        assert "Condition" not in RESOURCES[name]
    assert RESOURCES["MintFunction"]["Properties"]["Environment"]["Variables"]["QUOTA_TABLE"] == {"Ref": "QuotaTable"}
    threshold = RESOURCES["QuotaRefusalsAlarm"]["Properties"]["Threshold"]
    assert threshold == {"Ref": "QuotaRefusalsPerMinuteAlarm"}
    table = RESOURCES["QuotaTable"]["Properties"]
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_the_function_may_read_one_secret_count_in_one_table_and_write_its_log_and_nothing_else():
    role = RESOURCES["MintRole"]["Properties"]
    assert set(role) == {"Description", "AssumeRolePolicyDocument", "Policies"}
    always, sometimes = [], {}
    for policy in role["Policies"]:
        condition, policy, otherwise = policy.get("Fn::If", [None, policy, {"Ref": "AWS::NoValue"}])
        assert otherwise == {"Ref": "AWS::NoValue"}
        granted = sometimes.setdefault(condition, []) if condition else always
        for statement in policy["PolicyDocument"]["Statement"]:
            assert set(statement) == {"Effect", "Action", "Resource"} and statement["Effect"] == "Allow"
            actions = statement["Action"]
            granted += [(action, statement["Resource"]) for action in ([actions] if isinstance(actions, str) else actions)]
    assert always == [
        ("secretsmanager:GetSecretValue", {"Ref": "Secret"}),
        ("logs:CreateLogStream", {"Fn::GetAtt": ["FunctionLogs", "Arn"]}),
        ("logs:PutLogEvents", {"Fn::GetAtt": ["FunctionLogs", "Arn"]}),
        ("dynamodb:UpdateItem", {"Fn::GetAtt": ["QuotaTable", "Arn"]}),
    ]
    assert sometimes == {
        "IsTraced": [("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")],
    }
    # No role but these, and no policy beside them, which could give the function more.
    assert [name for name, found in RESOURCES.items() if "::IAM::" in found["Type"]] == ["MintRole"]
    assert RESOURCES["MintFunction"]["Properties"]["Role"] == {"Fn::GetAtt": ["MintRole", "Arn"]}
    assert "Policies" not in RESOURCES["MintFunction"]["Properties"]


def test_nothing_but_post_token_is_reachable_and_all_of_it_throttled():
    routes = [found["Properties"]["RouteKey"] for found in RESOURCES.values() if found["Type"].endswith("::Route")]
    assert routes == ["POST /token"]
    settings = RESOURCES["Stage"]["Properties"]["DefaultRouteSettings"]
    assert settings == {"ThrottlingRateLimit": {"Ref": "RateLimit"}, "ThrottlingBurstLimit": {"Ref": "BurstLimit"}}
    assert RESOURCES["ApiMayInvoke"]["Properties"]["SourceArn"]["Fn::Sub"].endswith("${Api}/$default/POST/token")
    cors = RESOURCES["Api"]["Properties"]["CorsConfiguration"]["Fn::If"]
    assert cors[0] == "HasOrigins" and cors[2] == {"Ref": "AWS::NoValue"}
    assert cors[1]["AllowOrigins"] == {"Ref": "AllowedOrigins"} and cors[1]["AllowMethods"] == ["POST"]
    assert "AllowCredentials" not in cors[1]


def everything(node):
    """Each mapping in a template, however deep."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from everything(inner)


def test_nothing_is_public_but_the_route(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    deployed = transformed("Canary10Percent5Minutes")
    # What is made, AWS's own transform included. A type that is new here may be a new door: think, then add it.
    assert {found["Type"].removeprefix("AWS::") for found in deployed.values()} == {
        "ApiGatewayV2::Api", "ApiGatewayV2::Authorizer", "ApiGatewayV2::Integration", "ApiGatewayV2::Route", "ApiGatewayV2::Stage",
        "CloudWatch::Alarm", "CodeDeploy::Application", "CodeDeploy::DeploymentGroup", "DynamoDB::Table", "IAM::Role",
        "Lambda::Alias", "Lambda::Function", "Lambda::Permission", "Lambda::Version", "Logs::LogGroup", "Logs::QueryDefinition",
        "SNS::Topic", "SecretsManager::Secret",
    }  # fmt: skip
    nested = [yaml_parse(path.read_text())["Resources"] for path in sorted((ROOT / "infra").glob("*.yaml"))]
    for resources in [deployed, *nested]:
        for name, found in resources.items():
            properties = found.get("Properties", {})
            if found["Type"] == "AWS::Lambda::Permission":
                assert properties["Principal"] == "apigateway.amazonaws.com" and "SourceArn" in properties, name
                assert "FunctionUrlAuthType" not in properties, name
            elif found["Type"] != "AWS::IAM::Role":
                assert "Principal" not in json.dumps(found), f"{name} lets someone in by a policy of its own"
            assert not re.search(r"Url$|Policy$", found["Type"]) or found["Type"] == "AWS::IAM::Policy", name
            assert "ResourcePolicy" not in properties and "FunctionUrlConfig" not in properties, name
        for inner in everything(resources):
            if "Principal" in inner:
                principal = inner["Principal"]
                assert not isinstance(principal, dict) or set(principal) == {"Service"}, inner
                services = principal["Service"] if isinstance(principal, dict) else principal
                for service in [services] if isinstance(services, str) else services:
                    assert re.fullmatch(r"[a-z]+\.amazonaws\.com", service), inner


def test_with_an_issuer_the_route_asks_for_its_tokens_and_pages_may_send_them():
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
    route = RESOURCES["TokenRoute"]["Properties"]
    assert route["AuthorizationType"] == {"Fn::If": ["HasAuth", "JWT", "NONE"]}
    assert route["AuthorizerId"] == {"Fn::If": ["HasAuth", {"Ref": "Authorizer"}, {"Ref": "AWS::NoValue"}]}
    cors = RESOURCES["Api"]["Properties"]["CorsConfiguration"]["Fn::If"][1]
    assert cors["AllowHeaders"] == {"Fn::If": ["HasAuth", ["content-type", "authorization"], ["content-type"]]}
    # `sam local start-api` reads routes only where it meets them before a Serverless resource.
    assert list(RESOURCES).index("TokenRoute") < list(RESOURCES).index("MintFunction")


def test_the_access_log_has_no_address():
    line = RESOURCES["Stage"]["Properties"]["AccessLogSettings"]["Format"]
    assert {"requestId", "status", "latency", "integrationRequestId"} <= set(json.loads(line))
    assert not re.search(r"identity|sourceIp|userAgent|ip\b", line, re.IGNORECASE)


def test_what_holds_data_says_what_becomes_of_it():
    for name, found in RESOURCES.items():
        if found["Type"] in ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::DynamoDB::Table"):
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
