"""The API as an OpenAPI document: `python3 -m docs.openapi` writes docs/openapi.json, and a test fails when it differs.

The codes and their statuses are those of function/description.json, the profiles and their fields those of
function/profiles.json.
"""

import json
import tomllib

from estimate.description import CODES, REFUSALS
from estimate.template import ROOT

PROFILES = json.loads((ROOT / "function/profiles.json").read_text())

# The routes of a code, if they are other than the two endpoints, /token and /call.
ENDPOINTS = {"/token", "/call"}
CALL, END = {"/call"}, {"/call/{handle}"}
ROUTES = {
    "busy_lines": CALL,
    "call_not_found": END,
    "call_uncertain": CALL,
    "calls_at_once": CALL,
    "daily_minutes_reached": CALL,
    "ended_by_operator": CALL,
    "hang_up_failed": END,
    "key_unavailable": ENDPOINTS | END,
    "method_not_allowed": ENDPOINTS | END,
    "minutes_exceeded": CALL,
    "no_subject": ENDPOINTS | END,
    "not_found": ENDPOINTS | END,
    "offer_not_allowed": CALL,
    "openai_rejected_offer": CALL,
    "origin_not_allowed": ENDPOINTS | END,
    "proxy_required": ENDPOINTS | END,
    "quota_unavailable": ENDPOINTS | END,
}

# Statuses with which API Gateway itself refuses, in a form of its own.
GATEWAY = {
    401: "API Gateway: the sign-in is missing, or is not valid",
    403: "API Gateway: the sign-in lacks a scope",
    404: "API Gateway: a path or method without a route",
    429: "API Gateway: the API's rate limit",
    500: "API Gateway: an internal error",
    503: "API Gateway: the function is paused, or at its limit of concurrency",
}

# Codes whose refusal states a wait, always or if OpenAI asked for one.
WAITS = {
    "busy_lines",
    "call_uncertain",
    "calls_at_once",
    "daily_limit_reached",
    "daily_minutes_reached",
    "minutes_exceeded",
    "openai_answer_invalid",
    "openai_busy",
    "openai_unavailable",
    "quota_exceeded",
}

PAGE_OF_REFUSALS = "docs/api.md describes each code."


def schema(rule):
    """The JSON Schema of a caller's value, by the rule of its field."""
    [(kind, limits)] = rule.items()
    if kind == "one_of":
        return {"type": "string", "enum": list(limits)}
    if kind == "text":
        return {"type": "string", "maxLength": limits["max_characters"], "description": "on one line"}
    return {"type": kind, "minimum": limits["from"], "maximum": limits["to"]}


def fields(profile):
    return {name: schema(field["allow"]) for name, field in profile["caller_may_set"].items()}


def profiles(endpoint):
    """The profiles that an endpoint accepts."""
    for name, profile in PROFILES.items():
        call = profile.get("call")
        if call if endpoint == "/call" else not call or call["mode"] == "open":
            yield name, profile


def body(endpoint, more=None, required=()):
    """The request's body: a variant for each profile."""
    variants = []
    for name, profile in profiles(endpoint):
        names = [] if name == "default" else ["profile"]
        variants.append(
            {
                "title": name,
                "type": "object",
                "properties": {"profile": {"const": name}, **(more or {}), **fields(profile)},
                "required": [*names, *required],
                "additionalProperties": False,
            }
        )
    return {"oneOf": variants}


def query():
    """The query of a call whose body is the offer itself."""
    accepted = dict(profiles("/call"))
    yield "profile", {"type": "string", "enum": list(accepted), "default": "default"}, "The profile."
    yield "dcid", DCID, "The ID of a data channel that both ends have negotiated."
    users = {}
    for name, profile in accepted.items():
        for field, allowed in fields(profile).items():
            users.setdefault(field, []).append((name, allowed))
    for field, found in users.items():
        schemas = [allowed for number, (_, allowed) in enumerate(found) if allowed not in [s for _, s in found[:number]]]
        names = ", ".join(f"`{name}`" for name, _ in found)
        yield field, schemas[0] if len(schemas) == 1 else {"anyOf": schemas}, f"A field of the profiles {names}."


DCID = {"type": "integer", "minimum": 0, "maximum": 65535}
HANDLE = {"type": "string", "pattern": "^[A-Za-z0-9_-]{22,}$", "description": "The name of the call"}
SDP = {"type": "string", "pattern": "^v=0"}
OFFER = {"type": "string", "format": "sdp-offer", "description": "The browser's offer, byte for byte"}
UNIX = {"type": "integer", "description": "Unix seconds"}
TEXT_OR_NULL = {"type": ["string", "null"]}


