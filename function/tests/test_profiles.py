"""The profiles name models that live: OpenAI retires models, and a mint with a retired one fails for everyone."""

import datetime
import fnmatch
import json
import urllib.request
import warnings

import pytest
from conftest import ROOT

PROFILES = json.loads((ROOT / "function/profiles.json").read_text())

# Pattern of names, last day, and what OpenAI names as replacement.
# Source: OpenAI, "Deprecations" (developers.openai.com/api/docs/deprecations), November 2026.
SHUTDOWNS = [
    ("gpt-4o-realtime-preview*", "2026-05-07", "gpt-realtime-2.1"),
    ("gpt-4o-mini-realtime-preview*", "2026-05-07", "gpt-realtime-2.1-mini"),
    ("gpt-realtime", "2027-01-20", "gpt-realtime-2.1"),
    ("gpt-realtime-2025-*", "2027-01-20", "gpt-realtime-2.1"),
    ("gpt-realtime-mini", "2027-01-20", "gpt-realtime-2.1-mini"),
    ("gpt-realtime-mini-2025-*", "2027-01-20", "gpt-realtime-2.1-mini"),
    ("gpt-4o-transcribe*", "2027-02-26", "gpt-live-transcribe"),
    ("gpt-4o-mini-transcribe*", "2027-02-26", "gpt-live-transcribe"),
    ("whisper-1", "2027-02-26", "gpt-live-transcribe"),
]

# How long before its end a model is no longer to be deployed: a deployment may run that long untouched.
NOTICE = datetime.timedelta(days=30)


def fate(model, today):
    """Whether a model may still be deployed, and a sentence if its end is known."""
    for pattern, date, replacement in SHUTDOWNS:
        if fnmatch.fnmatchcase(model, pattern):
            last = datetime.date.fromisoformat(date)
            ends = f"was shut down on {date}" if last <= today else f"will be shut down on {date}"
            return today < last - NOTICE, f"{model} {ends}: use {replacement} instead"
    return True, None


def models(part):
    """Every model that a profile names, or lets a caller name."""
    if isinstance(part, list):
        return [model for each in part for model in models(each)]
    if not isinstance(part, dict):
        return []
    if str(part.get("at", "")).endswith("/model"):
        choices = part["allow"]["one_of"]
        return list(choices.values() if isinstance(choices, dict) else choices)
    named = [value for name, value in part.items() if name == "model" and isinstance(value, str)]
    return named + models(list(part.values()))


def test_no_profile_names_a_model_that_is_gone_or_about_to_go():
    named = {(profile, model) for profile, content in PROFILES.items() for model in models(content)}
    assert {profile for profile, _ in named} == set(PROFILES), "each profile names a model"
    fates = {(profile, *fate(model, datetime.date.today())) for profile, model in named}
    for profile, lives, sentence in fates:
        if lives and sentence:
            warnings.warn(f"profiles.json: {profile}: {sentence}", stacklevel=1)
    assert not [f"{profile}: {sentence}" for profile, lives, sentence in fates if not lives]


@pytest.mark.parametrize(
    "model, today, lives, sentence",
    [
        ("gpt-realtime-2.1", "2026-11-22", True, None),
        ("gpt-realtime", "2026-12-20", True, "gpt-realtime will be shut down on 2027-01-20: use gpt-realtime-2.1 instead"),
        ("gpt-realtime", "2026-12-21", False, "gpt-realtime will be shut down on 2027-01-20: use gpt-realtime-2.1 instead"),
        ("gpt-realtime", "2027-01-20", False, "gpt-realtime was shut down on 2027-01-20: use gpt-realtime-2.1 instead"),
        (
            "gpt-4o-mini-realtime-preview-2024-12-17", "2026-11-22", False,
            "gpt-4o-mini-realtime-preview-2024-12-17 was shut down on 2026-05-07: use gpt-realtime-2.1-mini instead",
        ),
    ],
)  # fmt: skip
def test_a_model_s_fate_is_told_with_its_replacement(model, today, lives, sentence):
    assert fate(model, datetime.date.fromisoformat(today)) == (lives, sentence)


def test_a_model_is_found_wherever_a_profile_names_it():
    profile = {
        "session": {"model": "a", "audio": {"input": {"transcription": {"model": "b"}}}, "tools": [{"model": "c"}]},
        "caller_may_set": {
            "quality": {"at": "/model", "allow": {"one_of": {"high": "d", "low": "e"}}},
            "ears": {"at": "/audio/input/transcription/model", "allow": {"one_of": ["f"]}},
            "voice": {"at": "/audio/output/voice", "allow": {"one_of": ["ash"]}},
        },
    }
    assert sorted(models(profile)) == list("abcdef")


def test_the_simulator_knows_the_same_dates(simulator):
    request = urllib.request.Request(f"{simulator}/v1/models", headers={"Authorization": "Bearer sk-test"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        listed = {model["id"]: model.get("shutdown_date") for model in json.load(answer)["data"]}
    for model, date in listed.items():
        known = [day for pattern, day, _ in SHUTDOWNS if fnmatch.fnmatchcase(model, pattern)]
        assert known == ([date] if date else []), model
    replacements = {replacement for _, _, replacement in SHUTDOWNS}
    assert replacements <= set(listed)
