"""A broken profiles.json fails every build of the function, and the build shows the message.

The messages themselves are tested in function/profile-check, which writes them."""

import json
import shutil
import subprocess

import pytest
from conftest import ROOT, TARGET, TOOLCHAIN

NOT_COPIED = shutil.ignore_patterns(".git", "target", ".venv", ".aws-sam", "node_modules", "__pycache__", "corpus")


@pytest.fixture
def build():
    """Runs a command in a copy of the project with another profiles.json; the exit code and the output."""
    # Always in the same folder: cargo would keep a build for each.
    copy = TARGET / "broken-profiles"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)

    (copy / ".venv").symlink_to(ROOT / ".venv")

    def build(profiles, *command):
        (copy / "function/profiles.json").write_text(profiles)
        # The dependencies are already compiled, so this takes a second.
        environment = TOOLCHAIN | {"CARGO_TARGET_DIR": str(TARGET), "CARGO_TERM_COLOR": "never"}
        ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600)
        return ran.returncode, ran.stdout + ran.stderr

    yield build
    shutil.rmtree(copy)


def test_a_broken_file_fails_the_build_with_every_message(build):
    shipped = (ROOT / "function/profiles.json").read_text()
    cargo = ["cargo", "build", "--locked", "--package", "token-mint", "--example", "demo", "--features", "calls"]
    code, said = build(shipped.rstrip().removesuffix("}") + ",\n}", *cargo)
    line = shipped.count("\n")
    assert code != 0
    assert f"profiles.json: line {line}, column 1: there is a comma after the last entry. Remove the comma." in said, said

    profiles = json.loads(shipped)
    profiles["default"]["session"]["voice"] = "ash"
    profiles["de-escalation"]["caller_may_set"]["voice"]["at"] = "audio/output/voice"
    profiles["de-escalation"]["session"]["model"] = "gpt-realtime-next"
    code, said = build(json.dumps(profiles), *cargo)
    assert code != 0 and "token-mint" in said
    for sentence in [
        'error: token-mint@0.1.0: profiles.json: profile "default": "/voice" was a field of OpenAI\'s beta API.',
        'profile "de-escalation": the field "voice" writes to "audio/output/voice", which does not begin with a slash.',
        'warning: token-mint@0.1.0: profiles.json: profile "de-escalation": "/model" is "gpt-realtime-next"',
    ]:
        assert sentence in said, said


@pytest.mark.parametrize("target", ["demo", "build", "test"])
def test_a_broken_file_fails_make_before_the_function_is_built(build, target):
    code, said = build('{"defualt": {}}', "make", "--old-file=.venv/tools/ready", target)
    assert code != 0
    assert 'error: profiles.json: there is no profile named "default"' in said and "Compiling token-mint v" not in said, said


def test_the_models_of_the_shipped_file_exist_for_another_month(tmp_path):
    command = ["cargo", "run", "--quiet", "--locked", "--package", "token-mint-profile-check", "--"]
    ran = subprocess.run([*command, "function/profiles.json", "30"], cwd=ROOT, env=TOOLCHAIN, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    ending = tmp_path / "profiles.json"
    ending.write_text('{"default": {"kind": "realtime", "session": {"model": "gpt-realtime"}}}')
    ran = subprocess.run([*command, ending, "3650"], cwd=ROOT, env=TOOLCHAIN, capture_output=True, text=True)
    assert ran.returncode == 1 and "was shut down on 2027-01-20" in ran.stderr
