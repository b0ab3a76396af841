"""Markdown tables, and the sections of a page that a program writes."""

import re
import sys

from estimate.template import ROOT, Refused, parameters


def table(texts, head, rows):
    """A table. The first `texts` columns are text, the others are numbers."""
    lines = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("  ", " ") for line in lines)


def fill(page, name, text):
    """The page with `text` in the section `name`, which is between two comments."""
    section = rf"(.*<!-- {name}: [^\n]* -->\n)(.*)(<!-- end of {name} -->.*)"
    before, _, after = re.fullmatch(section, (ROOT / page).read_text(), re.DOTALL).groups()
    return f"{before}\n{text}\n\n{after}"


def write(page, name, text):
    (ROOT / page).write_text(fill(page, name, text))


def show(report, asked, page, name):
    """Prints a program's report, and with --write also writes it into its section of a page."""
    try:
        text = report(asked, parameters(asked.parameters))
    except Refused as refused:
        sys.exit(str(refused))
    if asked.write:
        write(page, name, text)
    print(text)
