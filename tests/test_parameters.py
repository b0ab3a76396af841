"""CloudFormation lets a value of a parameter through exactly if the function starts with it.

A value that only the function refuses would deploy and then end the function at each start. The values are generated from
the constraints that the template declares, and from single-character changes around them.

CloudFormation is imitated here, by its documentation: it compares AllowedValues exactly, matches the whole value with
AllowedPattern, and compares a Number with MinValue and MaxValue before it passes the text on unchanged. "Number" is "an
integer or float"; which spellings count is not documented, so the function accepts all of them.

Not generated are hosts of OpenAIBaseUrl with an invalid label in punycode, such as xn--a: a pattern cannot detect these,
and the function stops with a message."""

import concurrent.futures
import itertools
import os
import random
import re
import subprocess
from re import _constants as parts
from re import _parser as parser

import pytest
from conftest import ROOT, TARGET
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())
PARAMETERS = TEMPLATE["Parameters"]
STARTED = "this program runs inside AWS Lambda"

# Inserted into an accepted value, or in place of one of its characters: punctuation, a space, a letter, a digit, and
# characters that are not ASCII.
CHARACTERS = [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ aZ09", "é", "ß", "…", "漢", "\u202e"]


def parameter_of_variable():
    """Each variable of the function that a parameter sets, with the parameter."""
    found = {}
    for variable, value in TEMPLATE["Resources"]["MintFunction"]["Properties"]["Environment"]["Variables"].items():
        named = set(re.findall(r"\w+", str(value))) & set(PARAMETERS)
        if named:
            [name] = named
            reference = {"Ref": name}
            assert value in (reference, {"Fn::Join": [",", reference]}), f"{variable}: this test does not know {value}"
            found[variable] = name
    return found


VARIABLES = parameter_of_variable()


def matches(name, value):
    # Java's \s, \d and \w are ASCII's.
    return bool(re.fullmatch(PARAMETERS[name]["AllowedPattern"], value, re.ASCII))


def evaluate(condition, name, entries):
    """A condition of the template's rules, as CloudFormation evaluates it."""
    [(function, of)] = condition.items()
    match function:
        case "Fn::And":
            return all(evaluate(each, name, entries) for each in of)
        case "Fn::Not":
            return not evaluate(of[0], name, entries)
        case "Fn::EachMemberEquals":
            assert of[0] == {"Ref": name}
            return all(entry == of[1] for entry in entries)
        case "Fn::Contains":
            assert of[0] == {"Ref": name}
            return of[1] in entries
        case _:
            pytest.fail(f"this test does not know {function}")


def takes_list(name, value):
    rule = TEMPLATE["Rules"]["AnyPageOrThese"]
    # CloudFormation trims each entry, then matches it; a stand-in that matches the whole list must agree on single entries.
    entries = [entry.strip() for entry in value.split(",")]
    matched = all(matches(name, entry) for entry in entries)
    assert matched == matches(name, value), value
    return matched and (
        not evaluate(rule["RuleCondition"], name, entries)
        or all(evaluate(assertion["Assert"], name, entries) for assertion in rule["Assertions"])
    )


def takes_number(name, value):
    # No more than a float: neither NaN nor an underscore, which Python would accept.
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value, re.ASCII):
        return False
    return PARAMETERS[name]["MinValue"] <= float(value) <= PARAMETERS[name]["MaxValue"]


def cloudformation_takes(name, value):
    parameter = PARAMETERS[name]
    if parameter["Type"] == "Number":
        return takes_number(name, value)
    if parameter["Type"] == "CommaDelimitedList":
        return takes_list(name, value)
    if "AllowedValues" in parameter:
        return value in map(str, parameter["AllowedValues"])
    return matches(name, value)


def normal(variable, value):
    """The form in which the function reads a value: more lenient than CloudFormation, for use on one's own machine."""
    value = value.strip()
    return value.upper() if variable == "LOG_LEVEL" else value


def text_of(pattern, chance):
    """A random text that matches a parsed pattern, apart from its lookaheads."""
    text = ""
    for kind, of in pattern:
        if kind is parts.LITERAL:
            text += chr(of)
        elif kind is parts.IN:
            one = chance.choice(of)
            text += chr(one[1] if one[0] is parts.LITERAL else chance.randint(*one[1]))
        elif kind is parts.MAX_REPEAT:
            least, most, inner = of
            most = min(most, least + 4) if most is parts.MAXREPEAT or chance.random() < 0.9 else most
            text += "".join(text_of(inner, chance) for _ in range(chance.randint(least, most)))
        elif kind is parts.SUBPATTERN:
            text += text_of(of[-1], chance)
        elif kind is parts.BRANCH:
            text += text_of(chance.choice(of[1]), chance)
        else:
            assert kind in (parts.AT, parts.ASSERT_NOT), f"this test does not know {kind}"
    return text


