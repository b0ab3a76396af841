"""The template and the function take the same values, and refuse the others in the same words.

API Gateway gets AllowedOrigins from the template as it is, so a value that only the function normalised would deploy and
never match. A value that only the function refuses would deploy and end the function at start."""

import itertools
import random
import re
import subprocess

import pytest
from conftest import ROOT, TARGET
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
STARTED = "this program runs inside AWS Lambda"

SCHEMES = ["https://", "http://", "", "HTTPS://", "ftp://", "capacitor://", "ionic://", "https:", "https:/"]
HOSTS = [
    "app.example.com", "localhost", "127.0.0.1", "[::1]", "[2001:db8::1]", "xn--bcher-kva.example", "my_app-1.example",
    "App.Example.com", "bücher.example", "*", "*.example.com", "me@app.example.com", "app..example.com", "app.example.com.",
    "", "null", "[localhost]", "[::1", "::1", "-",
]  # fmt: skip
PORTS = ["", ":443", ":80", ":5173", ":8443", ":65535", ":0", ":080", ":", ":x", ":123456", ":65536", ":99999", ":4430"]
TAILS = ["", "/", "/login", "?x", "#x", " ", "//"]
LISTS = [
    "*", "*,*", ",", "", " ", "https://a.example,", ",https://a.example", "https://a.example,,https://b.example",
    "https://a.example,*", "*,https://a.example", "https://a.example, http://localhost:5173",
    " https://a.example ,https://b.example:8443 ", "https://a.example;https://b.example", "https://a.example https://b.example",
    "https://a.example,https://b.example/", "https://a.example:443,https://b.example", "http://a.example:443,https://b.example:80",
]  # fmt: skip


def some(values, count):
    """A few of them, and always the same."""
    values = ["".join(parts) for parts in values]
    return random.Random(2026).sample(values, count)


def evaluate(condition, origins):
    """A condition of the template's rules, as CloudFormation evaluates it."""
    [(function, of)] = condition.items()
    match function:
        case "Fn::And":
            return all(evaluate(each, origins) for each in of)
        case "Fn::Not":
            return not evaluate(of[0], origins)
        case "Fn::EachMemberEquals":
            assert of[0] == {"Ref": "AllowedOrigins"}
            return all(member == of[1] for member in origins)
        case "Fn::Contains":
            assert of[0] == {"Ref": "AllowedOrigins"}
            return of[1] in origins
        case _:
            pytest.fail(f"this test does not know {function}")


def the_template_takes(value):
    parameter, rule = TEMPLATE["Parameters"]["AllowedOrigins"], TEMPLATE["Rules"]["AnyPageOrThese"]
    # CloudFormation trims each entry, then matches it; a stand-in that matches the whole list must agree on single entries.
    origins = [entry.strip() for entry in value.split(",")]
    matched = all(re.fullmatch(parameter["AllowedPattern"], entry) for entry in origins)
    assert matched == bool(re.fullmatch(parameter["AllowedPattern"], value)), value
    ruled = not evaluate(rule["RuleCondition"], origins) or all(
        evaluate(assertion["Assert"], origins) for assertion in rule["Assertions"]
    )
    return matched and ruled


def said_by_the_function(name, value):
    ran = subprocess.run([TARGET / "release/token-mint"], env={name: value}, capture_output=True, text=True, timeout=10)
    assert ran.returncode == 1
    return ran.stdout + ran.stderr


def test_the_template_and_the_function_take_the_same_origins():
    values = some(itertools.product(SCHEMES[:2], HOSTS, PORTS, TAILS[:2]), 250)
    values += some(itertools.product(SCHEMES, HOSTS, PORTS, TAILS), 150)
    values += [f"{first},{second}" for first, second in zip(values[:100], values[1:101])] + LISTS
    expected = TEMPLATE["Parameters"]["AllowedOrigins"]["ConstraintDescription"]
    taken = 0
    for value in values:
        said = said_by_the_function("ALLOWED_ORIGINS", value)
        takes = STARTED in said
        taken += takes
        assert the_template_takes(value) == takes, f"{value!r}: {said}"
        assert takes or expected in said, f"{value!r}: {said}"
    assert 30 < taken < len(values) - 100


def test_the_template_takes_the_address_of_openai_that_the_function_takes():
    parameter = TEMPLATE["Parameters"]["OpenAIBaseUrl"]
    schemes = ["https://", "http://", "ftp://", ""]
    hosts = [
        "api.openai.com", "localhost", "127.0.0.1", "127.1.2.3", "[::1]", "127.0.0.1.example.com", "localhost.example.com",
        "me:secret@api.openai.com", "10.0.0.1", "999.1.1.1", "127.999.1.1", "1.2.3.4", "exa<mple", "a:b", "[::1", "[2001:db8::1]", "",
    ]  # fmt: skip
    tails = ["", "/v1", "/openai/v1/", "?x", "#x"]
    values = ["".join(parts) for parts in itertools.product(schemes, hosts, ["", ":8443", ":99999"], tails)]
    for value in filter(None, values):  # An empty variable is unset; the parameter has a default instead.
        said = said_by_the_function("OPENAI_BASE_URL", value)
        takes = STARTED in said
        assert bool(re.fullmatch(parameter["AllowedPattern"], value)) == takes, f"{value!r}: {said}"
        assert takes or parameter["ConstraintDescription"] in said, f"{value!r}: {said}"
