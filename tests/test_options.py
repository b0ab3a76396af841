"""What the optional parameters add to a deployment: in the template as CloudFormation evaluates it, and in ministack.

ministack stores a permissions boundary, a key and a domain, but enforces and uses none of them: it denies nothing, encrypts
nothing, and has neither DNS nor TLS. It has no stacks with budgets, so moto stores the budget with the template's properties. No
stand-in creates the pipeline's roles, sends a message, or counts costs.
"""

import fnmatch
import functools
import hmac
import io
import json
import pathlib
import re
import shlex
import subprocess
import zipfile

import boto3
import cfnlint
import pytest
from conftest import NO_AWS_ACCOUNT, ROOT, TARGET, TOOLCHAIN, free_port, post
from evaluated import Evaluated

from docs import permissions
from operate import proxy

ALLOWED = {"AllowedOrigins": "https://app.example.com"}
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/1a2b"
DOMAIN = {"DomainName": "tokens.example.com", "CertificateArn": CERTIFICATE}


def evaluated(**parameters):
    found = Evaluated(**ALLOWED | parameters)
    assert found.refusals == []
    return found


def refusals(**parameters):
    return " ".join(Evaluated(**ALLOWED | parameters).refusals)


class StandIn:
    """Deploys the template, after SAM's transform, through CloudFormation's API."""

    def __init__(self, endpoint, session):
        self.endpoint, self.session = endpoint, session
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            entry = zipfile.ZipInfo("bootstrap")
            entry.external_attr, entry.compress_type = 0o755 << 16, zipfile.ZIP_DEFLATED
            file.writestr(entry, (TARGET / "release/token-mint").read_bytes())
        self.client("s3").create_bucket(
            Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": self.session.region_name}
        )
        self.client("s3").put_object(Bucket="bucket", Key="key", Body=packed.getvalue())

    def client(self, service):
        return self.session.client(service, endpoint_url=self.endpoint)

    def template(self):
        """Without the types that ministack does not know, and without metric math in alarms."""
        template = permissions.read("template.yaml")
        resources = permissions.transformed()
        for name, found in list(resources.items()):
            if found["Type"] in ("AWS::Logs::QueryDefinition", "AWS::CloudFormation::Stack", "AWS::Budgets::Budget"):
                del resources[name]
            if found["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in found["Properties"]:
                watched = [query["MetricStat"] for query in found["Properties"].pop("Metrics") if "MetricStat" in query]
                one = next(stat for stat in watched if stat["Stat"] in ("Sum", "SampleCount"))
                found["Properties"].update(one["Metric"], Period=one["Period"], Statistic=one["Stat"])
        del template["Transform"]
        return json.dumps(template | {"Resources": resources})

    def deploy(self, verb="create", tags=(), **parameters):
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in (ALLOWED | parameters).items()]
        cloudformation = self.client("cloudformation")
        # CloudFormation takes a template of this size through S3 only.
        self.client("s3").put_object(Bucket="bucket", Key="template", Body=self.template().encode())
        getattr(cloudformation, f"{verb}_stack")(
            StackName="token-mint",
            TemplateURL=f"{self.endpoint}/bucket/template",
            Parameters=given,
            Capabilities=["CAPABILITY_IAM"],
            Tags=tags,
        )
        cloudformation.get_waiter(f"stack_{verb}_complete").wait(StackName="token-mint", WaiterConfig={"Delay": 1})
        return self.outputs()

    def outputs(self):
        [stack] = self.client("cloudformation").describe_stacks(StackName="token-mint")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def physical(self, name):
        found = self.client("cloudformation").describe_stack_resource(StackName="token-mint", LogicalResourceId=name)
        return found["StackResourceDetail"]["PhysicalResourceId"]


@pytest.fixture
def stand_in(aws):
    return StandIn(*aws)


# --- a domain ---------------------------------------------------------------------------------------------------------


def test_without_a_domain_the_api_has_its_generated_address_only():
    plain = evaluated()
    assert not {"Domain", "DomainMapping", "DomainIpv4", "DomainIpv6"} & set(plain.resources)
    assert plain.resources["Api"]["Properties"]["DisableExecuteApiEndpoint"] is False
    assert plain.outputs["TokenUrl"] == "https://${Api}.execute-api.eu-west-1.amazonaws.com/token"
    assert "DomainTarget" not in plain.outputs


