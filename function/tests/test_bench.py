"""What the README shows of the bench is what its last run measured."""

import json
import re

import pytest
from conftest import ROOT

RESULTS = json.loads((ROOT / "bench/results.json").read_text())
PICTURE = (ROOT / "bench/results.svg").read_text()
OURS = ["mint", "mint with quotas"]
PEERS = ["lambda_http hello", "Python, requests.post", "Python, kept session", "Node, fetch"]


def test_the_picture_is_drawn_from_the_numbers():
    assert set(RESULTS["candidates"]) == {*OURS, *PEERS}, "a run that is kept has left no one out"
    for name, row in RESULTS["candidates"].items():
        assert PICTURE.count(f">{name}</text>") == 3
        for shown in ("cold_cpu_ms", "mint_cpu_ms", "first_ms_at_128"):
            assert f">{row[shown]:.2f}</text>" in PICTURE, (name, shown)
    assert RESULTS["date"] in PICTURE and RESULTS["machine"] in PICTURE
    assert "results.svg" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("what", ["cold_cpu_ms", "mint_cpu_ms", "first_ms_at_128"])
def test_the_readme_s_sentence_about_speed_is_true(what):
    [told] = re.findall(rf"<!-- {what} -->([\d.]+) ms", (ROOT / "README.md").read_text())
    assert told == f"{RESULTS['candidates']['mint'][what]:.2f}"
