"""The permissions that CloudFormation needs for the resources of a deployment: of template.yaml and of what is nested in it.

Two sources, both as the locked cfn-lint carries them: the handlers in CloudFormation's resource schemas name the actions, and
AWS's service authorization reference says which kind of resource an action is checked against. SAM's own transform says which
resources there are.
"""

import copy
import dataclasses
import fnmatch
import functools
import json
import os
import pathlib

import cfnlint
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from samtranslator.parser.parser import Parser
from samtranslator.sdk.parameter import SamParameterValues
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from estimate.template import ROOT

REGION = "us-east-1"
VERBS = ("create", "read", "update", "delete")
NESTED = {
    "BudgetStack": "infra/budget.yaml",
    "DashboardStack": "infra/dashboard.yaml",
    "PipelineStack": "infra/pipeline.yaml",
}

# Where SAM uploads to. All SAM stacks of a Region share the bucket, and each has its folder.
UPLOADS = "arn:aws:s3:::aws-sam-cli-managed-default-*/{stack}/*"

FUNCTION = "arn:aws:lambda:*:*:function:{stack}-MintFunction-*"
KEEPER = "arn:aws:lambda:*:*:function:{stack}-KeeperFunction-*"
GROUP = "arn:aws:codedeploy:*:*:deploymentgroup:{stack}-ServerlessDeploymentApplication-*"
APPLICATION = "arn:aws:codedeploy:*:*:application:{stack}-ServerlessDeploymentApplication-*"
# How AWS's own gradual deployments go.
CONFIGURATION = "arn:aws:codedeploy:*:*:deploymentconfig:CodeDeployDefault.*"
API = "arn:aws:apigateway:*::/apis/{api}"
DOMAIN = "arn:aws:apigateway:*::/domainnames/{domain}"
TAGS = "arn:aws:apigateway:*::/tags/*%2Fapis%2F{api}*"
BUILD_ROLE = "arn:aws:iam::*:role/{stack}-PipelineStack-*-BuildRole-*"
# A connection has an ID of AWS's choice.
CONNECTION = "arn:aws:codeconnections:*:*:connection/*"

# The ARNs that each type's handlers reach, by the reference's names for kinds of resources, most particular first. {parent} is
# the name of the stack that the resource is in: the stack's own, or that of a nested one. A kind that is missing here belongs to
# a feature that the template does not use, such as a key in KMS.
REACH = {
    "AWS::ApiGatewayV2::Api": {"Api": API, "Apis": "arn:aws:apigateway:*::/apis", "Tags": TAGS},
    "AWS::ApiGatewayV2::ApiMapping": {"ApiMapping": f"{DOMAIN}/apimappings/*", "ApiMappings": f"{DOMAIN}/apimappings"},
    "AWS::ApiGatewayV2::Authorizer": {"Authorizer": f"{API}/authorizers/*", "Authorizers": f"{API}/authorizers"},
    "AWS::ApiGatewayV2::DomainName": {
        "DomainName": DOMAIN,
        "DomainNames": "arn:aws:apigateway:*::/domainnames",
        "Tags": "arn:aws:apigateway:*::/tags/*%2Fdomainnames%2F{domain}",
    },
    "AWS::ApiGatewayV2::Integration": {"Integration": f"{API}/integrations/*", "Integrations": f"{API}/integrations"},
    "AWS::ApiGatewayV2::Route": {"Route": f"{API}/routes/*", "Routes": f"{API}/routes"},
    "AWS::ApiGatewayV2::Stage": {"Stage": f"{API}/stages/*", "Stages": f"{API}/stages", "Tags": TAGS},
    "AWS::Budgets::Budget": {
        "budget": "arn:aws:budgets::*:budget/{stack}-{region}-*",
        "billingview": "arn:aws:billing::*:billingview/*",
    },
    "AWS::CloudFormation::Stack": {"stack": "arn:aws:cloudformation:*:*:stack/{parent}-{name}-*/*"},
    "AWS::CloudWatch::Alarm": {"alarm": "arn:aws:cloudwatch:*:*:alarm:{parent}-{name}-*"},
    "AWS::CloudWatch::Dashboard": {"dashboard": "arn:aws:cloudwatch::*:dashboard/{stack}-{region}"},
    "AWS::CodeBuild::Project": {
        "project": "arn:aws:codebuild:*:*:project/{stack}",
        "role": BUILD_ROLE,
        "Connection": CONNECTION,
    },
    "AWS::CodeDeploy::Application": {"application": APPLICATION},
    "AWS::CodeDeploy::DeploymentGroup": {
        "deploymentgroup": GROUP,
        "application": APPLICATION,
        "deploymentconfig": CONFIGURATION,
        "role": "arn:aws:iam::*:role/{stack}-CodeDeployServiceRole-*",
    },
    "AWS::DynamoDB::Table": {"table": "arn:aws:dynamodb:*:*:table/{parent}-{name}-*"},
    "AWS::Events::Rule": {"rule-on-default-event-bus": "arn:aws:events:*:*:rule/{parent}-{name}-*"},
    "AWS::IAM::Policy": {"role": BUILD_ROLE},
    "AWS::IAM::Role": {"role": "arn:aws:iam::*:role/{parent}-{name}-*"},
    "AWS::Lambda::Alias": {
        "function": FUNCTION,
        "function alias": FUNCTION,
        "deploymentgroup": GROUP,
        "deploymentconfig": CONFIGURATION,
    },
    "AWS::Lambda::EventInvokeConfig": {"function": KEEPER},
    "AWS::Lambda::Function": {
        "function": FUNCTION,
        "role": "arn:aws:iam::*:role/{stack}-MintRole-*",
        "object": UPLOADS,
    },
    "AWS::Lambda::Permission": {"function": FUNCTION},
    "AWS::Lambda::Version": {"function": FUNCTION, "function version": FUNCTION},
    "AWS::Logs::LogGroup": {"log-group": "arn:aws:logs:*:*:log-group:{parent}-{name}-*"},
    "AWS::Logs::QueryDefinition": {},
    "AWS::Route53::RecordSet": {
        "hostedzone": "arn:aws:route53:::hostedzone/{zone}",
        "change": "arn:aws:route53:::change/*",
    },
    "AWS::SNS::Topic": {"topic": "arn:aws:sns:*:*:{parent}-{name}-*"},
    # CloudFormation leaves the stack's name out of a secret's.
    "AWS::SecretsManager::Secret": {"Secret": "arn:aws:secretsmanager:*:*:secret:{name}-*"},
}

