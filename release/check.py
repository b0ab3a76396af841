"""Builds the release in dist/ a second time, as another machine would, and compares every byte.

Differs on purpose: the checkout's path, the home folders of the user and of cargo, the time zone, the locale, the permissions of
new files, and the time of day. The same on both sides are the processor's architecture and the pinned tools.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from release.compile import ROOT, TRIPLES, run


def main():
    dist = ROOT / "dist"
    if not (dist / "release.json").exists():
        sys.exit("There is no release in dist/. Run `make release` first.")
    about = json.loads((dist / "release.json").read_text())
    if about["commit"].endswith("-dirty"):
        sys.exit("dist/ was built from changes that are not committed. Commit them and run `make release` first.")
    with tempfile.TemporaryDirectory(prefix="token-mint-") as place:
        checkout = pathlib.Path(place) / "another/checkout"
        subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, checkout], check=True)
        subprocess.run(["git", "checkout", "--quiet", about["commit"]], cwd=checkout, check=True)
        again = pathlib.Path(place) / "dist"
        ran = subprocess.run(
            [sys.executable, "-m", "release", *about["architectures"], "--into", again],
            cwd=checkout, env=os.environ | elsewhere(pathlib.Path(place)), umask=0o077,
        )  # fmt: skip
        if ran.returncode:
            sys.exit("The second build failed.")
        names = sorted({file.name for folder in (dist, again) for file in folder.iterdir()})
        different = [name for name in names if not same(dist / name, again / name)]
        problems = [f"These files differ between the two builds: {', '.join(different)}."] if different else []
        problems += [problem for one in about["architectures"] if (problem := unlike_the_bill(one, again, checkout))]
    if problems:
        sys.exit("\n".join(problems))
    print(f"Both builds of version {about['version']} at {about['commit']} have the same bytes in all {len(names)} files.")


def elsewhere(place):
    """The variables of another user on another machine, with this machine's downloads, since those are checked by hash."""
    home, cargo = place / "home", place / "crates"
    home.mkdir()
    cargo.mkdir()
    own = pathlib.Path(os.environ.get("CARGO_HOME") or pathlib.Path.home() / ".cargo")
    for shared in ("registry", "config.toml"):
        if (own / shared).exists():
            (cargo / shared).symlink_to(own / shared)
    rustup = os.environ.get("RUSTUP_HOME") or str(pathlib.Path.home() / ".rustup")
    return {"HOME": str(home), "CARGO_HOME": str(cargo), "RUSTUP_HOME": rustup, "TZ": "Pacific/Kiritimati", "LC_ALL": "C"}


def unlike_the_bill(architecture, dist, checkout):
    """How the bill of materials differs from the libraries that this first build of a checkout has compiled for the target."""
    packages = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    libraries = {
        (package["name"], package["version"]): target["name"].replace("-", "_")
        for package in packages
        for target in package["targets"]
        if "lib" in target["kind"]
    }
    bill = json.loads((dist / f"token-mint-{architecture}.cdx.json").read_text())
    named = {libraries[crate["name"], crate["version"]] for crate in bill["components"]}
    files = (checkout / "target/dist" / TRIPLES[architecture] / "release/deps").glob("*.rlib")
    compiled = {file.name.removeprefix("lib").rpartition("-")[0] for file in files} - {"token_mint"}
    if named != compiled:
        return (
            f"The bill of materials for {architecture} is not what was compiled. "
            f"Only in the bill: {sorted(named - compiled)}. Only compiled: {sorted(compiled - named)}."
        )
    return None


def same(one, other):
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


if __name__ == "__main__":
    main()
