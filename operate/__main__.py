"""The daily life of a deployed stack: its key, its callers, its versions, its brake. `make help` lists the commands.

Everything goes through the AWS SDK with the operator's own credentials; which stack is meant stands in STACK, and which
caller in SUBJECT, ADDRESS or CALLER.
"""

import argparse
import datetime
import getpass
import hmac
import io
import ipaddress
import json
import os
import pathlib
import re
import sys
import urllib.error
import urllib.request
import zipfile

import boto3
import botocore.exceptions

ALIAS = "live"
KEY_FIELD = "OPENAI_API_KEY"
IDENTIFIER_KEY_FIELD = "SAFETY_IDENTIFIER_KEY"
BLOCKED_FIELD = "BLOCKED_CALLERS"
# What Secrets Manager takes, in bytes.
SECRET_LIMIT = 65_536


class Refused(Exception):
    """A sentence for the operator."""


class Stack:
    """A deployed stack by its name."""

    def __init__(self, name):
        self.name = name
        self.session = boto3.Session()
        if not self.session.region_name:
            raise Refused("No region is set. Export AWS_DEFAULT_REGION, such as eu-west-1, or AWS_PROFILE.")
        self.functions = self.session.client("lambda")
        try:
            found = self.session.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            raise Refused(f"There is no stack {name} in {self.session.region_name}. Name another with STACK=…") from None
        self.outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
        self.parameters = {given["ParameterKey"]: given["ParameterValue"] for given in found.get("Parameters", [])}

    @property
    def function(self):
        return self.outputs["FunctionName"]

    @property
    def secrets(self):
        return self.session.client("secretsmanager")

    def secret(self):
        """The secret's fields. One that is just the key, as plain text, is what the function takes it for."""
        text = self.secrets.get_secret_value(SecretId=self.outputs["SecretArn"]).get("SecretString")
        if text is None:
            raise Refused("The secret is binary, which the function cannot read. Put text into it in the AWS console.")
        if not text.lstrip().startswith("{"):
            return {KEY_FIELD: text.strip()}
        try:
            return json.loads(text)
        except ValueError:
            raise Refused("The secret begins with {, but is not JSON. Mend it in the AWS console.") from None

    def store(self, fields):
        """Stores the secret's fields; the time after which running instances read them."""
        text = json.dumps(fields, separators=(",", ":"))
        if len(text.encode()) > SECRET_LIMIT:
            raise Refused(
                f"The secret would be over the {SECRET_LIMIT} bytes that Secrets Manager takes; nothing is changed. "
                f"{len(blocked(fields))} callers are blocked: make room with `make unblock`."
            )
        self.secrets.put_secret_value(SecretId=self.outputs["SecretArn"], SecretString=text)
        return datetime.datetime.now() + datetime.timedelta(seconds=int(self.parameters["KeyTtlSeconds"]))

    def versions(self):
        """The published versions, oldest first."""
        pages = self.functions.get_paginator("list_versions_by_function").paginate(FunctionName=self.function)
        numbers = [version["Version"] for page in pages for version in page["Versions"]]
        return sorted(int(number) for number in numbers if number != "$LATEST")

    def live(self):
        return int(self.functions.get_alias(FunctionName=self.function, Name=ALIAS)["FunctionVersion"])

    def move_alias(self, version):
        """Sends all traffic to one version, whatever a canary was doing."""
        self.functions.update_alias(
            FunctionName=self.function,
            Name=ALIAS,
            FunctionVersion=str(version),
            RoutingConfig={"AdditionalVersionWeights": {}},
        )


def key(stack, arguments):
    """Stores the OpenAI key: read without echo, or from standard input, proved with a mint first."""
    if sys.stdin.isatty():
        new = getpass.getpass("OpenAI API key (not shown): ").strip()
    else:
        new = sys.stdin.readline().strip()
    if not new:
        raise Refused("No key was given; nothing is changed.")
    if not all("!" <= letter <= "~" for letter in new) or len(new) < 20:
        raise Refused("That is no key: a key is 20 or more letters, digits and signs without spaces; nothing is changed.")
    base_url = stack.parameters["OpenAIBaseUrl"]
    if base_url == "https://api.openai.com/v1" and not new.startswith("sk-"):
        raise Refused("That is no OpenAI key, which begins with sk-; nothing is changed.")
    if arguments.prove:
        prove(new, base_url)
        print("OpenAI mints with this key.")

    fields = stack.secret()
    renamed = blocked(fields) and not own_identifier_key(fields) and fields.get(KEY_FIELD) != new
    until = stack.store(fields | {KEY_FIELD: new})
    print("The key is stored. New instances use it at once; running ones read it with their first request after")
    print(f"{until:%H:%M:%S} and use it from the next on, or as soon as OpenAI rejects the old one.")
    if renamed:
        print(f"The secret has no {IDENTIFIER_KEY_FIELD}, so a new key makes every caller's identifier another, and the")
        print(f"{len(blocked(fields))} in {BLOCKED_FIELD} stop no one any more. Block them again by SUBJECT or ADDRESS.")


