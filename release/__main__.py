"""Builds a release into a folder: the functions for each architecture, the templates, bills of materials and checksums."""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from release.archive import archive, checksums
from release.bill import bill
from release.compile import BOOTSTRAPS, ROOT, TRIPLES, compiled, run
from release.error import ReleaseError
from release.version import version


def contents(folders, epoch, commit):
    """The files of a release, by name, from the folder that was built for each architecture."""
    timestamp = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    files, sets = {}, []
    for architecture, folder in folders.items():
        for name, path in BOOTSTRAPS.items():
            bootstrap = (folder / path).read_bytes()
            files[f"{name}-{architecture}.zip"] = archive({"bootstrap": bootstrap}, epoch)
            files[f"{name}-{architecture}.cdx.json"] = bill(architecture, bootstrap, timestamp).encode()
        sets.append({str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("template.yaml")})
    if any(templates != sets[0] for templates in sets):
        raise ReleaseError("The templates differ between the architectures, but a release has one set.")
    files["token-mint-templates.zip"] = archive(sets[0], epoch)
    about = {"name": "token-mint", "version": version(), "commit": commit, "architectures": sorted(folders)}
    files["release.json"] = (json.dumps(about, indent=2) + "\n").encode()
    return files | {"SHA256SUMS": checksums(files).encode()}


def write(files, into):
    """Replaces the folder by these files, once all of them are there."""
    unfinished = into.with_name(f"{into.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, content in files.items():
        (unfinished / name).write_bytes(content)
    shutil.rmtree(into, ignore_errors=True)
    unfinished.rename(into)


def main():
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("architectures", nargs="+", choices=TRIPLES)
    parser.add_argument("--into", type=pathlib.Path, default=ROOT / "dist", help="the folder, which is replaced")
    asked = parser.parse_args()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    commit = run("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    folders = {}
    for architecture in asked.architectures:
        print(f"Building for {architecture}: about 3 minutes on two cores the first time.", flush=True)
        folders[architecture] = compiled(architecture)
    files = contents(folders, epoch, commit)
    write(files, asked.into)
    print(f"Version {version()} at {commit} is in {asked.into}:")
    for name in sorted(files):
        print(f"  {hashlib.sha256(files[name]).hexdigest()}  {len(files[name]) / 1e6:5.3f} MB  {name}")


if __name__ == "__main__":
    try:
        main()
    except ReleaseError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd))} failed.")
    except KeyboardInterrupt:
        sys.exit("\nThe release was not built.")
