"""The secret by which a proxy in front of the API proves itself, such as CloudFront."""

import secrets

from operate import contents, secret


def proxy_secret(stack, _):
    """Store a new secret for the proxy in front of the API, and print it. The one before stays valid."""
    new = secrets.token_hex(32)
    before, _ = secret.change(stack, lambda fields: with_proxy_secret(fields, new))
    until = secret.read_again_at(stack)
    print(new)
    print(
        f"This is shown once. After {until:%H:%M:%S}, when running instances have read it, set the proxy to send it with each"
    )
    print("request in the header X-Proxy-Secret.")
    if current(before):
        print(
            "The secret before this one stays valid until the next `make proxy-secret`. If it has leaked, run this command again."
        )
    if not stack.parameters.get("ProxyAddressHeader"):
        print("However, ProxyAddressHeader is not set, so this stack does not read the header yet.")


def with_proxy_secret(fields, new):
    """The secret's fields with this secret for the proxy, and with the current one as the previous one."""
    kept = {name: value for name, value in fields.items() if name != contents.PREVIOUS_PROXY_FIELD}
    previous = {contents.PREVIOUS_PROXY_FIELD: current(fields)} if current(fields) else {}
    return kept | {contents.PROXY_FIELD: new} | previous


def current(fields):
    """The proxy's secret in these fields, or an empty text."""
    return contents.text_of(fields, contents.PROXY_FIELD) or ""
