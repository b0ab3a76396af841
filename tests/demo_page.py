"""Helpers for tests of the demo's page in a browser."""

import json
import re

from conftest import post


def fault(openai, fault, **settings):
    status, _, text = post(f"{openai}/simulator/faults", json.dumps({"fault": fault, **settings}).encode())
    assert status < 300, text


def expect(locator):
    from playwright.sync_api import expect

    return expect(locator)


def get_token(page):
    page.get_by_role("button", name="Get a token").click()
    expect(page.locator("#time-left")).to_have_text(re.compile(r"\d+:\d\d"))


# Keeps the microphone's stream, to check that it is stopped.
KEEP_MICROPHONE = """() => {
  const { mediaDevices } = navigator, open = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async constraints => (window.microphone = await open(constraints));
}"""
MICROPHONE_STOPPED = "window.microphone?.getTracks().every(track => track.readyState === 'ended')"


def wait_until(page, expression):
    """Waits until a JavaScript expression is true. Playwright's `wait_for_function` violates the page's security policy."""
    for _ in range(150):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def connect(page):
    get_token(page)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_role("status")).to_have_text("Connected. Say something.")


def events(page, name):
    """All events of the type, as the log shows them."""
    rows = page.locator("#events details").filter(has=page.locator(".type").get_by_text(name, exact=True))
    expect(rows.first).to_be_visible()
    found = []
    for row in rows.all():
        row.locator("summary").click()
        expect(row.locator("pre")).not_to_be_empty()
        decoder, text = json.JSONDecoder(), row.locator("pre").inner_text()
        while text.strip():
            event, end = decoder.raw_decode(text.strip())
            found.append(event)
            text = text.strip()[end:]
    return found
