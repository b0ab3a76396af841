"""A stack without a fault, for the tests of `make doctor` and `make status`, and means to break one thing in it.

moto makes what it can: function, version, alias, role, secret, table, logs, alarms, metrics and topic, by the shape of
template.yaml. What moto lacks (CloudFormation, API Gateway v2, Lambda's account settings, the policy simulator) is answered here,
and each answer is checked against the shape that AWS's own model of the API gives it. The API, OpenAI and the download of the
live code are a local HTTP server.
"""

import datetime
import functools
import http.server
import io
import json
import re
import struct
import threading
import types
import zipfile

import boto3
import botocore.validate
from conftest import NO_AWS_ACCOUNT, ROOT, post
from evaluated import Evaluated
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
ORIGIN = "https://app.example.com"
KEY = "sk-proj-0123456789-of-the-tests"
IDENTIFIER_KEY = "k" * 64
ACCOUNT, REGION = "123456789012", "eu-west-1"
NAME, FUNCTION, TABLE, LOG, ACCESS_LOG = (
    "token-mint",
    "token-mint-Mint",
    "token-mint-Quota",
    "token-mint-Log",
    "token-mint-Access",
)
KEEPER, KEEPER_LOG, SCHEDULE = "token-mint-Keeper", "token-mint-KeeperLog", "token-mint-KeeperSchedule"
STACK_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{NAME}/0a1b2c3d"
NESTED_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{NAME}-Dashboard/4e5f6a7b"
PIPELINE_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{NAME}-Pipeline/8c9d0e1f"
# The path of the API behind a proxy of the operator's.
THROUGH_THE_PROXY = "/proxy/token"
HOUR = datetime.timedelta(hours=1)


def now():
    return datetime.datetime.now(datetime.UTC)


@functools.cache
def administrator(service, endpoint):
    """A client with which the tests themselves change things."""
    return boto3.Session("test", "test", region_name=REGION).client(service, endpoint_url=endpoint)


