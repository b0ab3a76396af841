"""Within a second, a make target names all tools that the machine lacks, with the commands that install them."""

import re
import shutil
import subprocess
import time

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
DEVELOPMENT = (ROOT / "docs/development.md").read_text()

# Programs that are part of every system in the README, and of no install line.
BASE = ["awk", "bash", "cat", "dirname", "env", "grep", "head", "make", "sed", "sh", "sort", "tail", "uname"]

# Targets, and some of the tools that each names on a machine with the base alone.
RUST, PYTHON = ["Rust 1.94.1 or later: there is no cargo", "a C compiler (cc)"], ["Python 3.11 or later: there is no python3"]
NEEDS = {
    "demo": RUST,
    "test": [*RUST, "a C++ compiler (c++)", *PYTHON, "curl", "git"],
    "check": [*RUST, *PYTHON, "git"],
    "lint": [*RUST, *PYTHON, "git"],
    "rust-tests": [*RUST, *PYTHON],
    "fuzz": [*RUST, "a C++ compiler (c++)"],
    "python-tests": [*RUST, *PYTHON, "curl", "git"],
    "bench": [*RUST, *PYTHON],
    "soak": RUST,
    "invoke": [*RUST, *PYTHON, "a running Docker engine that you may use: start Docker"],
    "build": [*RUST, *PYTHON],
    "deploy": PYTHON,
    "release": [*RUST, *PYTHON, "git"],
    "release-check": [*RUST, *PYTHON, "git"],
    "key": PYTHON,
    "lock": PYTHON,
    "cost": ["python3"],
}


@pytest.fixture
def bare(tmp_path):
    """Runs a command with only the base programs on the PATH, and programs given as NAME="the text that it prints"."""

    def run(*command, **programs):
        folder = tmp_path / "bin"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in BASE:
            (folder / name).symlink_to(shutil.which(name))
        for name, printed in programs.items():
            (folder / name).write_text(f"#!/bin/sh\necho {printed}\n")
            (folder / name).chmod(0o755)
        environment = {"PATH": str(folder), "HOME": str(tmp_path)}
        # The machine may be busy once or twice.
        for _ in range(3):
            began = time.monotonic()
            ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
            if time.monotonic() - began < 1:
                return ran
        pytest.fail(f"{command} takes longer than a second")

    return run


@pytest.mark.parametrize("target", NEEDS)
def test_a_target_names_all_missing_tools_at_once(bare, target):
    ran = bare("make", target)
    assert ran.returncode and not ran.stdout, "no step has started"
    missing = re.search(r"^Missing on this machine:\n((?:  .*\n)+)", ran.stderr, re.MULTILINE)[1]
    assert [line.strip().split(":")[0] for line in missing.splitlines()] == [need.split(":")[0] for need in NEEDS[target]]
    for need in NEEDS[target]:
        assert need in missing
    # The commands are those of the README.
    commands = [line.strip() for line in ran.stderr.split(missing)[1].splitlines() if line.startswith("  ")]
    assert len(commands) == 1 + ("Rust" in missing)
    for command in commands:
        assert f"\n{command}\n" in README, command


@pytest.mark.parametrize("version, fits", [("1.65.0", False), ("1.94.0", False), ("1.94.1", True), ("1.100.0-nightly", True)])
def test_an_old_rust_is_named_with_its_version(bare, version, fits):
    ran = bare("requirements/check", "rust", cargo=f"cargo {version}", cc="")
    assert (ran.returncode == 0) == fits
    assert fits or (f"Rust 1.94.1 or later: cargo is {version}" in ran.stderr and "Install Rust with rustup:" in ran.stderr)


@pytest.mark.parametrize("version, fits", [("3.9.2", False), ("3.10.13", False), ("3.11.2", True), ("3.14.0rc1", True)])
def test_an_old_python_is_named_with_its_version(bare, version, fits):
    ran = bare("requirements/check", "python", python3=version)
    assert (ran.returncode == 0) == fits
    assert fits or f"Python 3.11 or later: python3 on the PATH is {version}" in ran.stderr


def test_the_error_of_a_cargo_that_does_not_run_is_shown(bare):
    ran = bare("requirements/check", "rust", cargo="no toolchain is installed >&2; exit 1", cc="")
    assert ran.returncode and "no toolchain is installed" in ran.stderr and "cargo does not run" in ran.stderr


def test_make_without_a_target_lists_the_commands(bare):
    ran = bare("make")
    assert ran.returncode == 0 and not ran.stderr
    assert "make demo " in ran.stdout and len(ran.stdout.splitlines()) > 20


def test_ci_installs_the_packages_in_readme_and_docs():
    named = {
        package
        for line in re.findall(r"^sudo apt-get install --no-install-recommends (.+)$", README + DEVELOPMENT, re.MULTILINE)
        for package in line.split()
    }
    assert {"g++", "chromium"} <= named
    installs = re.findall(r"apt-get install -qq (.*?)>/dev/null", (ROOT / ".ci/run").read_text(), re.DOTALL)
    assert named <= set(" ".join(installs).split())
