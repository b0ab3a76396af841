"""A build that goes live without CloudFormation."""

from operate import change_set, keeper
from operate.build import Build
from operate.error import CommandError
from operate.release import Base, is_live, next_revision
from operate.versions import archive, record


def update_code(stack, _):
    """Publish the build with the settings of the live version and make it live, without CloudFormation."""
    build = Build()
    change_set.require_idle(stack)
    base = Base(stack)
    build.require(base.values["Architecture"], "update-code")
    if is_live(base.alias, base.template, build.bootstrap, base.values):
        raise CommandError(f"Version {base.alias.live} already has this build. Nothing was changed.")
    revision = next_revision(base.alias, base.template, build.bootstrap, base.values)
    try:
        # The keeper has no versions. It is first, because a new version may write records that the old keeper cannot read.
        if keeper.OUTPUT in stack.outputs and build.keeper:
            replace_keeper(stack, build)
            print("The keeper runs the build.", flush=True)
        published = publish(stack, base, build, revision)
    except KeyboardInterrupt:
        raise CommandError(f"\nInterrupted. Version {base.alias.live} is still live.") from None
    base.alias.move(published)
    print(f"Version {published} with revision {revision} is live; before, it was {base.alias.live}. To return: make rollback.")
    print(f"The next make set or make deploy starts from version {published}.")


def replace_keeper(stack, build):
    """Gives the keeper the code of the build. Its settings stay."""
    name = stack.outputs[keeper.OUTPUT]
    packed = archive(build.keeper)
    stack.functions.update_function_code(FunctionName=name, ZipFile=packed, Architectures=[build.architecture])
    stack.functions.get_waiter("function_updated_v2").wait(FunctionName=name)


def publish(stack, base, build, revision):
    """Publishes the build with the configuration of the live version, which $LATEST may not have, and returns its number."""
    live = base.configuration
    updated = stack.functions.get_waiter("function_updated_v2")
    stack.functions.update_function_configuration(
        FunctionName=stack.function,
        # As SAM writes it. Lambda publishes no version that equals the last one.
        Description=f"{base.template.function['Description']} {revision}",
        Environment={"Variables": live["Environment"]["Variables"]},
        MemorySize=live["MemorySize"],
        Timeout=live["Timeout"],
        TracingConfig={"Mode": live["TracingConfig"]["Mode"]},
    )
    updated.wait(FunctionName=stack.function)
    stack.functions.update_function_code(
        FunctionName=stack.function, ZipFile=archive(build.bootstrap), Architectures=[build.architecture]
    )
    updated.wait(FunctionName=stack.function)
    published = stack.functions.publish_version(FunctionName=stack.function, Description=record(revision, base.alias.live))
    stack.functions.get_waiter("published_version_active").wait(FunctionName=stack.function, Qualifier=published["Version"])
    return published["Version"]