def test_a_domain_replaces_the_generated_address():
    found = evaluated(**DOMAIN)
    assert found.resources["Api"]["Properties"]["DisableExecuteApiEndpoint"] is True
    assert found.resources["Domain"]["Properties"] == {
        "DomainName": "tokens.example.com",
        "DomainNameConfigurations": [
            {
                "CertificateArn": CERTIFICATE,
                "EndpointType": "REGIONAL",
                "IpAddressType": "dualstack",
                "SecurityPolicy": "TLS_1_2",
            }
        ],
    }
    mapping = found.resources["DomainMapping"]["Properties"]
    assert mapping == {"DomainName": {"Ref": "Domain"}, "ApiId": {"Ref": "Api"}, "Stage": {"Ref": "Stage"}}
    assert found.outputs["TokenUrl"] == "https://tokens.example.com/token"
    assert found.outputs["DomainTarget"] == {"Fn::GetAtt": ["Domain", "RegionalDomainName"]}
    assert not [name for name, one in found.resources.items() if one["Type"].startswith("AWS::Route53::")]


def test_a_hosted_zone_gets_one_record_for_each_kind_of_address():
    found = evaluated(**DOMAIN, HostedZoneId="Z1A2B").resources
    records = [one["Properties"] for one in found.values() if one["Type"] == "AWS::Route53::RecordSet"]
    target = {name: {"Fn::GetAtt": ["Domain", f"Regional{of}"]} for name, of in
              [("DNSName", "DomainName"), ("HostedZoneId", "HostedZoneId")]}  # fmt: skip
    assert records == [
        {"HostedZoneId": "Z1A2B", "Name": "tokens.example.com", "Type": kind, "AliasTarget": target} for kind in ("A", "AAAA")
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"DomainName": "tokens.example.com"}, "With DomainName, give CertificateArn too"),
        ({"CertificateArn": CERTIFICATE}, "Give DomainName too"),
        ({"HostedZoneId": "Z1A2B"}, "Give DomainName too"),
        ({"DomainName": "tokens.example.com", "HostedZoneId": "Z1A2B"}, "With DomainName, give CertificateArn too"),
    ],
)
def test_a_domain_and_its_certificate_are_given_together(given, sentence):
    assert sentence in refusals(**given)


