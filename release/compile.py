"""The functions and the templates, as `make build` makes them, with nothing of this machine in their bytes."""

import json
import os
import pathlib
import subprocess
import sys

from release.error import ReleaseError

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of its own, so that a `make build` after it does not compile everything again: the flags differ.
TARGET = ROOT / "target/dist"
# Each function's program in the folder of a build, by the beginning of its files' names in a release.
BOOTSTRAPS = {"token-mint": "MintFunction/bootstrap", "token-mint-keeper": "KeeperFunction/bootstrap"}
TRIPLES = {"arm64": "aarch64-unknown-linux-gnu", "x86_64": "x86_64-unknown-linux-gnu"}
# Variables of the caller's shell that would change the compiled code.
FOREIGN = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_LAMBDA_", "CFLAGS")


def compiled(architecture):
    """Builds for this architecture; the folder with the templates, and with a `bootstrap` in each function's folder."""
    folder = TARGET / "sam" / architecture
    command = [
        pathlib.Path(sys.executable).parent / "sam", "build", "--build-dir", folder,
        "--template-file", ROOT / "template.yaml", "--parameter-overrides", f"Architecture={architecture}",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment |= {
        "CARGO_BUILD_RUSTFLAGS": " ".join(flags()),
        "CARGO_TARGET_DIR": str(TARGET),
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "SAM_CLI_TELEMETRY": "0",
    }
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise ReleaseError(f"{ran.stdout}\nThe build for {architecture} failed.")
    for name, bootstrap in BOOTSTRAPS.items():
        for path in (f"{ROOT}/", f"{pathlib.Path.home()}/"):
            if os.fsencode(path) in (folder / bootstrap).read_bytes():
                raise ReleaseError(f"{name} for {architecture} contains a path of this machine: {path}")
    return folder


def flags():
    """rustc's flags that replace this machine's paths: panic messages name the file that they come from.

    cargo-lambda adds its own flags to these, but not to RUSTFLAGS.
    """
    prefixes = {source: f"/rustc/{commit}" for source, commit in [standard_library()]}
    packages = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    registries = {str(pathlib.Path(package["manifest_path"]).parents[1]) for package in packages if package["source"]}
    prefixes |= dict.fromkeys(sorted(registries), "/cargo") | {str(ROOT): "/token-mint", str(TARGET): "/target"}
    for path in prefixes:
        if any(character.isspace() for character in path):
            raise ReleaseError(f"A release cannot be built below a folder with a space in its name: {path}")
    return [f"--remap-path-prefix={path}={name}" for path, name in prefixes.items()]


def standard_library():
    """Where rustup puts the standard library's source, if it is installed, and the compiler's commit.

    Without that source, the compiler names it by the commit.
    """
    [commit] = [
        line.split()[1] for line in run("rustc", "--version", "--verbose").splitlines() if line.startswith("commit-hash")
    ]
    return f"{run('rustc', '--print', 'sysroot').strip()}/lib/rustlib/src/rust", commit


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
