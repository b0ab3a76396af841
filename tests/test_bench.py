"""The numbers in README and docs are those of the last bench run."""

import json
import re

import pytest
from conftest import ROOT

RESULTS = json.loads((ROOT / "bench/results.json").read_text())
PICTURE = (ROOT / "bench/results.svg").read_text()
OURS = ["mint", "mint with quotas", "call"]
PEERS = ["lambda_http hello", "Python, requests.post", "Python, kept session", "Node, fetch"]
# Measured only where Go is installed.
OPTIONAL = {"Go, net/http"}


def test_the_picture_shows_the_numbers():
    assert set(RESULTS["candidates"]) - OPTIONAL == {*OURS, *PEERS}, "a kept run measured every candidate"
    for name, row in RESULTS["candidates"].items():
        assert PICTURE.count(f">{name}</text>") == 3
        for shown in ("cold_cpu_ms", "mint_cpu_ms", "first_ms_at_128"):
            assert f">{row[shown]:.2f}</text>" in PICTURE, (name, shown)
    assert RESULTS["date"] in PICTURE and RESULTS["machine"] in PICTURE
    assert "results.svg" in (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_pages_show_the_numbers_of_the_bench(page):
    shown = re.findall(r"<!-- (?:([^:>]+): )?(\w+_ms\w*) -->([\d.]+) ms", (ROOT / page).read_text())
    assert len(shown) >= 3
    for name, field, number in shown:
        assert number == f"{RESULTS['candidates'][name or 'mint'][field]:.2f}", (name, field)
