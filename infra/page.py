"""Tables in Markdown, and the places in a page that a program fills."""

import re

from template import ROOT


def table(texts, head, rows):
    """A table whose first columns, so many, are text, and whose others are numbers."""
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("  ", " ") for line in lines)


def fill(page, name, text):
    """The page with `text` in the place called `name`, which is between two comments."""
    place = rf"(.*<!-- {name}: [^\n]* -->\n)(.*)(<!-- end of {name} -->.*)"
    before, _, after = re.fullmatch(place, (ROOT / page).read_text(), re.DOTALL).groups()
    return f"{before}\n{text}\n\n{after}"


def write(page, name, text):
    (ROOT / page).write_text(fill(page, name, text))
