"""ministack, corrected where the operator's commands depend on AWS's behaviour. Runs in ministack's own environment.

- SAM's transform gets the values of the parameters, so that a new Revision is another version.
- GetFunction returns the code of the version that was asked for.
- Lambda publishes no version whose code and configuration equal those of the last one.
- An update of a stack leaves an alias alone that the update does not change.
- A stack's roles get their permissions boundary, and its topics their key.
- A stack may have an application of CodeDeploy. Its gradual deployments refuse an alias that was moved without
  CloudFormation.
- Generated names differ between Regions. A role's name is unique in the whole account.
- It needs no name for loopback: a minimal Debian has no /etc/hosts.

Files in the folder DEPLOYMENTS control deployments. `hold` keeps a gradual one at 10 % until the file is gone, and `fail` ends it
as an alarm does: the alias returns to the version from before it. `hold-before` and `hold-after` stop one at once, before and
after the alias has moved; it then makes the file `waits`. The file `log` gets a line with the type of every deployment.
"""

import json
import os
import pathlib
import socket
import time

import samtranslator.translator.transform as sam
from ministack.app import main
from ministack.core.responses import get_region
from ministack.services import iam, lambda_svc, sns
from ministack.services.cloudformation import _stacks, changesets, engine, handlers, provisioners, stacks

DEPLOYMENTS = pathlib.Path(os.environ["DEPLOYMENTS"])

LOOPBACK = "127.0.0.1"

parameter_values = {}
translate, apply_transforms = sam.transform, engine._apply_transforms
get_function, serve_function_code = lambda_svc._get_function, lambda_svc.serve_function_code
addresses_of = socket.getaddrinfo
runs_on_worker_thread = stacks._runs_on_worker_thread
update_alias, publish = provisioners._lambda_alias_update, provisioners._lambda_version_create
physical_name = provisioners._physical_name
# Of each version that a stack published, and of the function's configuration.
published, CONTENT = {}, ("CodeSha256", "Description", "Environment", "MemorySize", "Timeout", "TracingConfig", "Architectures")


def addresses_with_localhost(host, *arguments, **options):
    return addresses_of(LOOPBACK if host == "localhost" else host, *arguments, **options)


def transform_with_values(template, _, loader):
    return translate(template, dict(parameter_values), loader)


def apply_transforms_with_values(template, provided=None, previous=None):
    parameter_values.clear()
    parameter_values.update(engine._transform_parameters(template, provided, previous))
    return apply_transforms(template, provided, previous)


def get_function_of_version(name, qualifier=None):
    status, headers, body = get_function(name, qualifier)
    answer = json.loads(body)
    if status == 200:
        location = answer["Code"]["Location"].replace(f"/{name}?", f"/{name}@{answer['Configuration']['Version']}?")
        answer["Code"]["Location"] = location.replace("://localhost:", f"://{LOOPBACK}:")
    return status, headers, json.dumps(answer).encode()


def serve_code_of_version(name, account_id=None, region=None):
    name, _, version = name.partition("@")
    found = lambda_svc._functions.get_scoped(account_id, region, name)
    if version in found["versions"]:
        return 200, {"Content-Type": "application/zip"}, found["versions"][version]["code_zip"]
    return serve_function_code(name, account_id, region)


def create_version(logical_id, properties, stack_name):
    function, name = provisioners._lambda_version_function(properties)
    content = {key: function["config"].get(key) for key in CONTENT}
    latest = max(function["versions"], key=int, default=None)
    if latest and published.get((name, latest)) == content:
        raise ValueError(
            f"A version for this Lambda function exists ( {latest} ). Modify the function to create a new version."
        )
    arn, attributes = publish(logical_id, properties, stack_name)
    published[name, attributes["Version"]] = content
    return arn, attributes