def test_the_stand_in_creates_and_removes_the_domain(stand_in):
    zone = stand_in.client("route53").create_hosted_zone(Name="example.com", CallerReference="1")["HostedZone"]["Id"]
    plain = stand_in.deploy()
    gateway = stand_in.client("apigatewayv2")
    api = stand_in.physical("Api")
    outputs = stand_in.deploy("update", **DOMAIN, HostedZoneId=zone.split("/")[-1])
    assert outputs["TokenUrl"] == "https://tokens.example.com/token"
    assert gateway.get_api(ApiId=api)["DisableExecuteApiEndpoint"] is True
    [configuration] = gateway.get_domain_name(DomainName="tokens.example.com")["DomainNameConfigurations"]
    assert configuration["ApiGatewayDomainName"] == outputs["DomainTarget"]
    assert (configuration["SecurityPolicy"], configuration["EndpointType"]) == ("TLS_1_2", "REGIONAL")
    [mapping] = gateway.get_api_mappings(DomainName="tokens.example.com")["Items"]
    assert (mapping["ApiId"], mapping["Stage"], mapping.get("ApiMappingKey", "")) == (api, "$default", "")

    def records():
        found = stand_in.client("route53").list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        return {record["Type"]: record["AliasTarget"]["DNSName"].rstrip(".") for record in found if "AliasTarget" in record}

    assert records() == {"A": outputs["DomainTarget"], "AAAA": outputs["DomainTarget"]}
    assert stand_in.deploy("update", DomainName="", CertificateArn="", HostedZoneId="") == plain
    assert records() == {} and gateway.get_domain_names()["Items"] == []
    assert gateway.get_api(ApiId=api)["DisableExecuteApiEndpoint"] is False
    host = plain["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"
    assert post(f"{stand_in.endpoint}/token", b"{}", {"Host": host})[0] == 503, "the function has no key yet"


# --- a permissions boundary, and tags ---------------------------------------------------------------------------------

BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
PIPELINE = {
    "StackName": "token-mint", "SecretArn": "arn:secret", "ApiId": "a1b2c3d4e5", "ConnectionArn": "arn:connection",
    "Repository": "https://git.example.com/mint",
}  # fmt: skip


def roles(**parameters):
    """The properties of every role of a deployment, those of the pipeline and of SAM included."""
    given = {"DeploymentType": "Canary10Percent5Minutes", "ConnectionArn": "arn:connection",
             "Repository": PIPELINE["Repository"]}  # fmt: skip
    outer = evaluated(**given | parameters)
    nested = outer.resources["PipelineStack"]["Properties"]["Parameters"]
    inner = Evaluated("infra/pipeline.yaml", **PIPELINE | {name: nested[name] for name in parameters})
    found = {**outer.resources, **inner.resources}
    of_sam = permissions.transformed(**given)
    found |= {name: one for name, one in of_sam.items() if name not in outer.template["Resources"]}
    return {name: one["Properties"] for name, one in found.items() if one["Type"] == "AWS::IAM::Role"}


def test_every_role_has_the_boundary():
    assert set(roles()) == {"MintRole", "KeeperRole", "CodeDeployServiceRole", "BuildRole", "DeployRole"}
    assert not [name for name, role in roles().items() if "PermissionsBoundary" in role]
    bounded = roles(PermissionsBoundaryArn=BOUNDARY)
    assert [role.get("PermissionsBoundary") for role in bounded.values()] == [BOUNDARY] * 5


def test_the_stand_in_gives_roles_the_boundary_and_resources_the_tags(stand_in):
    tags = [{"Key": "team", "Value": "voice"}]
    stand_in.deploy(tags=tags, PermissionsBoundaryArn=BOUNDARY)
    clients = functools.cache(stand_in.client)
    names = [stand_in.physical(name) for name in ("MintRole", "KeeperRole", "CodeDeployServiceRole")]

    def made():
        return [clients("iam").get_role(RoleName=name)["Role"] for name in names]

    for role in made():
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY and tags[0] in role["Tags"]
    function = clients("lambda").get_function(FunctionName=stand_in.physical("MintFunction"))
    assert function["Tags"]["team"] == "voice"
    assert tags[0] in clients("secretsmanager").describe_secret(SecretId=stand_in.physical("Secret"))["Tags"]
    table = clients("dynamodb").describe_table(TableName=stand_in.physical("QuotaTable"))["Table"]["TableArn"]
    assert tags[0] in clients("dynamodb").list_tags_of_resource(ResourceArn=table)["Tags"]
    stand_in.deploy("update", tags=tags)
    assert not any(role.get("PermissionsBoundary") for role in made()), "an empty parameter removes it"


def test_the_page_names_the_types_that_take_no_tags():
    """As CloudFormation's schemas have it. Without a schema of tags, a type has them if it has the property."""
    without = set()
    for _, kind, _ in permissions.deployed():
        schema = permissions.PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
        if not schema.get("tagging", {"taggable": "Tags" in schema["properties"]})["taggable"]:
            without.add(kind)
    section = (ROOT / "docs/operating.md").read_text().split("## Tags\n")[1].split("\n## ")[0]
    assert set(re.findall(r"`(AWS::\w+::\w+)`", section)) == without


def test_the_commands_for_tags_pass_them_on():
    section = (ROOT / "docs/operating.md").read_text().split("## Tags\n")[1].split("\n## ")[0]
    [command] = re.findall(r"^make deploy .+$", section, re.MULTILINE)
    words = shlex.split(command)
    ran = subprocess.run([*words, "--dry-run"], cwd=ROOT, env=TOOLCHAIN, capture_output=True, text=True, timeout=60)
    assert " --tags cost-center=training team=voice" in ran.stdout, ran.stdout + ran.stderr
    [setting] = re.findall(r"^tags = (.+)$", section, re.MULTILINE)
    assert f" --tags {json.loads(setting)}" in ran.stdout


# --- a topic for the alarms -------------------------------------------------------------------------------------------

TOPIC = "arn:aws:sns:eu-west-1:123456789012:on-call"
EMAIL = "operator@example.com"


@pytest.mark.parametrize(
    ("given", "topics"),
    [
        ({}, []),
        ({"AlarmEmail": EMAIL}, [{"Ref": "AlarmTopic"}]),
        ({"AlarmTopicArn": TOPIC}, [TOPIC]),
        ({"AlarmEmail": EMAIL, "AlarmTopicArn": TOPIC}, [{"Ref": "AlarmTopic"}, TOPIC]),
    ],
)
def test_alarms_go_to_the_address_and_to_the_topic(given, topics):
    found = evaluated(QuietMinutesAlarm="30", **given)
    alarms = [one["Properties"] for one in found.resources.values() if one["Type"] == "AWS::CloudWatch::Alarm"]
    assert len(alarms) == 15
    for alarm in alarms:
        actions = [value for name, value in alarm.items() if name.endswith("Actions")]
        assert len(actions) in (2, 3) and all(one == topics for one in actions)
    assert ("AlarmTopic" in found.resources) is ("AlarmEmail" in given)

    outer = evaluated(ConnectionArn="arn:connection", Repository=PIPELINE["Repository"], **given)
    joined = outer.resources["PipelineStack"]["Properties"]["Parameters"]["AlarmTopicArns"]
    texts = joined if isinstance(joined, str) else ",".join(str(part) for part in joined["Fn::Join"][1])
    assert texts == ",".join(map(str, topics))
    inner = Evaluated("infra/pipeline.yaml", **PIPELINE | {"AlarmTopicArns": ",".join(TOPIC for _ in topics)}).resources
    assert ("FailedBuildsAlarm" in inner) is bool(topics)
    assert not topics or inner["FailedBuildsAlarm"]["Properties"]["AlarmActions"] == [TOPIC for _ in topics]


def test_the_stand_in_sends_alarms_to_both(stand_in):
    own = stand_in.client("sns").create_topic(Name="on-call")["TopicArn"]
    stand_in.deploy(AlarmEmail=EMAIL, AlarmTopicArn=own)
    alarms = stand_in.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len(alarms) == 14
    for alarm in alarms:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [stand_in.physical("AlarmTopic"), own]


# --- a key in KMS -----------------------------------------------------------------------------------------------------

KEY = "arn:aws:kms:eu-west-1:123456789012:key/1a2b-3c4d"


def keys(found):
    """The key of each resource that can have one, None without one."""
    kinds = {"AWS::SecretsManager::Secret": "KmsKeyId", "AWS::Logs::LogGroup": "KmsKeyId", "AWS::SNS::Topic": "KmsMasterKeyId"}
    return {name: one["Properties"].get(kinds[one["Type"]]) for name, one in found.items() if one["Type"] in kinds}


def test_one_key_encrypts_the_secret_the_logs_and_the_topic():
    for given, key in [({}, None), ({"KmsKeyArn": KEY}, KEY)]:
        found = keys(evaluated(AlarmEmail=EMAIL, **given).resources)
        assert found == dict.fromkeys(["Secret", "AccessLogs", "FunctionLogs", "KeeperLogs", "AlarmTopic"], key)
        assert keys(Evaluated("infra/pipeline.yaml", **PIPELINE | given).resources) == {"BuildLogs": key}


@pytest.mark.parametrize("role", ["MintRole", "KeeperRole"])
def test_a_function_decrypts_its_own_secret_only(role):
    def granted(**given):
        policies = evaluated(**given).resources[role]["Properties"]["Policies"]
        return [one for policy in policies for one in policy["PolicyDocument"]["Statement"] if "kms:" in str(one["Action"])]

    assert granted() == []
    [statement] = granted(KmsKeyArn=KEY)
    assert (statement["Action"], statement["Resource"]) == ("kms:Decrypt", KEY)
    assert statement["Condition"] == {
        "StringEquals": {"kms:EncryptionContext:SecretARN": {"Ref": "Secret"}},
        "StringLike": {"kms:ViaService": "secretsmanager.eu-west-1.*"},
    }


def test_the_page_has_the_statements_for_the_policy_of_the_key():
    section = (ROOT / "docs/operating.md").read_text().split("## A key of your own\n")[1].split("\n## ")[0]
    [policy] = re.findall(r"^```json\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    logs, alarms = json.loads(policy)
    assert logs["Principal"] == {"Service": "logs.REGION.amazonaws.com"}
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert set(alarms["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey*"}
    patterns = logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]
    for name in (
        "token-mint-FunctionLogs-1A2B",
        "/aws/vendedlogs/token-mint/a1b2c3",
        "token-mint-PipelineStack-1A-BuildLogs-2B",
    ):
        arn = f"arn:aws:logs:REGION:ACCOUNT:log-group:{name}"
        assert any(fnmatch.fnmatchcase(arn, pattern) for pattern in patterns), arn


def test_the_stand_in_encrypts_with_the_key_and_keeps_the_secret(stand_in):
    key = stand_in.client("kms").create_key()["KeyMetadata"]["Arn"]
    stand_in.deploy(AlarmEmail=EMAIL)
    secrets = stand_in.client("secretsmanager")
    before = secrets.get_secret_value(SecretId=stand_in.physical("Secret"))
    topic = functools.partial(stand_in.client("sns").get_topic_attributes, TopicArn=stand_in.physical("AlarmTopic"))
    assert not topic()["Attributes"].get("KmsMasterKeyId")
    stand_in.deploy("update", AlarmEmail=EMAIL, KmsKeyArn=key)
    assert topic()["Attributes"]["KmsMasterKeyId"] == key
    assert secrets.describe_secret(SecretId=stand_in.physical("Secret"))["KmsKeyId"] == key
    assert secrets.get_secret_value(SecretId=stand_in.physical("Secret"))["SecretString"] == before["SecretString"]
    groups = {one["logGroupName"]: one.get("kmsKeyId") for one in stand_in.client("logs").describe_log_groups()["logGroups"]}
    assert {groups[stand_in.physical(name)] for name in ("FunctionLogs", "AccessLogs")} == {key}


# --- a proxy in front -------------------------------------------------------------------------------------------------


def test_the_header_of_a_proxy_reaches_the_function_and_its_secret_does_not():
    for given in ({}, {"ProxyAddressHeader": "CloudFront-Viewer-Address"}):
        function = evaluated(**given).resources["MintFunction"]["Properties"]
        variables = function["Environment"]["Variables"]
        assert variables["PROXY_ADDRESS_HEADER"] == given.get("ProxyAddressHeader", "")
        assert not [name for name in variables if "PROXY_SECRET" in name]
    source = (ROOT / "template.yaml").read_text()
    assert "PROXY_SECRET" not in source and "NoEcho" not in source, "no parameter is a secret"


def test_the_stand_in_answers_through_the_proxy_only(stand_in, simulator):
    stand_in.deploy(OpenAIBaseUrl=f"{simulator}/v1", ProxyAddressHeader="CloudFront-Viewer-Address", KeyTtlSeconds="0")
    secrets, where = stand_in.client("secretsmanager"), stand_in.physical("Secret")
    fields = json.loads(secrets.get_secret_value(SecretId=where)["SecretString"])
    fields = proxy.with_proxy_secret(fields | {"OPENAI_API_KEY": "sk-proj-0123456789-of-the-tests"}, "0a" * 32)
    secrets.put_secret_value(SecretId=where, SecretString=json.dumps(fields))
    host = stand_in.outputs()["TokenUrl"].split("/")[2].split(".")[0] + ".execute-api.localhost"

    def ask(**headers):
        sent = {"Host": host, "CloudFront-Viewer-Address": "2001:db8:1:2::3:443"}
        status, _, text = post(f"{stand_in.endpoint}/token", b"{}", sent | headers)
        return status, json.loads(text).get("code")

    assert ask() == ask(**{"X-Proxy-Secret": "0b" * 32}) == (403, "proxy_required")
    assert ask(**{"X-Proxy-Secret": "0a" * 32}) == (200, None)
    [request] = json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])
    caller = hmac.new(fields["SAFETY_IDENTIFIER_KEY"].encode(), b"address:2001:db8:1:2::", "sha256").hexdigest()
    assert request["safety_identifier"] == caller, "as `make caller ADDRESS=…` prints it"


