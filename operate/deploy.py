"""Deployments: of a build through SAM, and of parameters alone through a change set."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from operate import change_set, keeper, parameters, published, sam
from operate.build import Build
from operate.error import CommandError
from operate.release import AT_ONCE, Base, marks, require_live
from operate.template import REPLACED_VERSION, REVISION, SET_BY_COMMANDS
from operate.versions import bootstrap_of


def deploy(stack, asked):
    """Deploy the build, with the values that the stack has now and those in PARAMETERS."""
    if any(option.startswith("--parameter-overrides") for option in asked.options):
        raise CommandError('Give parameters as PARAMETERS="Name=value …", not in FLAGS. Nothing was changed.')
    configured = parameters.configured(stack.environment)
    source = os.environ.get("FROM")
    if source:
        wanted = (
            parameters.written().get("Architecture") or stack.parameters.get("Architecture") or configured.get("Architecture")
        )
        build = Build(published.prepare(source, wanted))
    else:
        build = Build()
    given = parameters.given(build.template)
    if "Architecture" in given:
        build.require(given["Architecture"], "deploy")
    chosen = given | {"Architecture": build.architecture}
    if "FunctionName" in stack.outputs:
        change_set.require_idle(stack)
        base = Base(stack)
        kept = base.values
        require_same_secret(build.template, base.template)
    else:
        base, kept = None, {}
    known = build.template.parameters
    values = build.template.defaults() | configured | kept | chosen
    values = {name: value for name, value in values.items() if name in known and name not in SET_BY_COMMANDS}

    sam.check_length(stack.name, values["ConnectionArn"])
    keeper.require_none(stack, build.template, values)
    if base:
        marked = marks(base, build.template, build.bootstrap, values)
        base.explain()
    else:
        marked = {REVISION: build.template.revision(build.bootstrap, values, 0), REPLACED_VERSION: "none"}
    print(f"Build of {build.time:%Y-%m-%d %H:%M} for {build.architecture}, revision {marked[REVISION]}.")
    warn_of_ignored(configured, values, kept, chosen, stack.environment.name)
    ends_calls = keeper.is_deleted_by(stack, build.template, values)
    if ends_calls and not change_set.confirmed(question_about_calls(values)):
        raise CommandError("Nothing was changed.")
    if base and base.needs_step(values):
        print("The deployment is gradual, so it needs two steps.")
        if not change_set.confirmed("Start with the first one?"):
            raise CommandError("Nothing was changed.")
        base.record_live_version()
        base = Base(stack)
        marked = marks(base, build.template, build.bootstrap, values)
        print(f"Step 2 of 2: the build, revision {marked[REVISION]}.", flush=True)

    if ends_calls:
        keeper.end_all(stack, closed_seconds(values), "The build was not deployed.")
    folder = stack.name
    if base and base.code_differs and marked[REVISION] != base.alias.revision:
        # Under the old name CloudFormation would take the code for deployed, and publish the code of update-code instead.
        folder = f"{stack.name}/{marked[REVISION]}"
    run_sam(stack, asked, build, values | marked, folder)
    require_live(stack, marked[REVISION])


def closed_seconds(values):
    """For how long no call may begin when an update with these values deletes the keeper."""
    gradual = values.get("DeploymentType", AT_ONCE) != AT_ONCE
    return keeper.CLOSED_SECONDS_FOR_GRADUAL_UPDATE if gradual else keeper.CLOSED_SECONDS_FOR_UPDATE


def question_about_calls(values):
    return f"This deletes the keeper. End all calls, and let none begin for {closed_seconds(values) // 60} minutes?"


def require_same_secret(template, deployed):
    """Refuses a template with which CloudFormation would overwrite the OpenAI key, also where no stack policy does."""
    changed = template.secret_changes(deployed)
    if changed:
        raise CommandError(
            f"The build changes the resource Secret ({', '.join(sorted(changed))}), and CloudFormation would then overwrite the "
            "OpenAI key, the identifier key and the block list. Restore Secret in template.yaml and run `make build`. Nothing was "
            "changed."
        )


def warn_of_ignored(configured, values, kept, chosen, environment):
    """Names the values in samconfig.toml that the stack's own values replace."""
    for name, value in configured.items():
        if name in kept and name not in chosen and values.get(name) not in (None, value):
            print(f"samconfig.toml has {name}={value}, but the stack has {name}={values[name]}, which stays. To change it:")
            named = "" if environment == "default" else f"ENV={environment} "
            print(f'  make set {named}PARAMETERS="{parameters.as_words({name: value})}"')


