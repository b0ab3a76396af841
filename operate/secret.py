"""The fields of a stack's secret: the OpenAI key, the identifier key, and the list of blocked callers.

function/src/secret/contents.rs reads the same fields.
"""

import datetime
import json

from operate.error import CommandError

KEY_FIELD = "OPENAI_API_KEY"
IDENTIFIER_KEY_FIELD = "SAFETY_IDENTIFIER_KEY"
BLOCKED_FIELD = "BLOCKED_CALLERS"
# The maximum length of a secret in Secrets Manager, in bytes.
MAXIMUM_BYTES = 65_536


def read(stack):
    """The secret's fields."""
    return parse(stack.secrets.get_secret_value(SecretId=stack.outputs["SecretArn"]).get("SecretString"))


def parse(text):
    """The fields of a secret's text. A secret in plain text is the OpenAI key alone, as it is for the function."""
    if text is None:
        raise CommandError("The secret is binary, and the function cannot read it. Store text in it in the AWS console.")
    if not text.lstrip().startswith("{"):
        return {KEY_FIELD: text.strip()}
    try:
        return json.loads(text)
    except ValueError:
        raise CommandError("The secret begins with {, but is not JSON. Fix it in the AWS console.") from None


def are_keys_text(fields):
    """Whether both keys are text where they are set, without which the function cannot read the secret."""
    return all(isinstance(fields.get(name) or "", str) for name in (KEY_FIELD, IDENTIFIER_KEY_FIELD))


def store(stack, fields):
    """Stores the secret's fields, and returns the time after which running instances read them."""
    text = json.dumps(fields, separators=(",", ":"))
    if len(text.encode()) > MAXIMUM_BYTES:
        raise CommandError(
            f"The secret would exceed the {MAXIMUM_BYTES} bytes that Secrets Manager accepts. Nothing was changed. "
            f"The secret lists {len(block_list(fields))} blocked callers: remove some with `make unblock`."
        )
    stack.secrets.put_secret_value(SecretId=stack.outputs["SecretArn"], SecretString=text)
    return datetime.datetime.now() + datetime.timedelta(seconds=int(stack.parameters["KeyTtlSeconds"]))


def identifier_key(fields):
    """The key under which callers are hashed, or no bytes if the secret has none of its own."""
    key = fields.get(IDENTIFIER_KEY_FIELD)
    return key.strip().encode() if isinstance(key, str) else b""


def block_list(fields):
    """The identifiers of the blocked callers."""
    found = fields.get(BLOCKED_FIELD, [])
    if not isinstance(found, list) or not all(isinstance(identifier, str) for identifier in found):
        raise CommandError(f"{BLOCKED_FIELD} in the secret is not a list of strings. Fix or remove it in the AWS console.")
    return found
