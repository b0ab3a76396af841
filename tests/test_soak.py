"""The soak: the release binary passes a short one, and each fault of a log fails it."""

import subprocess
import sys

import pytest
from conftest import ROOT, TARGET, TOOLCHAIN, skip


@pytest.fixture(scope="module")
def soaked():
    """The finished process of the shortest soak, three rounds, which takes half a minute."""
    if sys.platform != "linux":
        skip("the soak needs Linux's /proc")
    return subprocess.run(["bench/run", "--soak=0.1"], cwd=ROOT, env=TOOLCHAIN, capture_output=True, text=True, timeout=900)


def test_three_rounds_leave_the_process_as_it_was(soaked):
    assert soaked.returncode == 0, soaked.stdout + soaked.stderr
    answers = {line.split()[1]: int(line.split()[0]) for line in soaked.stdout.splitlines() if line.startswith("   ")}
    assert answers["ok"] > 900
    # One of each kind: the caller's fault, the block list, OpenAI's fault, the table's fault.
    assert {"invalid_request", "caller_blocked", "openai_timeout", "openai_unavailable", "quota_unavailable"} <= set(answers)


@pytest.mark.parametrize(
    "edit, problem",
    [
        ("/_aws/d", "has no record"),
        ("/_aws/p", "has one more record"),
        ('s/"level"/"note":"sk-proj-of-the-bench",&/', '"sk-" is in the log'),
    ],
)
def test_a_record_that_is_missing_or_twice_or_a_key_in_the_log_fails(soaked, tmp_path, edit, problem):
    assert soaked.returncode == 0, "the program and the function are built"
    edited = tmp_path / "bootstrap"
    edited.write_text(f"#!/usr/bin/env bash\nexec {TARGET / 'release/token-mint'} > >(exec sed --unbuffered '{edit}')\n")
    edited.chmod(0o755)
    command = [TARGET / "release/token-mint-bench", "--soak=0.1", edited]
    ran = subprocess.run(command, cwd=ROOT, env=TOOLCHAIN, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1 and problem in ran.stdout + ran.stderr, ran.stdout + ran.stderr
