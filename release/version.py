"""The version that is released: one number in Cargo.toml, the changelog and the tag.

`python -m release.version v1.2.3` checks a tag and prints the changelog's section, which become the notes of the release.
"""

import re
import sys
import tomllib

from release.compile import ROOT
from release.error import ReleaseError


def version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def notes(tag):
    """The changelog's section about the version that a tag names, which is the workspace's."""
    if tag != f"v{version()}":
        raise ReleaseError(f"The tag is {tag}, but the version in Cargo.toml is {version()}. Tag the commit with v{version()}.")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    section = re.search(
        rf"^## {re.escape(version())} – \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if not section or not section[1].strip():
        raise ReleaseError(f"CHANGELOG.md has no section `## {version()} – YYYY-MM-DD` with a line about the version.")
    return section[1].strip() + "\n"


if __name__ == "__main__":
    try:
        print(notes(sys.argv[1]), end="")
    except ReleaseError as error:
        sys.exit(str(error))