# A resource that is not named by CloudFormation, or that reaches others than the rest of its type.
NAMED = {
    "AccessLogs": {"log-group": "arn:aws:logs:*:*:log-group:/aws/vendedlogs/{stack}/*"},
    "FailedBuildsAlarm": {"alarm": "arn:aws:cloudwatch:*:*:alarm:{stack}-FailedBuildsAlarm"},
    "KeeperFunction": {"function": KEEPER, "role": "arn:aws:iam::*:role/{stack}-KeeperRole-*"},
    "ScheduleMayInvoke": {"function": KEEPER},
}

# The schema of this type names no permissions. These are CodeBuild's own operations on a project and its webhook, the role that
# is passed to it, and the connection that the webhook is made through.
WITHOUT_HANDLERS = {
    "AWS::CodeBuild::Project": {
        "create": [
            "codebuild:CreateProject",
            "codebuild:CreateWebhook",
            "codeconnections:GetConnection",
            "codeconnections:GetConnectionToken",
            "codeconnections:PassConnection",
            "codeconnections:UseConnection",
            "codestar-connections:GetConnection",
            "codestar-connections:GetConnectionToken",
            "codestar-connections:PassConnection",
            "codestar-connections:UseConnection",
            "iam:PassRole",
        ],
        "read": ["codebuild:BatchGetProjects"],
        "update": ["codebuild:UpdateProject", "codebuild:UpdateWebhook", "iam:PassRole"],
        "delete": ["codebuild:DeleteProject", "codebuild:DeleteWebhook"],
    }
}

# Permissions that a deployment needs and that no handler names, by action: the resource, and the reason.
TRANSFORM = "arn:aws:cloudformation:*:aws:transform/Serverless-2016-10-31"
BESIDES = {
    "cloudformation:CreateChangeSet": (TRANSFORM, "SAM's transform counts as a change set of AWS's"),
    # docs.aws.amazon.com/apigateway/latest/developerguide/http-api-logging.html lists these for an access log.
    "logs:DeleteLogDelivery": ("*", "API Gateway ends the delivery of the access log"),
    "logs:GetLogDelivery": ("*", "API Gateway reads the delivery of the access log"),
    "logs:ListLogDeliveries": ("*", "API Gateway reads the delivery of the access log"),
    "logs:UpdateLogDelivery": ("*", "API Gateway changes the delivery of the access log"),
}

