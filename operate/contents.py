"""The contents of the secret, as the function reads them.

function/src/secret/ has the same rules and sentences, and function/tests/secrets.json the samples for both.
"""

import hmac
import json
import math
import re

KEY_FIELD = "OPENAI_API_KEY"
PREVIOUS_KEY_FIELD = "PREVIOUS_OPENAI_API_KEY"
IDENTIFIER_KEY_FIELD = "SAFETY_IDENTIFIER_KEY"
BLOCKED_FIELD = "BLOCKED_CALLERS"
PROXY_FIELD = "PROXY_SECRET"
PREVIOUS_PROXY_FIELD = "PREVIOUS_PROXY_SECRET"

NOT_AN_OBJECT = "it begins with {, but is not a JSON object: correct it in the Secrets Manager console"
NO_KEY = "its JSON has no field OPENAI_API_KEY: run make key"
NOT_TEXT = "OPENAI_API_KEY is not text: run make key"
EMPTY = "the key is empty: run make key"
LINE = "the key is a line such as NAME=value: store the value alone, with make key"
BEARER = "the key begins with Bearer: store only the part after it, with make key"
CHARACTERS = "the value of the key has spaces or characters that are not allowed in a key: run make key"
QUOTES = "the key begins or ends with a quotation mark: store it without, with make key"
MARKUP = "the value of the key begins with <, as HTML does, so it is not a key: run make key"
JSON = "the value of the key is JSON, not a key: store the key alone, with make key"
WORD = "the value of the key is a number or a word such as null, so it is not a key: run make key"
PLACEHOLDER = "the value of the key is a placeholder: run make key"
ADDRESS = "the value of the key is a URL or an ARN, not a key: run make key"
UNREADABLE_LIST = f"{BLOCKED_FIELD} is not a list of identifiers"

# Unicode's property White_Space. Python's own set has four more.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
QUOTATION_MARKS = ('"', "'", "`")
# The words that programs write in place of a missing value.
WORDS = {"null", "none", "nil", "undefined", "true", "false"}
# The words that people write in place of a key, without capitals, -, _, / and .
PLACEHOLDERS = {"", "sk", "todo", "tbd", "na", "changeme", "replaceme", "placeholder", "example"}
# A number with as many digits could be a key: Azure's have 32 hexadecimal digits.
DIGITS_OF_A_KEY = 32
SEPARATORS = re.compile(f"[{WHITE_SPACE},;\"'\\[\\]]+")
IDENTIFIER = re.compile("[0-9A-Fa-f]{64}")


class Unusable(Exception):
    """Why the function cannot use a secret: a clause that never quotes it, and the remedy."""


def fields(text):
    """The fields of a secret's text. A secret in plain text is the OpenAI key alone."""
    text = unwrapped(text)
    if not text.startswith("{"):
        return {KEY_FIELD: text}
    found = decode(text)
    if not isinstance(found, dict):
        raise Unusable(NOT_AN_OBJECT)
    return found


def unwrapped(text):
    """The text, or the one inside if a program has written the key or the object as a JSON string."""
    # Some editors begin a file with a byte order mark.
    text = text.lstrip("\ufeff").strip(WHITE_SPACE)
    decoded = decode(text) if text.startswith('"') else None
    return decoded.strip(WHITE_SPACE) if isinstance(decoded, str) else text


def decode(text):
    """The value of a JSON text, or None if the function's stricter parser refuses it."""

    def refused(name):
        raise ValueError(name)

    def finite(digits):
        return float(digits) if math.isfinite(float(digits)) else refused(digits)

    try:
        value = json.loads(text, parse_constant=refused, parse_float=finite)
        json.dumps(value, ensure_ascii=False).encode()  # fails on half of a surrogate pair
        return value
    except ValueError:
        return None


def key(found):
    """The OpenAI key in these fields."""
    value = found.get(KEY_FIELD)
    if value is None:
        raise Unusable(NO_KEY)
    if not isinstance(value, str):
        raise Unusable(NOT_TEXT)
    return key_in(value)