def program(machine=62):
    """The archive of a function that is nothing but an ELF header for a processor."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("bootstrap", b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44))
    return packed.getvalue()


class Answered:
    """A boto3 session that answers some operations itself, and records all of them. It is made once, since that takes time."""

    def __init__(self):
        self.made = boto3.Session(region_name=REGION)
        for event, handler in (
            ("before-parameter-build", self.remember),
            ("before-call", self.answer),
            ("after-call", self.change),
        ):
            self.made.events.register(event, handler)
        self.reset()

    def reset(self):
        self.answers, self.changes, self.calls = {}, {}, []

    def session(self, **_):
        return self.made

    def remember(self, params, model, context, **_):
        context["asked"] = dict(params)
        self.calls.append((model.service_model.service_name, model.name))

    def answer(self, model, context, **_):
        answer = self.answers.get((model.service_model.service_name, model.name))
        if answer is None:
            return None
        if callable(answer):
            answer = answer(context["asked"])
        if isinstance(answer, Refusal):
            error = {"Code": answer.code, "Message": answer.message}
            return types.SimpleNamespace(status_code=400), {"Error": error, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return types.SimpleNamespace(status_code=200), fitting(model, answer) | {"ResponseMetadata": {}}

    def change(self, model, parsed, **_):
        """Changes what moto answered."""
        if change := self.changes.get((model.service_model.service_name, model.name)):
            change(parsed)

    def refuse(self, service, operation, code="AccessDeniedException", message="denied by the test"):
        self.answers[service, operation] = Refusal(code, message)


class Refusal:
    """An error of AWS."""

    def __init__(self, code, message):
        self.code, self.message = code, message


def fitting(model, answer):
    """The answer, if it has the form that AWS documents for the operation."""
    report = botocore.validate.ParamValidator().validate(answer, model.output_shape)
    assert not report.has_errors(), report.generate_report()
    return answer


class Outside:
    """The API as pages see it, OpenAI, and the archive of the live code: one HTTP server on loopback."""

    def __init__(self):
        self.origins, self.signs_in, self.proxied, self.has_tokens = [ORIGIN], False, False, True
        self.code = self.keeper_code = program()
        self.openai = (200, {"value": "ek_of_the_tests"})
        # Answers in place of the usual ones, by the name of the request.
        self.instead = {}
        self.asked = []
        outside = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outside.respond(self)

            do_POST = do_OPTIONS = do_DELETE = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def respond(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        origin = handler.headers.get("Origin")
        name, status, answer = self.usual(handler, body, origin)
        self.asked.append(name)
        readable = {"Access-Control-Allow-Origin": origin} if origin and (origin in self.origins or "*" in self.origins) else {}
        if readable and name in ("preflight", "call preflight"):
            # One configuration for the whole API.
            allowed = "content-type,authorization,x-openai-agents-sdk"
            readable |= {"Access-Control-Allow-Methods": "POST,DELETE", "Access-Control-Allow-Headers": allowed}
        elif readable:
            readable["Access-Control-Expose-Headers"] = "retry-after,ratelimit,ratelimit-policy,location,call-expires-at"
        status, answer, readable = self.instead.get(name, (status, answer, readable))
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        for header, value in readable.items():
            handler.send_header(header, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def usual(self, handler, body, origin):
        if handler.path == "/code":
            return "code", 200, self.code
        if handler.path == "/v1/realtime/client_secrets":
            return "openai", *self.openai
        foreign = origin and origin not in self.origins and "*" not in self.origins
        if handler.path.startswith(("/call", THROUGH_THE_PROXY.replace("token", "call"))):
            return self.of_calls(handler, body, foreign)
        if handler.path == "/keeper":
            return "keeper", 200, self.keeper_code
        if handler.path not in ("/token", THROUGH_THE_PROXY) or not self.has_tokens:
            return "other path", 404, {"message": "Not Found"}
        if handler.command == "OPTIONS":
            return "foreign preflight" if foreign else "preflight", 204, b""
        if self.signs_in:
            return "unsigned", 401, {"message": "Unauthorized"}
        if foreign:
            return "foreign", 403, {"code": "origin_not_allowed", "message": "Failed to create OpenAI session"}
        if body == b"[]":
            return "refused body", 400, {"code": "invalid_request", "message": "Failed to create OpenAI session"}
        if self.proxied and handler.path == "/token":
            return "past the proxy", 403, {"code": "proxy_required", "message": "Failed to create OpenAI session"}
        return "mint", 200, {"success": True, "value": "ek_of_the_tests"}

    def of_calls(self, handler, body, foreign):
        if handler.command == "OPTIONS":
            return "foreign preflight" if foreign else "call preflight", 204, b""
        if self.signs_in:
            return "unsigned call", 401, {"message": "Unauthorized"}
        if foreign:
            return "foreign", 403, {"code": "origin_not_allowed", "message": "Failed to create OpenAI session"}
        if handler.command == "DELETE":
            return "end of a call", 404, {"code": "call_not_found", "message": "Failed to create OpenAI session"}
        assert body == b"[]", "no call is made"
        return "refused offer", 400, {"code": "invalid_request", "message": "Failed to create OpenAI session"}


class HealthyStack:
    """Everything that a deployment leaves behind, in moto at `endpoint`."""

    def __init__(self, endpoint, answered, outside):
        self.endpoint, self.answered, self.outside = endpoint, answered, outside
        self.parameters = {
            name: str(parameter["Default"]) for name, parameter in TEMPLATE["Parameters"].items()
        } | {
            "AllowedOrigins": ORIGIN,
            "AlarmEmail": "operator@example.com",
            "Architecture": "x86_64",
            "OpenAIBaseUrl": f"{outside.url}/v1",
            "QuietMinutesAlarm": "30",
        }  # fmt: skip
        post(f"{endpoint}/moto-api/reset")
        self.ids = {
            "MintFunction": FUNCTION,
            "QuotaTable": TABLE,
            "FunctionLogs": LOG,
            "AccessLogs": ACCESS_LOG,
            "KeeperFunction": KEEPER,
            "KeeperLogs": KEEPER_LOG,
            "KeeperSchedule": SCHEDULE,
            "Api": "a1b2c3",
        }
        # The resources of nested stacks, by the stack's ID: the name, the type and the ID of each.
        self.nested = {NESTED_ID: [("Dashboard", "AWS::CloudWatch::Dashboard", f"{NAME}-{REGION}")]}
        self.status, self.updated, self.events, self.nested_status = "UPDATE_COMPLETE", now() - 24 * HOUR, [], "CREATE_COMPLETE"
        self.of_version = {"LoggingConfig": {"LogFormat": "JSON", "LogGroup": LOG, "ApplicationLogLevel": "TRACE"}}
        self.of_keeper = {"LoggingConfig": {"LogFormat": "JSON", "LogGroup": KEEPER_LOG, "ApplicationLogLevel": "TRACE"}}
        self.make_data()
        self.make_function()
        self.make_keeper()
        self.make_alarms()
        self.answer()

    def client(self, service):
        return administrator(service, self.endpoint)

    def make_data(self):
        fields = {"OPENAI_API_KEY": KEY, "SAFETY_IDENTIFIER_KEY": IDENTIFIER_KEY, "BLOCKED_CALLERS": ["0a" * 32]}
        made = self.client("secretsmanager").create_secret(Name="token-mint-Secret", SecretString=json.dumps(fields))
        self.ids["Secret"] = made["ARN"]
        dynamodb = self.client("dynamodb")
        table = TEMPLATE["Resources"]["QuotaTable"]["Properties"]
        shape = {name: table[name] for name in ("KeySchema", "AttributeDefinitions", "BillingMode")}
        dynamodb.create_table(TableName=TABLE, **shape)
        dynamodb.update_time_to_live(TableName=TABLE, TimeToLiveSpecification=table["TimeToLiveSpecification"])
        logs = self.client("logs")
        for group in (LOG, ACCESS_LOG, KEEPER_LOG):
            logs.create_log_group(logGroupName=group)
            logs.put_retention_policy(logGroupName=group, retentionInDays=30)
            logs.create_log_stream(logGroupName=group, logStreamName="stream")
            event = {"timestamp": int(now().timestamp() * 1000), "message": "{}"}
            logs.put_log_events(logGroupName=group, logStreamName="stream", logEvents=[event])

    def make_function(self):
        role = TEMPLATE["Resources"]["MintRole"]["Properties"]
        trust = json.dumps(role["AssumeRolePolicyDocument"])
        made = self.client("iam").create_role(RoleName="token-mint-MintRole", AssumeRolePolicyDocument=trust)["Role"]
        self.ids["MintRole"] = made["RoleName"]
        properties = TEMPLATE["Resources"]["MintFunction"]["Properties"]
        self.variables = {name: self.resolved(value) for name, value in properties["Environment"]["Variables"].items()}
        functions = self.client("lambda")
        functions.create_function(
            FunctionName=FUNCTION,
            Runtime=properties["Runtime"],
            Handler=properties["Handler"],
            Role=made["Arn"],
            Code={"ZipFile": self.outside.code},
            Architectures=["x86_64"],
            Environment={"Variables": self.variables},
            LoggingConfig={"LogFormat": "JSON", "LogGroup": LOG},
        )
        self.publish("revision 0a1b2c3d4e5f, replaces 0")
        functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="1")
        self.version = "1"

    def make_keeper(self):
        """The keeper, its role, its schedule, and the metrics of its rounds."""
        trust = json.dumps(TEMPLATE["Resources"]["KeeperRole"]["Properties"]["AssumeRolePolicyDocument"])
        role = self.client("iam").create_role(RoleName="token-mint-KeeperRole", AssumeRolePolicyDocument=trust)["Role"]
        self.ids["KeeperRole"] = role["RoleName"]
        properties = TEMPLATE["Resources"]["KeeperFunction"]["Properties"]
        self.keeper_variables = {name: self.resolved(value) for name, value in properties["Environment"]["Variables"].items()}
        functions, events = self.client("lambda"), self.client("events")
        made = functions.create_function(
            FunctionName=KEEPER,
            Runtime=properties["Runtime"],
            Handler=properties["Handler"],
            Role=role["Arn"],
            Code={"ZipFile": self.outside.code},
            Architectures=["x86_64"],
            Environment={"Variables": self.keeper_variables},
        )
        schedule = TEMPLATE["Resources"]["KeeperSchedule"]["Properties"]["ScheduleExpression"]
        rule = events.put_rule(Name=SCHEDULE, ScheduleExpression=schedule)["RuleArn"]
        events.put_targets(Rule=SCHEDULE, Targets=[{"Id": "keeper", "Arn": made["FunctionArn"]}])
        functions.add_permission(
            FunctionName=KEEPER,
            StatementId="schedule",
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rule,
        )
        of_keeper = [{"Name": "FunctionName", "Value": KEEPER}]
        for ago in [datetime.timedelta(minutes=minutes) for minutes in range(1, 14)] + [3 * HOUR]:
            self.measure("AWS/Lambda", ["Invocations"], of_keeper, ago)
            self.measure("AWS/Lambda", ["Errors"], of_keeper, ago, 0)
            self.measure("TokenMint", ["CallsOutlived", "CallsOpen"], of_keeper, ago, 0)

    def publish(self, description="", **settings):
        functions = self.client("lambda")
        if settings:
            functions.update_function_configuration(FunctionName=FUNCTION, **settings)
        return functions.publish_version(FunctionName=FUNCTION, Description=description)["Version"]

    def go_live(self, description="", of_keeper=True, **settings):
        """Publishes a version with other settings, as a deployment does, which also gives the keeper its variables."""
        if "Environment" in settings and of_keeper:
            given = settings["Environment"]["Variables"]
            variables = {name: given.get(name, value) for name, value in self.keeper_variables.items()}
            self.client("lambda").update_function_configuration(FunctionName=KEEPER, Environment={"Variables": variables})
        self.version = self.publish(description, **settings)
        self.client("lambda").update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=self.version)

    @functools.cached_property
    def evaluated(self):
        return Evaluated(**{name: value for name, value in self.parameters.items() if name in TEMPLATE["Parameters"]})

    def make_alarms(self):
        sns = self.client("sns")
        self.ids["AlarmTopic"] = sns.create_topic(Name="token-mint-Topic")["TopicArn"]
        sns.subscribe(TopicArn=self.ids["AlarmTopic"], Protocol="email", Endpoint=self.parameters["AlarmEmail"])
        cloudwatch = self.client("cloudwatch")
        self.alarms = {}
        for name, found in TEMPLATE["Resources"].items():
            if found["Type"] == "AWS::CloudWatch::Alarm":
                self.alarms[name] = {"AlarmName": f"token-mint-{name}"} | self.resolved(found["Properties"])
                self.ids[name] = f"token-mint-{name}"
                cloudwatch.put_metric_alarm(**numbers(self.alarms[name]))
                cloudwatch.set_alarm_state(AlarmName=self.ids[name], StateValue="OK", StateReason="so")
        of_api, of_function = [{"Name": "ApiId", "Value": "a1b2c3"}], [{"Name": "FunctionName", "Value": FUNCTION}]
        self.measure("AWS/ApiGateway", ["Count", "Latency"], of_api)
        self.measure("AWS/Lambda", ["Invocations"], of_function)
        self.measure("TokenMint", ["Mints"], of_function)
        self.measure("TokenMint", ["Requests"], [*of_function, {"Name": "Code", "Value": "ok"}])

    def measure(self, namespace, names, dimensions, ago=3 * HOUR, value=1):
        data = [{"MetricName": name, "Dimensions": dimensions, "Value": value, "Timestamp": now() - ago} for name in names]
        self.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)

    def resolved(self, value):
        """A value of the template for these parameters."""
        match value:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": name}:
                return self.parameters.get(name) or self.ids.get(name, "" if name in self.parameters else name)
            case {"Fn::Join": [separator, {"Ref": name}]}:
                return separator.join(self.parameters[name].split(","))
            case {"Fn::Sub": text}:
                return re.sub(r"\$\{(\w+)\}", lambda found: self.resolved({"Ref": found[1]}), text)
            case {"Fn::If": [condition, then, otherwise]}:
                return self.resolved(then if self.evaluated.holds(condition) else otherwise)
            case dict():
                return {name: self.resolved(part) for name, part in value.items()}
            case list():
                parts = [self.resolved(part) for part in value]
                return [part for part in parts if part is not None]
        return value

    def answer(self):
        """What moto does not answer."""
        answers = self.answered.answers
        answers["cloudformation", "DescribeStacks"] = self.describe
        answers["cloudformation", "ListStackResources"] = self.listed
        answers["cloudformation", "DescribeStackEvents"] = lambda _: {"StackEvents": self.events}
        answers["cloudformation", "GetTemplate"] = lambda _: {"TemplateBody": json.dumps(TEMPLATE)}
        answers["cloudformation", "DetectStackDrift"] = lambda asked: {
            "StackDriftDetectionId": f"drift-{asked['StackName'][-8:]}"
        }
        answers["cloudformation", "DescribeStackDriftDetectionStatus"] = self.drift_status("DETECTION_COMPLETE")
        answers["cloudformation", "DescribeStackResourceDrifts"] = {"StackResourceDrifts": []}
        answers["apigatewayv2", "GetStage"] = self.stage(ACCESS_LOG)
        answers["lambda", "GetAccountSettings"] = self.account(1_000)
        answers["iam", "SimulatePrincipalPolicy"] = lambda asked: self.simulated(asked, "allowed")
        self.answered.changes["lambda", "GetFunction"] = self.complete

    def describe(self, asked):
        status = self.nested_status if asked["StackName"] in self.nested else self.status
        stack = {"StackId": STACK_ID, "StackName": NAME, "CreationTime": self.updated, "LastUpdatedTime": self.updated}
        outputs = {"TokenUrl": f"{self.outside.url}/token", "FunctionName": FUNCTION, "SecretArn": self.ids["Secret"]}
        outputs |= {"CallUrl": f"{self.outside.url}/call", "KeeperName": KEEPER}
        if self.parameters.get("Endpoints", "token") != "both":
            del outputs["TokenUrl" if self.parameters.get("Endpoints") == "call" else "CallUrl"]
        if "CallUrl" not in outputs:
            del outputs["KeeperName"]
        if status == "REVIEW_IN_PROGRESS":
            outputs = {}
        stack["StackStatus"] = status
        stack["Parameters"] = [{"ParameterKey": name, "ParameterValue": value} for name, value in self.parameters.items()]
        stack["Outputs"] = [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]
        return {"Stacks": [stack]}

    def resources(self):
        types_of = {name: found["Type"] for name, found in TEMPLATE["Resources"].items()}
        version = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}:{self.version}"
        return [
            *(
                self.resource(name, types_of[name].replace("Serverless", "Lambda"), physical)
                for name, physical in self.ids.items()
                if self.parameters.get("Endpoints", "token") != "token" or not name.startswith(("Keeper", "CallOutlived"))
            ),
            self.resource("MintFunctionVersion0a1b2c3d4e", "AWS::Lambda::Version", version),
            *(self.resource(f"{kind}Stack", "AWS::CloudFormation::Stack", stack) for kind, stack in self.nested_stacks()),
        ]

    def nested_stacks(self):
        return [(re.search(rf"{NAME}-(\w+)/", stack)[1], stack) for stack in self.nested]

    def resource(self, name, kind, physical):
        return {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical,
            "ResourceType": kind,
            "ResourceStatus": "CREATE_COMPLETE",
            "LastUpdatedTimestamp": self.updated,
        }

    def listed(self, asked):
        nested = self.nested.get(asked["StackName"])
        found = self.resources() if nested is None else [self.resource(*one) for one in nested]
        return {"StackResourceSummaries": found}

    def event(self, name, kind, status, reason=None):
        """An event, newest first, of the last operation on the stack."""
        physical = STACK_ID if kind == "AWS::CloudFormation::Stack" else name
        event = {
            "StackId": STACK_ID, "StackName": NAME, "EventId": f"{name}-{status}", "Timestamp": self.updated,
            "LogicalResourceId": name, "PhysicalResourceId": physical, "ResourceType": kind, "ResourceStatus": status,
        }  # fmt: skip
        self.events.append(event | ({"ResourceStatusReason": reason} if reason else {}))

    def drift_status(self, status, **more):
        found = {"StackId": STACK_ID, "StackDriftDetectionId": "drift", "DetectionStatus": status, "Timestamp": self.updated}
        return found | more

    def drifted(self, name, kind, status, *paths):
        """Makes CloudFormation report one resource as changed or deleted."""
        differences = [
            {"PropertyPath": path, "ExpectedValue": "30", "ActualValue": "sk-a-secret-value", "DifferenceType": "NOT_EQUAL"}
            for path in paths
        ]
        drift = {
            "StackId": STACK_ID, "LogicalResourceId": name, "PhysicalResourceId": name, "ResourceType": kind,
            "StackResourceDriftStatus": status, "Timestamp": self.updated, "PropertyDifferences": differences,
        }  # fmt: skip
        answer = lambda asked: {"StackResourceDrifts": [drift] if asked["StackName"] == STACK_ID else []}  # noqa: E731
        self.answered.answers["cloudformation", "DescribeStackResourceDrifts"] = answer

    def stage(self, group):
        destination = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
        return {"StageName": "$default", "AccessLogSettings": {"DestinationArn": destination, "Format": "{}"}}

    def account(self, limit):
        return {"AccountLimit": {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": limit}}

    def simulated(self, asked, decision):
        resource = asked["ResourceArns"][0]
        return {
            "EvaluationResults": [
                {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": decision}
                for action in asked["ActionNames"]
            ]
        }

    def complete(self, parsed):
        """What moto leaves out of a version, or answers with an address on amazonaws.com."""
        if "Code" in parsed:
            is_keeper = parsed["Configuration"]["FunctionName"] == KEEPER
            parsed["Code"]["Location"] = f"{self.outside.url}/{'keeper' if is_keeper else 'code'}"
            parsed["Configuration"] |= self.of_keeper if is_keeper else self.of_version

    def add_pipeline(self):
        """Adds the pipeline's nested stack, of which the checks read the project and the alarm."""
        alarm = yaml_parse((ROOT / "infra/pipeline.yaml").read_text())["Resources"]["FailedBuildsAlarm"]["Properties"]
        self.alarms["FailedBuildsAlarm"] = alarm | {
            "AlarmName": f"{NAME}-FailedBuildsAlarm",
            "AlarmDescription": alarm["AlarmDescription"]["Fn::Sub"],
            "AlarmActions": [self.ids["AlarmTopic"]],
            "Dimensions": [{"Name": "ProjectName", "Value": NAME}],
        }
        self.set_alarm("FailedBuildsAlarm")
        self.nested[PIPELINE_ID] = [
            ("Project", "AWS::CodeBuild::Project", NAME),
            ("FailedBuildsAlarm", "AWS::CloudWatch::Alarm", f"{NAME}-FailedBuildsAlarm"),
        ]

    # --- ways to break it ---------------------------------------------------------------------------------------------

    def set_secret(self, **fields):
        secrets = self.client("secretsmanager")
        stored = json.loads(secrets.get_secret_value(SecretId=self.ids["Secret"])["SecretString"])
        self.set_secret_text(json.dumps({name: value for name, value in (stored | fields).items() if value is not ...}))

    def set_secret_text(self, text):
        self.client("secretsmanager").put_secret_value(SecretId=self.ids["Secret"], SecretString=text)

    def set_alarm(self, name, **properties):
        """Makes an alarm again, with other properties."""
        cloudwatch, known = self.client("cloudwatch"), self.alarms[name]["AlarmName"]
        cloudwatch.delete_alarms(AlarmNames=[known])
        cloudwatch.put_metric_alarm(**numbers(self.alarms[name] | properties))
        cloudwatch.set_alarm_state(AlarmName=known, StateValue="OK", StateReason="so")


def numbers(alarm):
    """An alarm's properties with the types that the API takes."""
    whole = {name: int(alarm[name]) for name in ("Threshold", "EvaluationPeriods") if name in alarm}
    return alarm | whole


NO_ACCOUNT = NO_AWS_ACCOUNT | {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
