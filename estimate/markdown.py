"""Tables in Markdown, and the places in a page that a program fills."""

import re
import sys

from estimate.template import ROOT, Refused, parameters


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


def show(report, asked, page, name):
    """Prints a program's report, and where that is asked for, writes it into its place in a page."""
    try:
        text = report(asked, parameters(asked.parameters))
    except Refused as refused:
        sys.exit(str(refused))
    if asked.write:
        write(page, name, text)
    print(text)
