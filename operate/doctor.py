"""`make doctor`: every check of a deployed stack, one line each."""

import collections
import contextlib

from operate.checks import alarms, api, identity, keeper, logs, quota, role, secret, settings, stack, versions
from operate.checks.check import OK, SKIP, WRONG
from operate.checks.deployed import Deployed
from operate.error import CommandError

CHECKS = [
    identity.identity,
    identity.region,
    stack.state,
    stack.nested_states,
    versions.live,
    versions.unpublished,
    settings.architecture,
    settings.environment,
    settings.log_level,
    settings.pause,
    settings.account_concurrency,
    secret.readable,
    secret.openai_key,
    secret.identifier_key,
    secret.blocked_callers,
    secret.proxy_secret,
    secret.size,
    secret.versions,
    secret.openai,
    api.api,
    api.preflight,
    api.foreign_preflight,
    api.foreign_origin,
    api.sign_in,
    api.token_route,
    api.call_preflight,
    api.call_route,
    api.proxy,
    api.token,
    quota.table,
    role.role,
    logs.function_log,
    logs.access_log,
    keeper.exists,
    keeper.schedule,
    keeper.rounds,
    keeper.role,
    keeper.log,
    keeper.outlived,
    alarms.states,
    alarms.actions,
    alarms.metrics,
    stack.drift,
]


def doctor(environment, _):
    """Check everything about the stack that can be checked without changing it."""
    deployed = Deployed(environment)
    # Drift detection takes longest, so it starts first. The check itself reports a failure.
    with contextlib.suppress(Exception):
        _ = deployed.drift_detections
    found = collections.Counter()
    for check in CHECKS:
        for result in check.results(deployed):
            found[result.state] += 1
            print(f"{result.state:<5} {check.name}: {result.text}", flush=True)
    if found[WRONG]:
        raise CommandError(
            f"{found[WRONG]} wrong, {found[OK]} ok, {found[SKIP]} skipped. docs/operating.md explains each check."
        )
    print(f"Nothing is wrong: {found[OK]} ok, {found[SKIP]} skipped.")
