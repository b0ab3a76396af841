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


# The contrast of each text with its background, and the text.
CONTRAST = """() => {
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    const [r, g, b, a = 1] = colour(getComputedStyle(element).backgroundColor);
    return a === 1 ? [r, g, b] : element.parentElement ? behind(element.parentElement) : [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter(element => element.checkVisibility()
    && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return texts.map(element => {
    const [one, other] = [light(colour(getComputedStyle(element).color)), light(behind(element))];
    return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), element.textContent.trim()];
  });
}"""


def assert_readable(page, width):
    """The page fits into the width, and all its text has enough contrast."""
    page.mouse.move(0, 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    texts = page.evaluate(CONTRAST)
    assert len(texts) > 15
    assert not [text for text in texts if text[0] < 4.5]