def key_in(text):
    """The key in this text, without the white space and the one pair of quotation marks around it.

    Any other text of visible ASCII is accepted: OpenAI's keys begin with sk-, those of other servers do not.
    """
    text = text.strip(WHITE_SPACE)
    for mark in QUOTATION_MARKS:
        if len(text) > 1 and text.startswith(mark) and text.endswith(mark):
            text = text[1:-1].strip(WHITE_SPACE)
            break
    for is_fault, fault in [
        (text == "", EMPTY),
        (text.startswith(("{", "[")), JSON),
        (text.startswith("<"), MARKUP),
        (is_line(text), LINE),
        (re.match(f"bearer[{WHITE_SPACE}]", text, re.IGNORECASE), BEARER),
        (not re.fullmatch("[!-~]+", text) or text.endswith((",", ";")), CHARACTERS),
        (text.startswith(QUOTATION_MARKS) or text.endswith(QUOTATION_MARKS), QUOTES),
        (is_number(text) or text.lower() in WORDS, WORD),
        ("://" in text or text.startswith("arn:"), ADDRESS),
        (is_placeholder(text), PLACEHOLDER),
    ]:
        if is_fault:
            raise Unusable(fault)
    return text


def is_line(text):
    """Whether the text is a line of a settings file or a shell, such as `export NAME=value`.

    The first equals sign of a key in base64 is its last character, or is followed by one more.
    """
    found = re.fullmatch(
        rf"(?:(?:export|set|setx|env)[{WHITE_SPACE}]+)?+-*+(?:\$env:)?+[A-Za-z_][A-Za-z0-9_.-]*[{WHITE_SPACE}]*([=:])(.*)",
        text,
        re.DOTALL,
    )
    is_assignment = found and found[1] == "=" and found[2].strip("=")
    # A line of YAML or of an HTTP request.
    is_entry = found and found[1] == ":" and found[2].lstrip(WHITE_SPACE).startswith("sk-")
    return bool(is_assignment or is_entry) or KEY_FIELD in text


def is_placeholder(text):
    """Whether a text is a placeholder, as in documentation: `sk-...`, `<key>`, `your-api-key`, `sk-xxxx` or `changeme`."""
    text = text.lower()
    word = re.sub("[-_/.]", "", text)
    return bool(
        "..." in text
        or re.match("[^<]*<[a-z0-9 _-]+>", text)
        or ("your" in text and "key" in text)
        or re.fullmatch(r"(sk)?[x*]{3,}", word)
        or word in PLACEHOLDERS
    )


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text and len(text) < DIGITS_OF_A_KEY


def text_of(found, name):
    """The text of a field, which is empty if the field is absent, and None if it has another type."""
    value = found.get(name)
    if value is None:
        return ""
    return value.strip(WHITE_SPACE) if isinstance(value, str) else None


def identifier_key(found, arn):
    """The key under which callers are hashed. Without one of its own, the secret's ARN gives one, which is not secret."""
    return (text_of(found, IDENTIFIER_KEY_FIELD) or "").encode() or hmac.digest(
        arn.encode(), b"token-mint safety identifier", "sha256"
    )


def blocked(found):
    """The identifiers of the blocked callers, and whether the whole field could be read.

    It is a list of texts, or one text: the console's key/value editor stores text only.
    """
    value = found.get(BLOCKED_FIELD)
    entries = value if isinstance(value, list) else [] if value is None else [value]
    texts = [entry for entry in entries if isinstance(entry, str)]
    words = [word for text in texts for word in SEPARATORS.split(text) if word]
    identifiers = [word.lower() for word in words if IDENTIFIER.fullmatch(word)]
    return list(dict.fromkeys(identifiers)), len(identifiers) == len(words) and len(texts) == len(entries)


def faults(found):
    """The fields that the function cannot read. They do not make the others unusable."""
    not_text = [
        f"{name} is not text"
        for name in (IDENTIFIER_KEY_FIELD, PROXY_FIELD, PREVIOUS_PROXY_FIELD, PREVIOUS_KEY_FIELD)
        if text_of(found, name) is None
    ]
    not_key = [] if is_key_or_empty(text_of(found, PREVIOUS_KEY_FIELD) or "") else [f"{PREVIOUS_KEY_FIELD} is not a key"]
    return [*not_text, *not_key, *([] if blocked(found)[1] else [UNREADABLE_LIST])]


def is_key_or_empty(text):
    try:
        return not text or bool(key_in(text))
    except Unusable:
        return False
