"""All dependencies are locked: every package has one version and its hash."""

import json
import re
import subprocess

import pytest
from conftest import ROOT, skip

# The files that run commands.
SCRIPTS = [
    ROOT / "Makefile",
    ROOT / "bench/run",
    ROOT / "bench/peers/install",
    ROOT / "function/fuzz/run",
    ROOT / "operate/sam-local",
    ROOT / "requirements/lock",
    ROOT / "infra/buildspec.yml",
    ROOT / "infra/deploy-newest",
    *(ROOT / ".ci").iterdir(),
]
NODE = [ROOT / "bench/peers/node", ROOT / "tests/node", *sorted((ROOT / "client/examples").iterdir())]
COMMANDS = [
    line
    for script in SCRIPTS
    for line in re.sub(r" ## .*", "", script.read_text()).replace("\\\n", " ").splitlines()
    if not line.lstrip().startswith("#")
]


@pytest.mark.parametrize("locked", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda locked: locked.stem)
def test_every_python_package_has_one_version_and_its_hashes(locked):
    assert locked.with_suffix(".in").exists()
    packages = [
        line
        for line in locked.read_text().replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert packages
    for package in packages:
        marker = r"( ; [\w.'<>=! ()]+)?"
        assert re.fullmatch(rf"[\w.-]+==[\w.]+{marker}(\s+--hash=sha256:[0-9a-f]{{64}})+\s*", package), package


def test_the_lock_files_match_their_inputs():
    ran = subprocess.run([ROOT / "requirements/lock", "--check"], capture_output=True, text=True, timeout=300)
    if "Failed to fetch" in ran.stderr:
        skip("the check of the lock files needs the package index")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_pip_installs_only_packages_with_a_hash():
    installs = [command for command in COMMANDS if re.search(r"\bpip3? install\b", command)]
    assert installs
    for install in installs:
        assert {"--require-hashes", "--no-deps"} <= set(install.split()), install


def test_cargo_uses_the_lock_file():
    resolving = [command for command in COMMANDS if re.search(r"\bcargo (?!fmt\b)[a-z]|/cargo-deny ", command)]
    assert resolving
    for command in resolving:
        assert "--locked" in command.split(), command


@pytest.mark.parametrize("node", NODE, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_every_npm_package_has_one_version_and_its_hash(node):
    asked = json.loads((node / "package.json").read_text())
    # The examples use this repository's own package.
    own = asked["dependencies"].pop("token-mint", None)
    assert own in (None, "file:../..")
    for version in (asked["dependencies"] | asked.get("devDependencies", {})).values():
        assert re.fullmatch(r"[\d.]+", version), version
    locked = json.loads((node / "package-lock.json").read_text())["packages"]
    packages = {name: package for name, package in locked.items() if name}
    assert packages
    assert packages.pop("node_modules/token-mint", {}).get("resolved") == own
    for name, package in packages.items():
        assert re.fullmatch(r"sha512-[\w+/]{86}==", package["integrity"]), name
        assert package.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/"), name


def test_npm_uses_the_lock_file_and_runs_no_install_scripts():
    installs = [command for command in COMMANDS if re.search(r"\bnpm (add|ci|exec|i|install|update|x)\b|\bnpx\b", command)]
    assert installs
    for install in installs:
        assert "npm ci --ignore-scripts" in install, install


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda workflow: workflow.stem)
def test_every_action_is_one_commit_of_github_itself(workflow):
    used = re.findall(r"^ *(?:- )?uses: (.+)$", workflow.read_text(), re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