def run_sam(stack, asked, build, values, folder):
    """Runs `sam deploy`, which deploys the build, with all values of the parameters, which replace those in samconfig.toml."""
    with tempfile.TemporaryDirectory() as temporary:
        file = pathlib.Path(temporary, "parameters.yaml")
        file.write_text(parameters.for_sam(values))
        role = os.environ.get("DEPLOY_ROLE_ARN")
        options = [
            # SAM looks for samconfig.toml beside the template.
            *(
                "--template-file",
                str(build.folder / "template.yaml"),
                "--config-file",
                str(pathlib.Path("samconfig.toml").resolve()),
            ),
            *("--s3-prefix", folder),
            *("--parameter-overrides", f"file://{file}"),
            *(["--role-arn", role] if role else []),
            *(["--no-confirm-changeset"] if os.environ.get("CI") else []),
            *asked.options,
        ]
        sys.stdout.flush()
        words, variables = sam.prepared(stack.environment, "deploy", options)
        try:
            ended = subprocess.run(words, env=variables).returncode
        except KeyboardInterrupt:
            raise CommandError(
                "\nInterrupted. If the update had begun, CloudFormation continues it. `make versions` shows which version is "
                "live, and `make rollback` stops the update."
            ) from None
    if ended:
        raise CommandError("The deployment failed, for the reason above. `make versions` shows which version is live.")


def set_parameters(stack, _):
    """Change parameters of the deployed stack, without a build."""
    change_set.require_idle(stack)
    base = Base(stack)
    given = parameters.given(base.template)
    if not given:
        raise CommandError('No parameter was given. Write make set PARAMETERS="Name=value …". Nothing was changed.')
    before, live = base.recorded, base.values
    if given.get("Architecture", live["Architecture"]) != live["Architecture"]:
        wanted = f"PARAMETERS=Architecture={given['Architecture']}"
        raise CommandError(
            f"The deployed code is for {live['Architecture']}. Run `make build {wanted}` and `make deploy {wanted}`. "
            "Nothing was changed."
        )
    changed = {name for name, value in given.items() if value != before[name] or value != live[name]}
    if not changed:
        print("Nothing to change: the stack already has these values.")
        return
    sam.check_length(stack.name, given.get("ConnectionArn"))
    releases = bool(changed & base.template.versioned())
    values = (live if releases else before) | given
    keeper.require_none(stack, base.template, values)
    if releases:
        base.explain()
    print("\n".join(parameters.changes(before, values)))
    if not releases:
        print(f"These parameters are not part of a version, so version {base.alias.live} stays live.")
    elif not base.template.publishes_revisions:
        raise CommandError(
            "The deployed template is of an earlier release, which make set cannot change. Run `make build` and `make deploy` "
            "with these PARAMETERS. Nothing was changed."
        )
    gradual = releases and base.needs_step(values)
    if gradual:
        print("The deployment is gradual, so it needs two steps.")
    ends_calls = keeper.is_deleted_by(stack, base.template, values)
    if ends_calls:
        print(
            f"It deletes the keeper, so it ends all calls first, and no call begins for {closed_seconds(values) // 60} minutes."
        )
    if not change_set.confirmed("Deploy this change?"):
        raise CommandError("Nothing was changed.")

    if not releases:
        change_set.update(stack, base.template, values, f"set-{time.time():.0f}")
        print(f"The parameters are set. Version {base.alias.live} is live.")
        return
    if gradual:
        base.record_live_version()
        base = Base(stack)
        print("Step 2 of 2: the change.", flush=True)
    if ends_calls:
        keeper.end_all(stack, closed_seconds(values), "The change was not deployed.")
    if base.alias.moved or base.code_differs:
        template, marked = base.with_live_code(values)
    else:
        template = base.template
        marked = marks(base, template, bootstrap_of(base.alias.archive()), values)
    change_set.update(stack, template, values | marked, f"set-{marked[REVISION]}")
    require_live(stack, marked[REVISION])