def prove(new, base_url):
    """Mints one short-lived token, which is thrown away: that costs nothing."""
    body = {"expires_after": {"anchor": "created_at", "seconds": 10}, "session": {"type": "realtime"}}
    request = urllib.request.Request(
        f"{base_url.rstrip('/')}/realtime/client_secrets",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {new}", "Content-Type": "application/json"},
    )
    unproved = "Nothing is changed. To store it untested, run `make key PROVE=no`."
    try:
        # Not following redirects, which would take the key elsewhere.
        opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            token = json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise Refused(f"OpenAI answers {error.code} to this key. {unproved}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"OpenAI could not be asked at {base_url}. {unproved}") from None
    if not str(token).startswith("ek_"):
        raise Refused(f"{base_url} answers with something else than a token. {unproved}")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def own_identifier_key(fields):
    """The key under which callers are hashed, if the secret has one of its own."""
    key = fields.get(IDENTIFIER_KEY_FIELD)
    return key.strip().encode() if isinstance(key, str) else b""


def hashed(fields, who):
    """The safety identifier of what tells a caller from others, as function/src/admission/caller.rs and secret/contents.rs make it."""
    key = own_identifier_key(fields)
    if not key:
        api_key = str(fields.get(KEY_FIELD, "")).strip()
        if not re.fullmatch("[!-~]+", api_key):
            raise Refused("The secret holds no OpenAI key yet, without which there are no identifiers. Run `make key` first.")
        key = hmac.digest(api_key.encode(), b"token-mint safety identifier", "sha256")
    return hmac.new(key, who, "sha256").hexdigest()


def network(text):
    """What stands for an address: an IPv4 address, or the 64 bits of an IPv6 one that a household gets."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise Refused(f"ADDRESS is {text!r}, no IP address. Give one such as 203.0.113.9 or 2001:db8::1.") from None
    if address.version == 4:
        return address
    return address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64)


def named(fields, *ways):
    """The identifier of the caller that the one of these variables names which is given."""
    given = [way for way in ways if os.environ.get(way)]
    if len(given) != 1:
        raise Refused(f"Say who is meant, in one way: {', or '.join(f'{way}=…' for way in ways)}. Nothing is changed.")
    value = os.environ[given[0]]
    if given == ["SUBJECT"]:
        return hashed(fields, b"subject:" + os.fsencode(value))
    if given == ["ADDRESS"]:
        return hashed(fields, f"address:{network(value)}".encode())
    identifier = value.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", identifier):
        raise Refused("CALLER is no identifier, which is 64 digits from 0 to f as `make caller` prints it. Nothing is changed.")
    return identifier


def blocked(fields):
    """The identifiers of those who get no token."""
    found = fields.get(BLOCKED_FIELD, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise Refused(f"{BLOCKED_FIELD} in the secret is not a list of texts. Mend or remove it in the AWS console.")
    return found


def caller(stack, _):
    """Prints the safety identifier by which OpenAI and the log know a caller, and what can be done with it."""
    fields = stack.secret()
    identifier = named(fields, "SUBJECT", "ADDRESS")
    print(identifier)
    print(f"Their records: in CloudWatch under Logs Insights, the saved query {stack.name}/one caller.")
    if identifier in blocked(fields):
        print(f"They are blocked. To undo that: make unblock CALLER={identifier}")
    else:
        print(f"To refuse them tokens: make block CALLER={identifier}")
    if os.environ.get("ADDRESS") and stack.parameters.get("AuthIssuer"):
        print("But AuthIssuer is set, so callers of this stack are known by their sign-in's sub. Give SUBJECT=… instead.")
    if os.environ.get("SUBJECT") and not stack.parameters.get("AuthIssuer"):
        print("But AuthIssuer is not set, so callers of this stack are known by their address. Give ADDRESS=… instead.")


def block(stack, _):
    """Refuses a caller tokens, from when instances read the secret again; their tokens that are out stay good."""
    fields = stack.secret()
    identifier = named(fields, "CALLER", "SUBJECT", "ADDRESS")
    if identifier in blocked(fields):
        raise Refused(f"{identifier} is blocked already; nothing is changed.")
    until = stack.store(fields | {BLOCKED_FIELD: [*blocked(fields), identifier]})
    print(f"{identifier} is blocked. New instances refuse them at once; running ones read of it with their first")
    print(f"request after {until:%H:%M:%S} and refuse them from then on. `make unblock CALLER={identifier}` undoes it.")


def unblock(stack, _):
    """Undoes a block."""
    fields = stack.secret()
    identifier = named(fields, "CALLER", "SUBJECT", "ADDRESS")
    if identifier not in blocked(fields):
        raise Refused(f"{identifier} is not blocked; nothing is changed.")
    until = stack.store(fields | {BLOCKED_FIELD: [one for one in blocked(fields) if one != identifier]})
    print(f"{identifier} is not blocked any more. New instances serve them at once; running ones read of it with their")
    print(f"first request after {until:%H:%M:%S} and serve them from the next on.")


def update_code(stack, arguments):
    """Publishes a built function and sends all traffic to it, past CloudFormation."""
    bootstrap = pathlib.Path(arguments.bootstrap)
    if not bootstrap.is_file():
        raise Refused(f"There is no {bootstrap}. Run `make build` first.")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16  # Lambda starts only what is executable
        entry.compress_type = zipfile.ZIP_DEFLATED
        packed.writestr(entry, bootstrap.read_bytes())
    before = stack.live()
    published = stack.functions.update_function_code(
        FunctionName=stack.function,
        ZipFile=archive.getvalue(),
        Architectures=[stack.parameters["Architecture"]],
        Publish=True,
    )["Version"]
    stack.functions.get_waiter("function_updated_v2").wait(FunctionName=stack.function)
    stack.move_alias(published)
    print(f"Version {published} is live, before it was {before}. `make rollback` goes back; a `make deploy` replaces both.")


def settle(stack, _):
    """After a deployment: makes a change of parameters alone live, of which SAM publishes no version."""

    def matters(version):
        found = stack.functions.get_function_configuration(FunctionName=stack.function, Qualifier=str(version))
        return {name: found.get(name) for name in ("CodeSha256", "Environment", "MemorySize", "Timeout", "Architectures")}

    # Compared with the newest version, not the live one: a rollback stays until there is something new.
    if matters("$LATEST") == matters(stack.versions()[-1]):
        return
    published = stack.functions.publish_version(FunctionName=stack.function)["Version"]
    stack.move_alias(published)
    print(f"Version {published} is live, with the changed parameters.")


def rollback(stack, _):
    """Sends all traffic to the version before the live one."""
    live = stack.live()
    earlier = [version for version in stack.versions() if version < live]
    if not earlier:
        raise Refused(f"Version {live} is the first there is; nothing is changed.")
    stack.move_alias(earlier[-1])
    print(f"Version {earlier[-1]} is live, before it was {live}. A `make deploy` with a change goes on from there.")


def pause(stack, _):
    """Stops all minting within seconds: no instance may run. Callers get 429 or 503 from AWS."""
    stack.functions.put_function_concurrency(FunctionName=stack.function, ReservedConcurrentExecutions=0)
    print("Paused: no token is minted until `make resume`. Tokens that are out open sessions until they expire.")


def resume(stack, _):
    """Undoes a pause: back to the stack's ReservedConcurrency, or to none."""
    reserved = stack.parameters.get("ReservedConcurrency")
    if reserved:
        stack.functions.put_function_concurrency(
            FunctionName=stack.function, ReservedConcurrentExecutions=int(reserved)
        )
    else:
        stack.functions.delete_function_concurrency(FunctionName=stack.function)
    print(f"Resumed, with {'up to ' + reserved if reserved else 'no ceiling on'} mints at once.")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for command in (key, caller, block, unblock, settle, update_code, rollback, pause, resume):
        added = commands.add_parser(command.__name__.replace("_", "-"), help=command.__doc__)
        added.set_defaults(run=command)
        if command is key:
            added.add_argument("--no-proof", dest="prove", action="store_false", help="store it without a test mint")
        if command is update_code:
            added.add_argument("bootstrap", help="the built function")
    arguments = parser.parse_args()
    stack = os.environ.get("STACK")
    if not stack:
        sys.exit("STACK does not say which stack is meant.")
    try:
        arguments.run(Stack(stack), arguments)
    except Refused as refused:
        sys.exit(str(refused))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"AWS refused: {error}")
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nNothing is changed.")


if __name__ == "__main__":
    main()