def derived(name, count=150):
    """Values that match a parameter's pattern, apart from its lookaheads: the same ones in each run."""
    chance = random.Random(name)
    pattern = parser.parse(PARAMETERS[name]["AllowedPattern"])
    return [text_of(pattern, chance) for _ in range(count)]


def changed(value, chance):
    """The value with one character inserted, replaced or left out, for each of CHARACTERS."""
    for character in CHARACTERS:
        at = chance.randrange(len(value) + 1)
        yield value[:at] + character + value[at:]
        at = chance.randrange(len(value) or 1)
        yield value[:at] + character + value[at + 1 :]
    for at in chance.sample(range(len(value)), min(8, len(value))):
        yield value[:at] + value[at + 1 :]


def around(name, accepted, seeds):
    chance = random.Random(name)
    return [value for seed in chance.sample(accepted, min(seeds, len(accepted))) for value in changed(seed, chance)]


def patterned(name):
    values = derived(name)
    accepted = sorted({value for value in values if value and matches(name, value)})
    assert len(accepted) > 50, name
    lengths = [value * times for value in ("a", "https://a.example/") for times in (64, 128, 129, 200)]
    return values + around(name, accepted, 6) + lengths


def numbers(name):
    least, most = PARAMETERS[name]["MinValue"], PARAMETERS[name]["MaxValue"]
    inside = [least, least + 1, (least + most) // 2, most - 1, most]
    outside = [least - 1, most + 1, -1, -(10**6), most * 10, 10**20, 2**32, 2**64]
    fractions = [f"{number}.{digits}" for number in (*inside, least - 1, most + 1) for digits in ("0", "5", "000", "01", "99")]
    spellings = [
        form.format(number) for number in inside for form in ("00{}", "+{}", "-{}", "{}.", "{}e0", "{}E+0", "0{}.0", "{}0e-1")
    ]
    others = ["1e1", "1e3", "1e-3", ".5", "1e9", "1e400", "-0", "-0.5", "-.5", "--1", "1-", "e", ".", "+", "-", "1.5.5", "1,000", "1_000", "0x10", "ten",
              "NaN", "Infinity", "inf", "1h", "60s", "1 0", "१०", "１０", "²", "true", "null"]  # fmt: skip
    return [str(value) for value in (*inside, 0, *outside)] + fractions + spellings + others + around(name, ["60", "1000"], 2)


def choices(name):
    allowed = [str(value) for value in PARAMETERS[name]["AllowedValues"] if value != ""]
    cases = [change(value) for value in allowed for change in (str.lower, str.upper, str.title, str.swapcase)]
    return allowed + cases + around(name, allowed, len(allowed)) + [",".join(allowed), "x" * 4000]


def origins(name):
    schemes = ["https://", "http://", "", "HTTPS://", "ftp://", "capacitor://", "ionic://", "https:", "https:/"]
    hosts = [
        "app.example.com", "localhost", "127.0.0.1", "[::1]", "[2001:db8::1]", "xn--bcher-kva.example", "my_app-1.example",
        "App.Example.com", "bücher.example", "*", "*.example.com", "me@app.example.com", "app..example.com", "app.example.com.",
        "", "null", "[localhost]", "[::1", "::1", "-",
    ]  # fmt: skip
    ports = ["", ":443", ":80", ":5173", ":8443", ":65535", ":0", ":080", ":", ":x", ":123456", ":65536", ":99999", ":4430"]
    tails = ["", "/", "/login", "?x", "#x", " ", "//"]
    lists = [
        "*", "*,*", ",", "", " ", "https://a.example,", ",https://a.example", "https://a.example,,https://b.example",
        "https://a.example,*", "*,https://a.example", "https://a.example, http://localhost:5173",
        " https://a.example ,https://b.example:8443 ", "https://a.example;https://b.example", "https://a.example https://b.example",
        "https://a.example,https://b.example/", "https://a.example:443,https://b.example", "http://a.example:443,https://b.example:80",
    ]  # fmt: skip
    values = some(itertools.product(schemes[:2], hosts, ports, tails[:2]), 250)
    values += some(itertools.product(schemes, hosts, ports, tails), 150)
    values += [f"{first},{second}" for first, second in itertools.pairwise(values[:101])] + lists
    return values + around(name, ["https://app.example.com", "http://localhost:5173", "https://a.example,https://b.example"], 3)


def base_urls(name):
    schemes = ["https://", "http://", "ftp://", "HTTPS://", ""]
    hosts = [
        "api.openai.com", "localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]", "127.0.0.1.example.com", "localhost.example.com",
        "me:secret@api.openai.com", "10.0.0.1", "999.1.1.1", "127.999.1.1", "1.2.3.4", "01.2.3.4", "08.2.3.4", "127.1", "0x7f.0.0.1",
        "a.0x1f", "a.1", "exa<mple", "a:b", "[::1", "[2001:db8::1]", "[:]", "api.openai.com.", "api..openai.com", "",
    ]  # fmt: skip
    ports = ["", ":8443", ":443", ":0443", ":0", ":", ":65535", ":65536", ":99999"]
    tails = ["", "/", "/v1", "/openai/v1/", "/v1//", "/a/../b", "/%zz", "/ü", "/a b", "\\v1", "?x", "#x"]
    every = some(itertools.product(schemes[:2], hosts, ports[:1], tails[:3]), 120)
    values = every + some(itertools.product(schemes, hosts, ports, tails), 400)
    return values + patterned(name) + around(name, ["https://api.openai.com/v1", "http://127.0.0.1:8081/v1"], 2)


def some(values, count):
    """A few of them, the same ones in each run."""
    return random.Random(2026).sample(["".join(each) for each in values], count)


# In addition to the generators that follow from a parameter's declaration.
OWN = {"AllowedOrigins": origins, "OpenAIBaseUrl": base_urls}


def generator(name):
    parameter = PARAMETERS[name]
    if name in OWN:
        return OWN[name]
    if parameter["Type"] == "Number":
        assert {"MinValue", "MaxValue"} <= set(parameter), f"{name} has no range"
        return numbers
    assert parameter["Type"] == "String", f"{name} needs a generator in OWN"
    if "AllowedValues" in parameter:
        return choices
    assert "AllowedPattern" in parameter, f"{name} is not constrained, so CloudFormation lets every value through"
    return patterned


def said_by_the_function(variable, value):
    ran = subprocess.run([TARGET / "release/token-mint"], env={variable: value}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    return ran.stdout + ran.stderr


def test_every_parameter_of_the_function_is_tested():
    assert len(VARIABLES) >= 10
    assert set(OWN) <= set(VARIABLES.values())
    assert all(generator(name) for name in VARIABLES.values())


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_template_takes_exactly_the_values_that_the_function_takes(variable):
    name = VARIABLES[variable]
    # An empty variable counts as unset, and CloudFormation lets no empty number through.
    values = [value for value in dict.fromkeys(generator(name)(name)) if value.strip() and "\0" not in value]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(lambda value: said_by_the_function(variable, value), values)
        said = dict(zip(values, answers, strict=True))
    differing, taken = [], 0
    for value, answer in said.items():
        starts = STARTED in answer
        taken += starts
        # The function starts with every value that CloudFormation lets through, and otherwise only with another form of one.
        agrees = cloudformation_takes(name, normal(variable, value)) == starts
        if not agrees or (cloudformation_takes(name, value) and not starts):
            differing.append(f"{value!r}: the function {'starts' if starts else 'does not start'}")
        assert starts or variable in answer, f"{value!r}: {answer}"
    assert not differing, f"{len(differing)} of {len(values)}:\n" + "\n".join(differing[:20])
    assert 3 < taken < len(values) - 5, f"{taken} of {len(values)}"


@pytest.mark.parametrize("variable", ["ALLOWED_ORIGINS", "OPENAI_BASE_URL", "PROXY_ADDRESS_HEADER", "AUTH_SUBJECT_CLAIM"])
def test_the_template_and_the_function_explain_a_refused_value_in_the_same_words(variable):
    expected = PARAMETERS[VARIABLES[variable]]["ConstraintDescription"]
    name = VARIABLES[variable]
    values = ("api.openai.com", "https://api.openai.com/?x", "ftp://127.0.0.1", "two words")
    refused = [value for value in values if not cloudformation_takes(name, value)]
    assert len(refused) >= 2
    for value in refused:
        assert expected in said_by_the_function(variable, value)