# --- a budget ---------------------------------------------------------------------------------------------------------


def budget(**parameters):
    """The budget of a deployment, or None."""
    outer = evaluated(**parameters).resources.get("BudgetStack")
    if outer is None:
        return None
    given = outer["Properties"]["Parameters"]
    assert len(given["BudgetName"]) <= permissions.read("infra/budget.yaml")["Parameters"]["BudgetName"]["MaxLength"]
    return Evaluated("infra/budget.yaml", **given).resources["Budget"]["Properties"]


def test_a_budget_sends_a_message_at_80_and_at_100_percent():
    assert budget(AlarmEmail=EMAIL) is None
    by_mail, by_topic = {"SubscriptionType": "EMAIL", "Address": EMAIL}, {"SubscriptionType": "SNS", "Address": TOPIC}
    for given, receivers, name in [
        ({"AlarmEmail": EMAIL}, [by_mail], f"token-mint-eu-west-1-{EMAIL}"),
        ({"AlarmTopicArn": TOPIC}, [by_topic], "token-mint-eu-west-1-on-call"),
        ({"AlarmEmail": EMAIL, "AlarmTopicArn": TOPIC}, [by_mail, by_topic], f"token-mint-eu-west-1-{EMAIL}-on-call"),
    ]:
        found = budget(MonthlyBudgetUsd="25", **given)
        limit = {"Amount": "25", "Unit": "USD"}
        assert found["Budget"] == {
            "BudgetName": name, "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": limit,
        }  # fmt: skip
        sent = found["NotificationsWithSubscribers"]
        assert [one["Notification"]["Threshold"] for one in sent] == [80, 100]
        assert [one["Subscribers"] for one in sent] == [receivers, receivers]
    assert "give AlarmEmail or AlarmTopicArn" in refusals(MonthlyBudgetUsd="25")


