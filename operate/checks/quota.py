"""The table that counts tokens against the quotas. function/src/admission/counter.rs writes its items."""

import datetime

from operate.checks.check import CREATE_AGAIN, check, ok, wrong

KEY, EXPIRES, COUNT = "id", "expires", "day"
# function/src/calls/account.rs: a slot's text begins with the time until which it is taken, in ten digits.
SLOT, SECONDS, DIGITS = "slot", "seconds", 10


@check("quota table", "cloudformation:ListStackResources", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive")
def table(deployed):
    name = deployed.physical_id("QuotaTable")
    client = deployed.client("dynamodb")
    found = client.describe_table(TableName=name)["Table"]
    ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    keys = [(part["AttributeName"], part["KeyType"]) for part in found["KeySchema"]]
    types = {part["AttributeName"]: part["AttributeType"] for part in found["AttributeDefinitions"]}
    billing = found.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    faults = []
    if found["TableStatus"] != "ACTIVE":
        remedy = "Wait if it is being changed; otherwise see the DynamoDB console"
        faults.append(wrong(f"its state is {found['TableStatus']}, not ACTIVE", remedy))
    if keys != [(KEY, "HASH")] or types.get(KEY) != "S":
        faults.append(wrong(f"its key is not the text {KEY} alone, so no token can be counted", f"Delete it. {CREATE_AGAIN}"))
    if ttl["TimeToLiveStatus"] not in ("ENABLED", "ENABLING") or ttl.get("AttributeName") != EXPIRES:
        setting = f'"Enabled=true,AttributeName={EXPIRES}"'
        command = f"aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification {setting}"
        faults.append(wrong("items of past days are never deleted: time to live is off", f"Run `{command}`"))
    if billing != "PAY_PER_REQUEST":
        command = f"aws dynamodb update-table --table-name {name} --billing-mode PAY_PER_REQUEST"
        faults.append(wrong("its capacity is provisioned, so a rush is throttled and gets no tokens", f"Run `{command}`"))
    yield from faults or [ok(f"{name}, on demand, items of past days are deleted")]


def item(deployed, name):
    asked = {"TableName": deployed.physical_id("QuotaTable"), "Key": {KEY: {"S": name}}, "ConsistentRead": True}
    return deployed.client("dynamodb").get_item(**asked).get("Item", {})


def minted_today(deployed):
    """The tokens of all callers since midnight UTC, as the item of everyone counts them: with those that instances keep."""
    found = item(deployed, f"everyone/{datetime.datetime.now(datetime.UTC):%Y-%m-%d}")
    return int(found.get(COUNT, {}).get("N", 0))


def calls_now(deployed):
    """The calls of all callers that are open or booked, and their minutes since midnight UTC: booked for these, used by others."""
    found, now = item(deployed, "calls/everyone"), datetime.datetime.now(datetime.UTC)
    texts = [value.get("S", "") for name, value in found.items() if name.startswith(SLOT)]
    taken = sum(text[:DIGITS] >= f"{int(now.timestamp()):0{DIGITS}}" for text in texts)
    return taken, -(-int(found.get(f"{SECONDS} {now:%Y-%m-%d}", {}).get("N", 0)) // 60)
