"""The software bill of materials of a built function, in CycloneDX's JSON.

The crates come from `cargo tree`, which resolves features as the build does. `cargo metadata`, on which cargo-cyclonedx is
based, resolves them for the whole workspace with its tests (rust-lang/cargo#7754): it adds crates that are not in the binary.
"""

import hashlib
import json
import re
import tomllib
import uuid

from release.compile import ROOT, TRIPLES, run

PACKAGE = "token-mint"


def bill(architecture, bootstrap, timestamp):
    """The document about these bytes: each crate that is linked into them, with its licence, its purl and its checksum."""
    edges = tree(TRIPLES[architecture])
    found = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    metadata = {f"{package['name']} {package['version']}": package for package in found}
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {f"{package['name']} {package['version']}": package.get("checksum") for package in lock}
    [root] = [crate for crate in edges if crate.split()[0] == PACKAGE]
    function = component(metadata[root], hashlib.sha256(bootstrap).hexdigest())
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": timestamp,
            # The standard library, which is linked in too, is the compiler's.
            "tools": {
                "components": [{"type": "application", "name": "rustc", "version": run("rustc", "--version").split()[1]}]
            },
            "component": function | {"type": "application"},
            "properties": [{"name": "token-mint:target", "value": TRIPLES[architecture]}],
        },
        "components": [component(metadata[crate], checksums[crate]) for crate in sorted(edges) if crate != root],
        "dependencies": [
            {"ref": purl(metadata[crate]), "dependsOn": sorted(purl(metadata[other]) for other in edges[crate])}
            for crate in sorted(edges)
        ],
    }
    # Another document has another number, and the same document the same one.
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return json.dumps(document | {"serialNumber": f"urn:uuid:{number}"}, indent=2, ensure_ascii=False) + "\n"


def tree(triple):
    """Each crate that is linked for this target, as `name version`, and the crates that it uses.

    Procedural macros run in the compiler and are not in the binary.
    """
    edges, path = {}, []
    command = ["cargo", "tree", "--locked", "--package", PACKAGE, "--edges", "normal,no-proc-macro", "--target", triple]
    for line in run(*command, "--prefix", "depth", "--format", " {p}").splitlines():
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        crate = f"{name} {version}"
        path[int(depth) :] = [crate]
        edges.setdefault(crate, set())
        if len(path) > 1:
            edges[path[-2]].add(crate)
    return edges


def component(package, checksum):
    hashes = {"hashes": [{"alg": "SHA-256", "content": checksum}]} if checksum else {}
    # Cargo still accepts the old form of "either", which SPDX does not know.
    licence = re.sub(r"\s*/\s*", " OR ", package["license"])
    return {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        **hashes,
        "licenses": [{"expression": licence}],
        "purl": purl(package),
    }


def purl(package):
    """The package's address. The project's own crates are not on crates.io, where others may take their names."""
    kind = "cargo" if package["source"] else "generic"
    return f"pkg:{kind}/{package['name']}@{package['version'].replace('+', '%2B')}"