def offer(*, channel):
    """An offer as Chromium makes it, with one codec, and with a data channel or without."""
    transport = """\
c=IN IP4 0.0.0.0
a=ice-ufrag:fprh
a=ice-pwd:a0dsezYjm/SkJXpxbqmHfgXG
a=ice-options:trickle
a=fingerprint:sha-256 F4:BD:DE:03:F2:ED:9B:B1:08:2F:D7:4A:95:9D:30:7B:96:EA:86:29:CC:7A:B5:A7:7B:E1:3B:96:49:D0:90:9C
a=setup:actpass
"""
    lines = f"""\
v=0
o=- 7778862580265418030 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0{" 1" if channel else ""}
m=audio 9 UDP/TLS/RTP/SAVPF 111
{transport}a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
"""
    if channel:
        lines += f"""\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
{transport}a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""
    return lines.replace("\n", "\r\n")


def examples():
    """A request for each profile with calls, in JSON."""
    for name, profile in profiles("/call"):
        yield name, {"value": {"profile": name, "sdp": offer(channel=profile["call"]["mode"] == "open")}}


def record(required, **properties):
    """An object with exactly these properties."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def answer(**properties):
    """A successful answer, with all of these properties."""
    given = {"success": {"const": True}, **properties}
    return record(list(given), **given)


SCHEMAS = {
    "Token": answer(
        ephemeralToken={"type": "string"},
        sessionId=TEXT_OR_NULL,
        expiresAt=UNIX,
        model=TEXT_OR_NULL,
        voice=TEXT_OR_NULL,
        callsUrl={"type": "string", "format": "uri"},
        message={"type": "string"},
        value={"type": "string", "description": "`ephemeralToken` by the name in OpenAI's samples"},
        expires_at={**UNIX, "description": "`expiresAt` by the name in OpenAI's samples"},
        token={"type": "string", "description": "`ephemeralToken` by the name that the Vercel AI SDK reads"},
        url={"type": "string", "format": "uri", "description": "The WebSocket that the token opens"},
    ),
    "Call": answer(
        sdp={**SDP, "description": "OpenAI's answer, byte for byte"},
        callId=HANDLE,
        sessionId={**HANDLE, "description": "`callId` by the name that the Vercel AI SDK reads"},
        expiresAt={**UNIX, "description": "The moment at which the service ends the call, in Unix seconds"},
        model=TEXT_OR_NULL,
        voice=TEXT_OR_NULL,
        message={"type": "string"},
    ),
    "EndedCall": answer(
        seconds={"type": "integer", "minimum": 0, "description": "How long the call lasted, rounded up"},
    ),
    "Refusal": record(
        ["success", "code", "error", "details", "message", "requestId"],
        success={"const": False},
        code={"enum": sorted(CODES)},
        error={"type": "string"},
        details={"type": "string", "description": "The cause, for people"},
        message={"type": "string", "description": "What to do, for people"},
        requestId={"type": "string", "description": "The ID of the request in the log"},
    ),
    "GatewayMessage": {
        "type": "object",
        "description": "A refusal by API Gateway itself, which the function never saw.",
        "properties": {"message": {"type": "string"}},
        "required": ["message"],
        "not": {"required": ["success"]},
    },
}

HEADERS = {
    "Cache-Control": {"schema": {"const": "no-store"}, "required": True},
    "Retry-After": {"description": "Whole seconds to wait", "schema": {"type": "integer", "minimum": 0}},
    "Allow": {"description": "The method of the route", "schema": {"type": "string"}},
    "RateLimit": {
        "description": 'What is left of the caller\'s quota, such as `"minute";r=9;t=42, "day";r=199;t=51402`',
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": 'The caller\'s quota, such as `"minute";q=10;w=60, "day";q=200;w=86400`',
        "schema": {"type": "string"},
    },
    "Location": {"description": "The path of the call", "schema": {"type": "string"}, "required": True},
    "Call-Expires-At": {
        "description": "The moment at which the service ends the call, in Unix seconds",
        "schema": {"type": "integer"},
        "required": True,
    },
}


def headers(*names):
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def content(**kinds):
    names = {"json": "application/json", "sdp": "application/sdp"}
    return {names[kind]: {"schema": given} for kind, given in kinds.items()}


