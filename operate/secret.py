"""The secret of a stack: read, and changed without losing the changes of other commands."""

import contextlib
import datetime
import fcntl
import json
import random
import time
import uuid

import botocore.exceptions

from operate import contents
from operate.error import CommandError

# The maximum length of a secret in Secrets Manager, in bytes.
MAXIMUM_BYTES = 65_536
# How long a change is tried again while other commands change the secret.
RETRY_SECONDS = 60


class Fields(dict):
    """The fields of a secret, and its ARN, from which the function derives identifiers if no field has a key for them."""

    def __init__(self, fields, arn):
        super().__init__(fields)
        self.arn = arn


def read(stack):
    """The secret's fields."""
    return read_version(stack)[1]


def read_version(stack):
    """The ID of the secret's current version, and its fields."""
    found = stack.secrets.get_secret_value(SecretId=stack.secret)
    return found["VersionId"], Fields(editable(parse(found.get("SecretString"))), found.get("ARN", stack.secret))


def parse(text):
    """The fields of a secret's text. A secret in plain text is the OpenAI key alone, as it is for the function."""
    if text is None:
        raise CommandError("The secret is binary, and the function cannot read it. Store text in it in the AWS console.")
    try:
        return contents.fields(text)
    except contents.Unusable:
        raise CommandError("The secret begins with {, but is not JSON. Fix it in the AWS console.") from None


def editable(fields):
    """The fields as the commands store them: the key without quotation marks, and a block list in text as a list."""
    fields = dict(fields)
    with contextlib.suppress(contents.Unusable):
        fields[contents.KEY_FIELD] = contents.key(fields)
    blocked, readable = contents.blocked(fields)
    if readable and isinstance(fields.get(contents.BLOCKED_FIELD), str):
        fields[contents.BLOCKED_FIELD] = blocked
    return fields


def change(stack, edit):
    """Stores the fields that `edit` makes of the secret's fields. Returns the fields before and after the change.

    No change of another command is lost: if the secret changes in the meantime, `edit` is applied to the new fields.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    with one_at_a_time():
        for attempt in range(1_000):
            version, before = read_version(stack)
            after = edit(before)
            if replace(stack, version, after):
                return before, after
            if time.monotonic() > deadline:
                break
            time.sleep(random.uniform(0, min(2, 0.1 * 2**attempt)))
    raise CommandError("Other commands keep changing the secret. Nothing was changed. Run the command again.")


def as_text(fields):
    return json.dumps(fields, separators=(",", ":"))


def fits(text):
    """Whether Secrets Manager accepts a secret with this text."""
    return len(text.encode()) <= MAXIMUM_BYTES


def replace(stack, version, fields):
    """Makes the fields the secret's current version if `version` still is. Returns whether it was.

    Secrets Manager has no conditional write. But it moves AWSCURRENT only from the version that has it: if the label is on
    another version than RemoveFromVersionId, UpdateSecretVersionStage fails (API reference of Secrets Manager). So the new
    version is stored under a label of its own first.
    """
    text = as_text(fields)
    if not fits(text):
        raise CommandError(
            f"The secret would exceed the {MAXIMUM_BYTES} bytes that Secrets Manager accepts. Nothing was changed. "
            f"The secret lists {len(contents.blocked(fields)[0])} blocked callers: remove some with `make unblock`."
        )
    new = str(uuid.uuid4())
    label = f"pending-{new}"
    put(stack, new, label, text)
    try:
        stack.secrets.update_secret_version_stage(
            SecretId=stack.secret, VersionStage="AWSCURRENT", RemoveFromVersionId=version, MoveToVersionId=new
        )
        return True
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("InvalidParameterException", "InvalidRequestException"):
            raise
        # AWS also refuses the SDK's repetition of a request that it carried out and whose answer was lost.
        labels = stack.secrets.get_secret_value(SecretId=stack.secret, VersionId=new)["VersionStages"]
        return bool({"AWSCURRENT", "AWSPREVIOUS"} & set(labels))
    finally:
        # A label that stays does no harm, but a secret may have only 20.
        with contextlib.suppress(botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError):
            stack.secrets.update_secret_version_stage(SecretId=stack.secret, VersionStage=label, RemoveFromVersionId=new)


def put(stack, new, label, text):
    """Stores a version of the secret that is not the current one."""
    try:
        stack.secrets.put_secret_value(SecretId=stack.secret, ClientRequestToken=new, SecretString=text, VersionStages=[label])
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] != "LimitExceededException":
            raise
        raise CommandError(
            "The secret has as many versions as Secrets Manager allows, about 100 in 24 hours. Nothing was changed. Run the "
            "command again when the oldest versions have expired. Until then, `make pause` stops all minting."
        ) from None


@contextlib.contextmanager
def one_at_a_time():
    """Waits for other commands of this checkout. Without it, each conflict would leave an unused version of the secret."""
    with open(__file__) as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_again_at(stack):
    """The time after which running instances read the secret again."""
    return datetime.datetime.now() + datetime.timedelta(seconds=int(stack.parameters["KeyTtlSeconds"]))


def block_list(fields):
    """The identifiers of the blocked callers, and any other text in the list."""
    blocked, readable = contents.blocked(fields)
    if readable:
        return blocked
    found = fields[contents.BLOCKED_FIELD]
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise CommandError(f"{contents.UNREADABLE_LIST}. Fix or remove it in the AWS console.")
    return found
