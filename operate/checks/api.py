"""The API from outside, with requests that mint no token.

The function checks the path, the method, the origin and the body before it counts or asks OpenAI. So a body that it refuses
passes through the API, the alias and the function, and is answered with 400. Only `token` mints.
"""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from operate.checks.check import Missing, check, ok, skip, wrong
from operate.checks.secret import ASK, asks_openai
from operate.key import NoRedirect

# An origin that no stack allows: the top-level domain exists nowhere (RFC 2606).
FOREIGN = "https://doctor.invalid"
# Valid JSON, and no object: the function answers 400.
REFUSED_BODY = b"[]"

# The headers that OpenAI's browser SDKs send with an offer, and those of a call's answer that pages read.
OF_OFFERS = ["content-type", "authorization", "x-openai-agents-sdk"]
OF_CALLS = ["location", "call-expires-at"]

SYMPTOMS = "docs/operating.md lists the causes under Symptoms"
CORS = "Run `make set PARAMETERS=AllowedOrigins=…` with the pages' origins; if they are right there, see the check drift"


class Answer(NamedTuple):
    status: int
    headers: object
    text: str

    @property
    def fields(self):
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self):
        """The function's own code, or None if the answer is not the function's."""
        return self.fields.get("code")

    def __str__(self):
        if self.code:
            return f"{self.status} {self.code}"
        message = self.fields.get("message")
        return f"{self.status} without a body of the function" + (f" ({message})" if message else "")

    def allows(self, origin):
        """Whether a browser lets a page of that origin read this answer."""
        return self.headers.get("Access-Control-Allow-Origin") in (origin, "*")

    def lists(self, header):
        return [value.strip().lower() for value in self.headers.get(header, "").split(",")]


def token_url(deployed):
    """The URL that pages use: the stack's own, or TOKEN_URL, for a domain in front of it. With Endpoints=call, that of calls."""
    if "TokenUrl" not in deployed.outputs and "CallUrl" in deployed.outputs:
        return call_url(deployed)
    return os.environ.get("TOKEN_URL") or deployed.output("TokenUrl")


def call_url(deployed):
    """The URL that pages send offers to: the stack's own, or the one beside TOKEN_URL."""
    if "CallUrl" not in deployed.outputs:
        raise Missing("this stack has no calls: Endpoints is token, or it was deployed from an earlier release")
    if "TOKEN_URL" in os.environ:
        return urllib.parse.urljoin(os.environ["TOKEN_URL"], "call")
    return deployed.output("CallUrl")


def require_tokens(deployed):
    """Skips a check of POST /token on a stack without it."""
    if "TokenUrl" not in deployed.outputs and "CallUrl" in deployed.outputs:
        raise Missing("Endpoints is call: there is no POST /token")