# Features that the template does not use, and the permissions that only they need: the reason, the types (and resources) that it
# holds for, and the actions. Neither the pipeline's role nor the policies for a deployment by hand have these permissions.
UNUSED = [
    ("The template writes its routes out instead of importing an OpenAPI document from S3.", "*::Api *", ["s3:getObject"]),
    ("An update of an integration or a route is a PATCH.", "AWS::ApiGatewayV2::[IR]* *", ["apigateway:PUT"]),
    ("An update of a mapping of the domain is a PATCH.", "AWS::ApiGatewayV2::ApiMapping *", ["apigateway:PUT"]),
    ("The domain requires no client certificates, so it has no trust store in S3.", "AWS::ApiGatewayV2::DomainName *",
     ["s3:GetObject", "s3:GetObjectVersion"]),
    ("An update of an authorizer is a PATCH.", "AWS::ApiGatewayV2::Authorizer *", ["apigateway:PUT"]),
    ("API Gateway invokes the function by the function's own policy, and no JWT authorizer has a role.",
     "AWS::ApiGatewayV2::*", ["iam:PassRole"]),
    ("The nested stacks are deployed with the outer stack's role.", "AWS::CloudFormation::Stack *", ["iam:PassRole"]),
    ("CloudFormation does not protect nested stacks, and they have no stack policy.", "AWS::CloudFormation::Stack *",
     ["cloudformation:SetStackPolicy", "cloudformation:UpdateTerminationProtection"]),
    ("CodeDeploy deploys to Lambda only.", "AWS::CodeDeploy::*", ["codedeploy:RegisterOnPremisesInstance"]),
    ("The table is not imported from S3.", "AWS::DynamoDB::*", [
        "dynamodb:DescribeImport", "dynamodb:ImportTable", "logs:CreateLogGroup", "logs:CreateLogStream",
        "logs:DescribeLogStreams", "logs:PutLogEvents", "logs:PutRetentionPolicy", "s3:GetObject", "s3:GetObjectMetadata",
        "s3:ListBucket",
    ]),
    ("The table has no replica in another Region.", "AWS::DynamoDB::*", [
        "dynamodb:AssociateTableReplica", "dynamodb:BatchWriteItem", "dynamodb:CreateTableReplica", "dynamodb:DeleteItem",
        "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:UpdateItem",
        "iam:CreateServiceLinkedRole",
    ]),
    ("The table has no stream to Kinesis.", "AWS::DynamoDB::*", [
        "dynamodb:DisableKinesisStreamingDestination", "dynamodb:EnableKinesisStreamingDestination",
        "dynamodb:UpdateKinesisStreamingDestination", "kinesis:DescribeStream", "kinesis:PutRecords",
    ]),
    ("The table has no contributor insights.", "AWS::DynamoDB::*", ["dynamodb:UpdateContributorInsights"]),
    ("The table has no policy of its own.", "AWS::DynamoDB::*", ["dynamodb:DeleteResourcePolicy", "dynamodb:PutResourcePolicy"]),
    ("AWS's own keys encrypt the table and the function's variables.", "*", ["kms:*"]),
    ("The schedule invokes the keeper by the function's own policy, so it has no role.", "AWS::Events::Rule *", ["iam:PassRole"]),
    ("The policy belongs to a role, not to a user or a group.", "AWS::IAM::Policy *", [
        "iam:DeleteGroupPolicy", "iam:DeleteUserPolicy", "iam:GetGroupPolicy", "iam:GetUserPolicy", "iam:PutGroupPolicy",
        "iam:PutUserPolicy",
    ]),
    ("iam:GetRole returns a role's tags.", "AWS::IAM::Role *", ["iam:ListRoleTags"]),
    ("No concurrency is provisioned.", "AWS::Lambda::*",
     ["lambda:DeleteProvisionedConcurrencyConfig", "lambda:PutProvisionedConcurrencyConfig"]),
    ("SAM names the uploaded code by its hash, without a version.", "AWS::Lambda::Function *", ["s3:GetObjectVersion"]),
    ("The function is not in a VPC.", "AWS::Lambda::Function *", ["ec2:Describe*"]),
    ("The function mounts no file system.", "AWS::Lambda::Function *",
     ["elasticfilesystem:DescribeMountTargets", "s3files:ListMountTargets"]),
    ("The function's code is not signed.", "AWS::Lambda::Function *", [
        "lambda:DeleteFunctionCodeSigningConfig", "lambda:GetCodeSigningConfig", "lambda:PutFunctionCodeSigningConfig",
    ]),
    ("The function has no layers.", "AWS::Lambda::Function *", ["lambda:GetLayerVersion"]),
    ("The function has AWS's default runtime management and loop detection, and no capacity provider.", "AWS::Lambda::*", [
        "lambda:AssociateRuntimeAlias", "lambda:PassCapacityProvider", "lambda:PutFunctionRecursionConfig",
        "lambda:PutFunctionScalingConfig", "lambda:PutRuntimeManagementConfig",
    ]),
    ("The log groups have no data protection policy, and none is delivered to S3 or Firehose.", "AWS::Logs::LogGroup *", [
        "firehose:TagDeliveryStream", "logs:DeleteDataProtectionPolicy", "logs:PutDataProtectionPolicy", "s3:REST.PUT.OBJECT",
    ]),
    ("The log groups have no field index, no bearer token and no protection from deletion.", "AWS::Logs::LogGroup *", [
        "logs:DeleteIndexPolicy", "logs:PutBearerTokenAuthentication", "logs:PutIndexPolicy",
        "logs:PutLogGroupDeletionProtection",
    ]),
    ("The log groups have no policy of their own.", "AWS::Logs::LogGroup *", ["logs:DeleteResourcePolicy"]),
    ("The topic logs no deliveries, so it has no role, and it has no data protection policy.", "AWS::SNS::Topic *",
     ["iam:GetRole", "iam:PassRole", "sns:PutDataProtectionPolicy"]),
    ("The secret has no replica in another Region.", "AWS::SecretsManager::Secret *",
     ["secretsmanager:RemoveRegionsFromReplication", "secretsmanager:ReplicateSecretToRegions"]),
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Need:
    """One permission that CloudFormation needs for one resource of the deployment."""

    name: str  # the resource's logical name
    type: str
    verb: str  # one of VERBS, or tagging
    action: str
    resource: str | None  # an ARN with wildcards, * for an action without resources, None if the template has no such resource

    def matches(self, which, actions):
        """Whether an entry of a table like UNUSED is about this need."""
        return fnmatch.fnmatchcase(f"{self.type} {self.name}", which) and any(
            fnmatch.fnmatchcase(self.action, a) for a in actions
        )

    @property
    def unused(self):
        return any(self.matches(which, actions) for _, which, actions in UNUSED)


def read(path):
    return yaml_parse((ROOT / path).read_text())


def transformed(template=None, **parameters):
    """The resources of template.yaml, or of a changed copy of it, after SAM's transform, those under a condition included."""
    template = copy.deepcopy(template) if template else read("template.yaml")
    for name in NESTED:
        # SAM's transform would look for the nested template. It becomes a stack of CloudFormation's.
        template["Resources"][name]["Type"] = "AWS::CloudFormation::Stack"
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    given = {name: parameter["Default"] for name, parameter in template["Parameters"].items()} | parameters
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    values = SamParameterValues(given)
    values.add_default_parameter_values(template)
    return Translator({}, Parser()).translate(template, values.parameter_values)["Resources"]


def deployed():
    """Name, type and stack of every resource: gradual deployments on, the dashboard and the pipeline included."""
    for name, resource in transformed(DeploymentType="Canary10Percent5Minutes").items():
        yield name, resource["Type"], "{stack}"
    for nested, path in NESTED.items():
        for name, resource in read(path)["Resources"].items():
            yield name, resource["Type"], f"{{stack}}-{nested}-*"


# Actions that AWS checks and that its reference does not list: API Gateway refuses to create a stage with tags without the first
# (aws-amplify/amplify-cli issue 12316, cloudtools/awacs issue 254).
UNLISTED = {"apigateway:tagresource": ["Stages", "Stage"], "apigateway:untagresource": ["Stage"]}


@functools.cache
def reference():
    """AWS's service authorization reference: the kinds of resources that each action is checked against."""
    return json.loads((pathlib.Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text())


def kinds(action):
    """The kinds of resources that an action is checked against; None if AWS does not know the action."""
    if action.lower() in UNLISTED:
        return UNLISTED[action.lower()]
    service, _, name = action.lower().partition(":")
    found = reference().get(service, {}).get("Actions", {}).get(name)
    return None if found is None else found.get("Resources", [])


def target(name, type_, parent, verb, action):
    known = kinds(action)
    if known is None:
        return None
    if not known:
        return "*"
    reach = REACH[type_] | NAMED.get(name, {})
    reached = [kind for kind in reach if kind in known]
    if "Tags" in reached:
        # API Gateway checks the tags of a resource at a path of their own. Of a domain, PUT is for its tags only.
        others = [kind for kind in reached if kind != "Tags"]
        reached = ["Tags"] if verb == "tagging" or not others else others
    if not reached:
        return None
    return reach[reached[0]].replace("{parent}", parent).replace("{name}", name)


def handlers(type_):
    """The actions that a type's handlers need, by verb."""
    if type_ in WITHOUT_HANDLERS:
        return WITHOUT_HANDLERS[type_]
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, type_).schema
    found = {verb: schema["handlers"].get(verb, {}).get("permissions", []) for verb in VERBS}
    return found | {"tagging": schema.get("tagging", {}).get("permissions", [])}


@functools.cache
def needs():
    return [
        Need(name, type_, verb, action, target(name, type_, parent, verb, action))
        for name, type_, parent in deployed()
        for verb, actions in handlers(type_).items()
        for action in dict.fromkeys(actions)
    ]