def deploy_alias(physical_id, old, new, stack_name, logical_id=None):
    if old == new:
        return physical_id, {"AliasArn": physical_id}
    stack = _stacks[stack_name]
    kind = next(one["ParameterValue"] for one in stack["Parameters"] if one["ParameterKey"] == "DeploymentType")
    rolls_back = "ROLLBACK" in stack["StackStatus"]
    if not rolls_back:
        with (DEPLOYMENTS / "log").open("a") as log:
            log.write(f"{kind}\n")
        if kind != "AllAtOnce":
            shift_gradually(physical_id, old, new)
        hold("hold-before")
    updated = update_alias(physical_id, old, new, stack_name, logical_id)
    if not rolls_back:
        hold("hold-after")
    return updated


def hold(name):
    while (DEPLOYMENTS / name).exists():
        (DEPLOYMENTS / "waits").touch()
        time.sleep(0.05)
    (DEPLOYMENTS / "waits").unlink(missing_ok=True)


def shift_gradually(arn, old, new):
    function, name = arn.split(":")[6:8]
    alias = lambda_svc._functions[function]["aliases"][name]
    if alias["FunctionVersion"] != old["FunctionVersion"] or alias.get("RoutingConfig"):
        raise ValueError("The Lambda function alias version does not match the current version in AppSpec file")
    lambda_svc._update_alias(function, name, {"RoutingConfig": {"AdditionalVersionWeights": {new["FunctionVersion"]: 0.1}}})
    hold("hold")
    failed = (DEPLOYMENTS / "fail").exists()
    before = {"FunctionVersion": old["FunctionVersion"]} if failed else {}
    lambda_svc._update_alias(function, name, {"RoutingConfig": {"AdditionalVersionWeights": {}}} | before)
    if failed:
        raise ValueError("One or more alarms have been activated according to the Amazon CloudWatch metrics you selected")


def name_in_region(*arguments, **options):
    reset = provisioners._NAME_SEED.set(provisioners._NAME_SEED.get() + get_region())
    try:
        return physical_name(*arguments, **options)
    finally:
        provisioners._NAME_SEED.reset(reset)


def with_more(kind, complete):
    """Completes a resource after ministack has created or updated it."""
    handler = provisioners._RESOURCE_HANDLERS[kind]
    create, update = handler["create"], handler["update"]

    def create_more(logical_id, properties, stack_name):
        made = create(logical_id, properties, stack_name)
        complete(made[0], properties)
        return made

    def update_more(physical_id, old, new, stack_name, logical_id=None):
        made = update(physical_id, old, new, stack_name, logical_id)
        complete(made[0], new)
        return made

    handler |= {"create": create_more, "update": update_more}


def set_boundary(role, properties):
    iam._roles[role]["PermissionsBoundary"] = properties.get("PermissionsBoundary")


def set_key(topic, properties):
    sns._topics[topic]["attributes"]["KmsMasterKeyId"] = properties.get("KmsMasterKeyId", "")


def make_nothing(logical_id, _, stack_name):
    return f"{stack_name}-{logical_id}", {}


def keep(physical_id, *_, **__):
    return physical_id, {}


socket.getaddrinfo = addresses_with_localhost
sam.transform = transform_with_values
engine._apply_transforms = changesets._apply_transforms = handlers._apply_transforms = apply_transforms_with_values
lambda_svc._get_function = get_function_of_version
lambda_svc.serve_function_code = serve_code_of_version
stacks._runs_on_worker_thread = lambda kind: kind == "AWS::Lambda::Alias" or runs_on_worker_thread(kind)
provisioners._RESOURCE_HANDLERS["AWS::Lambda::Alias"]["update"] = deploy_alias
provisioners._RESOURCE_HANDLERS["AWS::Lambda::Version"]["create"] = create_version
provisioners._physical_name = name_in_region
with_more("AWS::IAM::Role", set_boundary)
with_more("AWS::SNS::Topic", set_key)
for kind in ("Application", "DeploymentGroup"):
    provisioners._RESOURCE_HANDLERS[f"AWS::CodeDeploy::{kind}"] = {
        "create": make_nothing,
        "update": keep,
        "delete": lambda *_: None,
    }
main()