def request(deployed, method, headers=None, body=None, url=None, timeout=15):
    url = url or token_url(deployed)
    asked = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json"} | (headers or {}), method=method
    )
    try:
        try:
            answer = urllib.request.build_opener(NoRedirect).open(asked, timeout=timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Answer(answer.status, answer.headers, answer.read(100_000).decode(errors="replace"))
    except (OSError, ValueError) as error:
        deployed.unreachable = getattr(error, "reason", None) or error
        return None


def reached(deployed, *arguments, **options):
    """The answer to a request. If the API was not reached before, it is not tried again."""
    answer = None if deployed.unreachable else request(deployed, *arguments, **options)
    if answer is None:
        raise Missing("the API cannot be reached: see API")
    return answer


def origins(deployed):
    """The origins that are allowed; none if every origin is."""
    listed = deployed.listed("AllowedOrigins")
    return [] if listed == ["*"] else listed


def signs_in(deployed):
    return deployed.parameter("AuthIssuer") != ""


@check("API")
def api(deployed):
    """API Gateway has the routes of the endpoints alone, so it answers every other path by itself."""
    answer = request(deployed, "GET", url=urllib.parse.urljoin(token_url(deployed), "/doctor"))
    if answer is None:
        fault = f"{token_url(deployed)} cannot be reached: {deployed.unreachable}"
        yield wrong(fault, "Check this machine's network, then whether the stack's Api and Stage still exist (see drift)")
    elif answer.status != 404:
        yield wrong(
            f"a path that does not exist is answered {answer}",
            f"Remove the route that was added by hand, or set TOKEN_URL. {SYMPTOMS}",
        )
    else:
        yield ok(f"{token_url(deployed)} answers, and a path that does not exist is 404")


@check("preflight")
def preflight(deployed):
    allowed = deployed.listed("AllowedOrigins")
    if not allowed:
        yield skip("AllowedOrigins is empty: no page of another origin may read an answer")
        return
    headers = ["content-type", "authorization"] if signs_in(deployed) else ["content-type"]
    for origin in allowed:
        page = FOREIGN if origin == "*" else origin
        answer = preflight_of(deployed, page, headers)
        fits = "post" in answer.lists("Access-Control-Allow-Methods") and set(headers) <= set(
            answer.lists("Access-Control-Allow-Headers")
        )
        if not (answer.status in (200, 204) and answer.allows(page) and fits):
            yield wrong(
                f"a page of {page} may not ask: its preflight is answered {answer.status} without the headers of CORS", CORS
            )
            return
    yield ok(f"pages of {', '.join(allowed)} may ask")


def preflight_of(deployed, origin, headers, method="POST", url=None):
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": ",".join(headers)}
    return reached(deployed, "OPTIONS", {"Origin": origin} | asked, url=url)


@check("call preflight")
def call_preflight(deployed):
    """CORS for what OpenAI's browser SDKs send with an offer, and for the request that ends a call."""
    url, allowed = call_url(deployed), deployed.listed("AllowedOrigins")
    if not allowed:
        yield skip("AllowedOrigins is empty: no page of another origin may read an answer")
        return
    for origin in allowed:
        page = FOREIGN if origin == "*" else origin
        offer, end = (preflight_of(deployed, page, OF_OFFERS, method, url) for method in ("POST", "DELETE"))
        lacking = [name for name in OF_OFFERS if name not in offer.lists("Access-Control-Allow-Headers")]
        lacking += [name for name in ("post", "delete") if name not in end.lists("Access-Control-Allow-Methods")]
        if not (offer.allows(page) and end.allows(page)) or lacking:
            said = f" ({', '.join(lacking)})" if lacking else ""
            yield wrong(f"a page of {page} may not make or end calls: its preflight lacks headers of CORS{said}", CORS)
            return
    yield ok(f"pages of {', '.join(allowed)} may make and end calls")


@check("call route")
def call_route(deployed):
    """Both routes through API Gateway, their permissions, the alias and the function. No call is made."""
    url = call_url(deployed)
    if signs_in(deployed):
        yield skip("AuthIssuer is set, and this check has no user's sign-in")
        return
    page = next(iter(origins(deployed)), None)
    headers = {"Origin": page} if page else {}
    offer = reached(deployed, "POST", headers, REFUSED_BODY, url=url)
    end = reached(deployed, "DELETE", headers, url=f"{url}/doctor")
    hidden = [name for name in OF_CALLS if name not in offer.lists("Access-Control-Expose-Headers")]
    # The function refuses these before it looks for the call. Other checks report a missing key.
    refused_earlier = end.code == "key_unavailable" or (
        deployed.parameter("ProxyAddressHeader") and end.code == "proxy_required"
    )
    if offer.status != 400 or not offer.code:
        fault = f"a request that the function refuses with 400 is answered {offer}"
        yield wrong(fault, f"{SYMPTOMS}; `make logs` shows the function's")
    elif (end.status, end.code) != (404, "call_not_found") and not refused_earlier:
        fault = f"the end of a call that does not exist is answered {end}, not 404 call_not_found"
        yield wrong(fault, f"{SYMPTOMS}; `make logs` shows the function's")
    elif page and (not offer.allows(page) or hidden):
        yield wrong(f"the answer to a page of {page} lacks headers of CORS", CORS)
    else:
        yield ok("the function answers through the API")


@check("foreign preflight")
def foreign_preflight(deployed):
    if deployed.listed("AllowedOrigins") == ["*"]:
        yield skip("AllowedOrigins is *: there is no foreign origin")
    elif preflight_of(deployed, FOREIGN, ["content-type"]).allows(FOREIGN):
        yield wrong(f"a page of {FOREIGN} may ask, although AllowedOrigins does not list it", CORS)
    else:
        yield ok("pages of other origins may not ask")


@check("foreign origin")
def foreign_origin(deployed):
    """The function's own check, for programs that do not heed CORS."""
    if signs_in(deployed):
        yield skip("AuthIssuer is set, and a request without a sign-in is refused before its origin is checked")
    elif not origins(deployed):
        yield skip("AllowedOrigins names no origin, so the function checks none")
    else:
        answer = reached(deployed, "POST", {"Origin": FOREIGN}, REFUSED_BODY)
        if (answer.status, answer.code) == (403, "origin_not_allowed"):
            yield ok("a request from another origin is answered 403")
        else:
            fault = f"a request from {FOREIGN} is answered {answer}, not 403 origin_not_allowed"
            yield wrong(fault, f"See the check environment for ALLOWED_ORIGINS. {SYMPTOMS}")


@check("sign-in")
def sign_in(deployed):
    if not signs_in(deployed):
        yield skip("AuthIssuer is empty: no sign-in is required")
        return
    answer = reached(deployed, "POST", body=REFUSED_BODY)
    if answer.status == 401 and not answer.code:
        yield ok("a request without a sign-in is answered 401")
    else:
        fault = f"a request without a sign-in is answered {answer}, not 401 by API Gateway"
        yield wrong(fault, "Restore the authorizer of the routes (see drift), or delete and deploy the stack")


@check("token route")
def token_route(deployed):
    """Through API Gateway, its permission, the alias and the function, up to the check of the body."""
    require_tokens(deployed)
    if signs_in(deployed):
        yield skip("AuthIssuer is set, and this check has no user's sign-in")
        return
    page = next(iter(origins(deployed)), None)
    answer = reached(deployed, "POST", {"Origin": page} if page else {}, REFUSED_BODY)
    if answer.status != 400 or not answer.code:
        yield wrong(
            f"a request that the function refuses with 400 is answered {answer}",
            f"{SYMPTOMS}; `make logs` shows the function's",
        )
    elif page and not answer.allows(page):
        yield wrong(f"the answer to a page of {page} lacks the headers of CORS", CORS)
    else:
        yield ok("the function answers through the API")


@check("proxy")
def proxy(deployed):
    """A request past the proxy is refused before it counts, so this one mints only if the check goes wrong."""
    require_tokens(deployed)
    if not deployed.parameter("ProxyAddressHeader"):
        yield skip("ProxyAddressHeader is empty: no proxy has to prove itself")
    elif signs_in(deployed):
        yield skip("AuthIssuer is set, and this check has no user's sign-in")
    else:
        page = next(iter(origins(deployed)), None)
        answer = reached(deployed, "POST", {"Origin": page} if page else {}, b"{}", url=deployed.output("TokenUrl"))
        if (answer.status, answer.code) == (403, "proxy_required"):
            yield ok("a request that did not pass through the proxy is answered 403")
        else:
            fault = f"a request that did not pass through the proxy is answered {answer}, not 403 proxy_required"
            yield wrong(fault, f"See the check environment for PROXY_ADDRESS_HEADER. {SYMPTOMS}")


@check("token")
def token(deployed):
    """The only request here that mints: it counts against the quota of this address, and asks OpenAI."""
    require_tokens(deployed)
    if signs_in(deployed):
        yield skip("AuthIssuer is set, and this check has no user's sign-in")
    elif not asks_openai():
        yield skip(f"only with `{ASK}`: it mints a token, which counts against your address's quota")
    elif deployed.parameter("ProxyAddressHeader") and not os.environ.get("TOKEN_URL"):
        yield skip("ProxyAddressHeader is set: only with TOKEN_URL, the URL at the proxy")
    else:
        page = next(iter(origins(deployed)), None)
        began = time.monotonic()
        answer = reached(deployed, "POST", {"Origin": page} if page else {}, b"{}", timeout=35)
        took = time.monotonic() - began
        if answer.status == 200 and answer.fields.get("value"):
            yield ok(f"issued in {took:.2f} s")
        else:
            reason = answer.fields.get("details") or answer.fields.get("message") or ""
            yield wrong(f"none was issued: {answer}. {reason}", SYMPTOMS)
