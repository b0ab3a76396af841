"""The numbers of the bench in README and docs are those of its last run."""

import json
import re

import pytest
from conftest import ROOT

RESULTS = json.loads((ROOT / "bench/results.json").read_text())
PICTURE = (ROOT / "bench/results.svg").read_text()
OURS = ["mint", "mint with quotas"]
PEERS = ["lambda_http hello", "Python, requests.post", "Python, kept session", "Node, fetch"]


def test_the_picture_is_drawn_from_the_numbers():
    assert set(RESULTS["candidates"]) == {*OURS, *PEERS}, "a kept run includes every candidate"
    for name, row in RESULTS["candidates"].items():
        assert PICTURE.count(f">{name}</text>") == 3
        for shown in ("cold_cpu_ms", "mint_cpu_ms", "first_ms_at_128"):
            assert f">{row[shown]:.2f}</text>" in PICTURE, (name, shown)
    assert RESULTS["date"] in PICTURE and RESULTS["machine"] in PICTURE
    assert "results.svg" in (ROOT / "docs/architecture.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_pages_show_the_numbers_of_the_results(page):
    told = re.findall(r"<!-- (?:([^:>]+): )?(\w+_ms\w*) -->([\d.]+) ms", (ROOT / page).read_text())
    assert len(told) >= 3
    for name, what, number in told:
        assert number == f"{RESULTS['candidates'][name or 'mint'][what]:.2f}", (name, what)