def test_a_budget_is_one_that_aws_budgets_takes(start):
    port = free_port()
    start([ROOT / ".venv/ministack/bin/moto_server", "-H", "127.0.0.1", "-p", port], "moto", **NO_AWS_ACCOUNT).wait_for_port(
        port
    )
    session = boto3.Session("test", "test", region_name="eu-west-1")
    budgets = session.client("budgets", endpoint_url=f"http://127.0.0.1:{port}")
    for scope in ("account", "stack"):
        found = budget(MonthlyBudgetUsd="25", AlarmEmail=EMAIL, AlarmTopicArn=TOPIC, BudgetScope=scope)
        # boto3 compares each property with AWS's own model of the request.
        budgets.create_budget(AccountId="123456789012", **found)
        [made] = budgets.describe_budgets(AccountId="123456789012")["Budgets"]
        assert float(made["BudgetLimit"]["Amount"]) == 25 and ("CostFilters" in made) is (scope == "stack")
        named = {"AccountId": "123456789012", "BudgetName": made["BudgetName"]}
        sent = budgets.describe_notifications_for_budget(**named)["Notifications"]
        assert [one["Threshold"] for one in sent] == [80, 100]
        budgets.delete_budget(**named)


def test_a_budget_of_the_stack_counts_its_tag_only():
    of_stack = budget(MonthlyBudgetUsd="25", AlarmEmail=EMAIL, BudgetScope="stack")
    assert of_stack["Budget"]["CostFilters"] == {"TagKeyValue": ["aws:cloudformation:stack-name$token-mint"]}


def test_the_page_names_the_regions_without_budgets():
    section = (ROOT / "docs/operating.md").read_text().split("## A budget\n")[1].split("\n## ")[0]
    providers = pathlib.Path(cfnlint.__file__).parent / "data/schemas/providers"
    schemas = {file.stem: json.loads(file.read_text()) for file in providers.glob("*-*-*.json")}
    lacking = {region for region, types in schemas.items() if "AWS::Budgets::Budget" not in types}
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+-\d)`", section)) == lacking and len(lacking) > 10