def ref(name):
    return {"$ref": f"#/components/schemas/{name}"}


def refusal(codes):
    """A refusal of the function with one of these codes."""
    return {"allOf": [ref("Refusal"), {"properties": {"code": {"enum": sorted(codes)}}}]}


def refusals(route):
    """The responses of a route to requests that it refuses, by status."""
    codes = {}
    for status, code in REFUSALS:
        if route in ROUTES.get(code, ENDPOINTS):
            codes.setdefault(status, set()).add(code)
    for status in sorted({*codes, *GATEWAY}):
        found = codes.get(status, set())
        forms = [refusal(found)] if found else []
        if status in GATEWAY:
            forms.append(ref("GatewayMessage"))
        sentences = [", ".join(f"`{code}`" for code in sorted(found))] if found else []
        sentences += [GATEWAY[status]] if status in GATEWAY else []
        names = ["RateLimit", "RateLimit-Policy"] if "quota_exceeded" in found else []
        names += ["Retry-After"] if found & WAITS else []
        names += ["Allow"] if "method_not_allowed" in found else []
        yield (
            str(status),
            {
                "description": "; ".join(sentences),
                "headers": headers(*names),
                "content": content(json=forms[0] if len(forms) == 1 else {"oneOf": forms}),
            },
        )


def document():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    quota = headers("Cache-Control", "RateLimit", "RateLimit-Policy")
    paths = {
        "/token": {
            "post": {
                "operationId": "createToken",
                "summary": "Get an ephemeral token",
                "description": f"The token opens one session at OpenAI. {PAGE_OF_REFUSALS}",
                "requestBody": {"content": content(json=body("/token"))},
                "responses": {
                    "200": {"description": "A token", "headers": quota, "content": content(json=ref("Token"))},
                    **dict(refusals("/token")),
                },
            }
        },
        "/call": {
            "post": {
                "operationId": "createCall",
                "summary": "Open a call with an SDP offer",
                "description": (
                    "The service exchanges the offer with OpenAI and ends the call on time. With the body as JSON, the answer "
                    "is JSON. With the offer itself as the body, profile and fields are in the query, and the answer is the "
                    f"SDP. {PAGE_OF_REFUSALS}"
                ),
                "parameters": [
                    {
                        "name": name,
                        "in": "query",
                        "description": f"{text} With a JSON body, this may be a member of the body instead.",
                        "schema": given,
                    }
                    for name, given, text in query()
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": body("/call", {"sdp": OFFER, "dcid": DCID}, ["sdp"]),
                            "examples": dict(examples()),
                        },
                        "application/sdp": {
                            "schema": OFFER,
                            "examples": {"default": {"value": offer(channel=True)}},
                        },
                    },
                },
                "responses": {
                    "201": {
                        "description": "The call is open",
                        "headers": {**quota, **headers("Location", "Call-Expires-At")},
                        "content": content(json=ref("Call"), sdp=SDP),
                        "links": {"end": {"operationId": "endCall", "parameters": {"handle": "$response.body#/callId"}}},
                    },
                    **dict(refusals("/call")),
                },
            }
        },
        "/call/{handle}": {
            "delete": {
                "operationId": "endCall",
                "summary": "End a call",
                "description": f"Only the caller who opened the call can end it. The request can be repeated. {PAGE_OF_REFUSALS}",
                "parameters": [{"name": "handle", "in": "path", "required": True, "schema": HANDLE}],
                "responses": {
                    "200": {
                        "description": "The call has ended",
                        "headers": headers("Cache-Control"),
                        "content": content(json=ref("EndedCall")),
                    },
                    **dict(refusals("/call/{handle}")),
                },
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Token Mint",
            "version": version,
            "summary": "Tokens and calls of OpenAI Realtime for web pages, without an API key in the browser",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "http://127.0.0.1:8080", "description": "`make demo`"},
            {
                "url": "https://{api}.execute-api.{region}.amazonaws.com",
                "description": "a deployment; `make deploy` prints the address",
                "variables": {"api": {"default": "id"}, "region": {"default": "eu-central-1"}},
            },
        ],
        # Where users sign in, their access token; elsewhere nothing.
        "security": [{}, {"signIn": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"signIn": {"type": "http", "scheme": "bearer"}},
            "headers": HEADERS,
            "schemas": SCHEMAS,
        },
    }


def text():
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / "docs/openapi.json").write_text(text())
