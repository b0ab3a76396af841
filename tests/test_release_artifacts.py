"""A release: its files are the same on every machine, describe what is in them, and are checked before they are deployed.

`make release-check` compiles twice and compares; here, one compiled function is packaged twice, and the comparison is tested. test_stack.py deploys a release.
"""

import datetime
import functools
import hashlib
import http.server
import io
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
import urllib.request
import zipfile

import jsonschema
import pytest
import referencing
import yaml
from conftest import ROOT, TOOLCHAIN, free_port

import release.__main__
import release.check
import release.version
from operate.error import CommandError
from operate.published import FUNCTION, KEEPER, MOST_TEXT, PublishedRelease, SameScheme
from release.__main__ import contents, write
from release.archive import archive, checksums
from release.bill import bill
from release.compile import TRIPLES, flags, standard_library
from release.error import ReleaseError

EPOCH = 1_790_000_000
TEMPLATE = json.dumps(
    {
        "Parameters": {"Architecture": {"Default": "arm64"}},
        "Resources": {name: {"Properties": {"CodeUri": name}} for name in (FUNCTION, KEEPER)},
    }
)
MACHINES = {"arm64": 0xB7, "x86_64": 0x3E}


def program(architecture):
    """The beginning of a program for this architecture, which is all that a release is checked for."""
    return b"\x7fELF" + bytes(14) + MACHINES[architecture].to_bytes(2, "little") + b" for " + architecture.encode()


@pytest.fixture
def folders(tmp_path):
    """Folders as the build for each architecture leaves them."""
    for architecture in TRIPLES:
        for name, content in {
            "template.yaml": TEMPLATE.encode(),
            "DashboardStack/template.yaml": b"Resources: {}\n",
            f"{FUNCTION}/bootstrap": program(architecture),
            f"{KEEPER}/bootstrap": program(architecture) + b", the keeper",
        }.items():
            file = tmp_path / "built" / architecture / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return {architecture: tmp_path / "built" / architecture for architecture in TRIPLES}


@pytest.fixture
def dist(folders, tmp_path, monkeypatch):
    """A release for both architectures, with bills of materials that nobody reads: each real one takes a second."""
    monkeypatch.setattr(release.__main__, "bill", lambda *_: "{}")
    write(contents(folders, EPOCH, "0" * 40), tmp_path / "dist")
    return tmp_path / "dist"


# --- the files --------------------------------------------------------------------------------------------------------


def test_packaging_twice_gives_the_same_bytes(folders, tmp_path):
    program = """
import json, os, pathlib, sys
os.umask(int(sys.argv[1], 8))
from release.__main__ import contents, write
folders = {one: pathlib.Path(sys.argv[2]) / one for one in json.loads(sys.argv[4])}
write(contents(folders, 1790000000, "0" * 40), pathlib.Path(sys.argv[3]))
"""
    copy = tmp_path / "a copy elsewhere"
    shutil.copytree(tmp_path / "built", copy)
    for file in copy.rglob("*"):
        os.utime(file, (1, 1))
        file.chmod(0o700)
    sides = {}
    for name, built, umask, architectures, environment in [
        ("one", tmp_path / "built", "022", ["arm64", "x86_64"], {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
        ("other", copy, "077", ["x86_64", "arm64"], {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "2"}),
    ]:
        into = tmp_path / name
        command = [sys.executable, "-c", program, umask, built, into, json.dumps(architectures)]
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(command, env=TOOLCHAIN | environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        sides[name] = {file.name: file.read_bytes() for file in into.iterdir()}
    assert len(sides["one"]) == 11 and sides["one"] == sides["other"]
    assert archive({"a": b"1", "b": b"2"}, EPOCH) == archive({"b": b"2", "a": b"1"}, EPOCH), "a folder's order is the disk's"


def test_the_sums_are_those_of_sha256sum(dist):
    ran = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {line.split(":")[0] for line in ran.stdout.splitlines()} == {file.name for file in dist.iterdir()} - {"SHA256SUMS"}


def test_lambda_can_start_what_is_in_the_zip(dist):
    programs = {"token-mint": b"", "token-mint-keeper": b", the keeper"}
    for architecture, (name, ending) in itertools.product(TRIPLES, programs.items()):
        with zipfile.ZipFile(dist / f"{name}-{architecture}.zip") as file:
            [entry] = file.infolist()
            assert file.read(entry) == program(architecture) + ending
        assert entry.filename == "bootstrap" and stat.S_IMODE(entry.external_attr >> 16) == 0o755
        assert entry.date_time == datetime.datetime.fromtimestamp(EPOCH, datetime.UTC).timetuple()[:6]


def test_architectures_with_different_templates_are_refused(folders):
    (folders["arm64"] / "template.yaml").write_text(TEMPLATE + " ")
    with pytest.raises(ReleaseError, match="templates differ"):
        contents(folders, EPOCH, "0" * 40)


def test_a_release_replaces_the_one_before(dist, folders):
    write(contents({"arm64": folders["arm64"]}, EPOCH, "0" * 40), dist)
    assert not (dist / "token-mint-x86_64.zip").exists()
    assert [file.name for file in dist.parent.glob("dist*")] == ["dist"]


# --- the bill of materials --------------------------------------------------------------------------------------------


@functools.cache
def document(architecture):
    return json.loads(bill(architecture, b"the function", "2026-11-26T00:00:00Z"))


@pytest.mark.parametrize("architecture", TRIPLES)
def test_the_bill_of_materials_is_valid_cyclonedx(architecture):
    """By the schemas of CycloneDX's own Python library, which checkov brings."""
    [schemas] = (ROOT / ".venv/checkov/lib").glob("python3*/site-packages/cyclonedx/schema/_res")
    names = ["bom-1.6", "spdx", "jsf-0.82"]
    loaded = {name: json.loads((schemas / f"{name}.SNAPSHOT.schema.json").read_text()) for name in names}
    resources = [(schema["$id"], referencing.Resource.from_contents(schema)) for schema in loaded.values()]
    validator = jsonschema.Draft7Validator(loaded["bom-1.6"], registry=referencing.Registry().with_resources(resources))
    assert not list(validator.iter_errors(document(architecture)))
    spoiled = document(architecture) | {"components": [{"name": "no type"}]}
    assert list(validator.iter_errors(spoiled)), "the schema is followed"

    # The schema does not look into expressions of licences.
    known = set(loaded["spdx"]["enum"])
    for crate in components(architecture):
        [licence] = crate["licenses"]
        assert set(re.split(r" OR | AND | WITH |[()]", licence["expression"])) - {""} <= known, crate


def components(architecture):
    made = document(architecture)
    return [made["metadata"]["component"], *made["components"]]


@pytest.mark.parametrize("architecture", TRIPLES)
def test_each_crate_has_a_licence_an_address_and_the_checksum_of_the_lock_file(architecture):
    locked = {(one["name"], one["version"]): one for one in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    own = {"token-mint", "openai-realtime"}
    for crate in components(architecture):
        package = locked[crate["name"], crate["version"]]
        assert crate["purl"] == f"pkg:{'generic' if crate['name'] in own else 'cargo'}/{crate['name']}@{crate['version']}"
        assert crate["licenses"][0]["expression"]
        checksum = [{"alg": "SHA-256", "content": package["checksum"]}] if crate["name"] not in own else None
        if crate["name"] == "token-mint":
            checksum = [{"alg": "SHA-256", "content": hashlib.sha256(b"the function").hexdigest()}]
        assert crate.get("hashes") == checksum, crate
    references = [crate["bom-ref"] for crate in components(architecture)]
    assert len(set(references)) == len(references)
    graph = {one["ref"]: one["dependsOn"] for one in document(architecture)["dependencies"]}
    assert set(graph) == set(references)
    reached, ways = set(), [references[0]]
    while ways:
        crate = ways.pop()
        if crate not in reached:
            reached.add(crate)
            ways += graph[crate]
    assert reached == set(references), "each crate is there because another one uses it"


def test_the_bill_of_materials_lists_what_cargo_compiles():
    """Each library that cargo compiles and that is reached by dependencies that are linked. In a build for the machine itself,
    cargo does not say which libraries are for macros and build scripts only; `make release-check` compares with one that does.
    """
    architecture = os.uname().machine.replace("aarch64", "arm64")

    def cargo(*arguments):
        ran = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=1200)
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    [metadata] = cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", TRIPLES[architecture])
    packages = {package["id"]: package for package in metadata["packages"]}
    uses = {
        node["id"]: [used["pkg"] for used in node["deps"] if any(kind["kind"] is None for kind in used["dep_kinds"])]
        for node in metadata["resolve"]["nodes"]
    }
    macros = {
        one for one, package in packages.items() if any(target["kind"] == ["proc-macro"] for target in package["targets"])
    }
    reached, ways = set(), [one for one, package in packages.items() if package["name"] == "token-mint"]
    while ways:
        package = ways.pop()
        if package not in reached | macros:
            reached.add(package)
            ways += uses[package]
    command = ["build", "--locked", "--release", "--package", "token-mint", "--message-format", "json", "--quiet"]
    compiled = {
        message["package_id"]
        for message in cargo(*command)
        if message["reason"] == "compiler-artifact" and message["target"]["kind"] != ["custom-build"]
    }
    listed = {(crate["name"], crate["version"]) for crate in components(architecture)}
    assert listed == {(packages[one]["name"], packages[one]["version"]) for one in reached & compiled}
    assert len(listed) > 100 and reached - compiled, "`cargo metadata` alone would list too many"


# --- the same bytes -----------------------------------------------------------------------------------------------------


def test_the_flags_of_a_release_keep_paths_of_the_machine_out_of_the_program(tmp_path):
    remapped = flags()
    names = dict(flag.removeprefix("--remap-path-prefix=").rsplit("=", 1) for flag in remapped)
    assert names[str(ROOT)] == "/token-mint" and names[f"{ROOT}/target/dist"] == "/target"
    assert set(names.values()) == {"/token-mint", "/target", "/cargo", f"/rustc/{standard_library()[1]}"}
    # rustc applies the last one that fits, so a folder in another one follows it.
    places = list(names)
    assert places.index(str(ROOT)) < places.index(f"{ROOT}/target/dist")

    def program(folder, *options):
        """The code for a panic, which names its source file, as compiled in this folder."""
        folder.mkdir(exist_ok=True)
        (folder / "lib.rs").write_text("pub fn first(all: &[u8]) -> u8 { all[0] }\n")
        command = ["rustc", "--crate-type", "lib", "--emit", "obj", "-o", folder / "lib.o", *options, folder / "lib.rs"]
        subprocess.run(command, check=True, cwd=folder)
        return (folder / "lib.o").read_bytes()

    one, other = tmp_path / "one", tmp_path / "another place"
    assert program(one) != program(other), "without them, the paths are in it"
    replaced = [[flag.replace(f"{ROOT}=", f"{folder}=") for flag in remapped] for folder in (one, other)]
    assert program(one, *replaced[0]) == program(other, *replaced[1])


@pytest.fixture
def again(dist, tmp_path, monkeypatch):
    """Runs `make release-check`, with a second build that copies the release and lets the test change a file of it."""
    monkeypatch.setattr(release.check, "ROOT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def again(change=lambda folder: None, bill=None):
        ran = []

        def run(command, env=None, umask=-1, **_):
            ran.append([str(word) for word in command])
            if "release" in command:
                shutil.copytree(dist, command[-1])
                change(command[-1])
                assert env["HOME"] != str(tmp_path) and env["TZ"] != os.environ.get("TZ") and umask == 0o077
            return subprocess.CompletedProcess(command, 0)

        monkeypatch.setattr(release.check.subprocess, "run", run)
        monkeypatch.setattr(release.check, "unlike_the_bill", lambda *_: bill)
        release.check.main()
        return ran

    return again


def test_the_second_build_is_of_the_same_commit_in_another_checkout(again, capsys):
    clone, checkout, build = again()
    assert clone[:2] == ["git", "clone"] and checkout[-1] == "0" * 40
    assert build[1:5] == ["-m", "release", "arm64", "x86_64"]
    assert "have the same bytes in all 11 files" in capsys.readouterr().out


def flip(folder):
    content = bytearray((folder / "token-mint-arm64.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "token-mint-arm64.zip").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (flip, "token-mint-arm64.zip"),
        (lambda folder: (folder / "release.json").unlink(), "release.json"),
        (lambda folder: (folder / "notes.txt").touch(), "notes.txt"),
    ],
)
def test_a_file_that_differs_between_the_builds_is_named(again, change, name):
    with pytest.raises(SystemExit, match=rf"These files differ between the two builds: {name}\."):
        again(change)


def test_a_bill_of_materials_that_is_not_what_was_compiled_fails_the_check(again):
    with pytest.raises(SystemExit, match="Only compiled: serde"):
        again(bill="Only compiled: serde.")


def test_libraries_that_only_one_of_bill_and_build_has_are_named(tmp_path, monkeypatch):
    def package(name, library):
        return {"name": name, "version": "1.0.0", "targets": [{"kind": ["lib"], "name": library}]}

    metadata = {"packages": [package("serde", "serde"), package("aws-lc-rs", "aws_lc_rs")]}
    monkeypatch.setattr(release.check, "run", lambda *_: json.dumps(metadata))
    libraries = tmp_path / "target/dist" / TRIPLES["arm64"] / "release/deps"
    libraries.mkdir(parents=True)
    for name in ("token_mint", "serde", "aws_lc_rs"):
        (libraries / f"lib{name}-0123456789abcdef.rlib").touch()

    def compared(*names):
        components = [{"name": name, "version": "1.0.0"} for name in names]
        (tmp_path / "token-mint-arm64.cdx.json").write_text(json.dumps({"components": components}))
        return release.check.unlike_the_bill("arm64", tmp_path, tmp_path)

    assert compared("serde", "aws-lc-rs") is None
    assert "Only in the bill: []. Only compiled: ['aws_lc_rs']." in compared("serde")
    (libraries / "libserde-0123456789abcdef.rlib").unlink()
    assert "Only in the bill: ['serde']. Only compiled: []." in compared("serde", "aws-lc-rs")


# --- the version ------------------------------------------------------------------------------------------------------


def test_the_version_has_its_section_in_the_changelog():
    notes = release.version.notes(f"v{release.version.version()}")
    assert notes.startswith("### ") and "\n## " not in notes


@pytest.mark.parametrize(
    "tag, changelog, sentence",
    [
        ("v1.2.4", "## 1.2.3 – 2026-11-26\n\n- A change.\n", "The tag is v1.2.4, but the version in Cargo.toml is 1.2.3"),
        ("1.2.3", "## 1.2.3 – 2026-11-26\n\n- A change.\n", "The tag is 1.2.3"),
        ("v1.2.3", "## Unreleased\n\n- A change.\n\n## 1.2.2 – 2026-11-26\n\n- A change.\n", "has no section"),
        ("v1.2.3", "## 1.2.3\n\n- A change.\n", "has no section"),
        ("v1.2.3", "## 1.2.3 – 2026-11-26\n\n## 1.2.2 – 2026-11-25\n\n- A change.\n", "has no section"),
        ("v1.2.3", "## 1.2.3 – 2026-11-26\n\n- A change.\n\n## 1.2.2 – 2026-11-25\n", None),
    ],
)
def test_a_tag_is_released_if_it_is_the_version_and_the_changelog_has_it(tag, changelog, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr(release.version, "ROOT", tmp_path)
    (tmp_path / "Cargo.toml").write_text('[workspace.package]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{changelog}")
    if sentence:
        with pytest.raises(ReleaseError, match=re.escape(sentence)):
            release.version.notes(tag)
    else:
        assert release.version.notes(tag) == "- A change.\n"


def test_a_tag_is_checked_before_anything_is_built():
    ran = subprocess.run([sys.executable, "-m", "release.version", "v0.0.0"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.startswith("The tag is v0.0.0") and len(ran.stderr.splitlines()) == 1
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    [build, publish] = workflow["jobs"].values()
    commands = [step.get("run", "") for step in build["steps"]]
    [check] = [number for number, command in enumerate(commands) if "release.version" in command]
    [made] = [number for number, command in enumerate(commands) if "make release release-check" in command]
    assert check < made
    # Only the job that runs nothing of the build may write.
    assert workflow["permissions"] == {} and build["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}
    assert not [step for step in publish["steps"] if "make" in step.get("run", "")]


# --- deploying one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", TRIPLES)
def test_a_release_becomes_the_folder_that_a_build_leaves(dist, folders, tmp_path, architecture):
    found = PublishedRelease(str(dist))
    assert (found.version, found.commit) == (release.version.version(), "0" * 40)
    assert found.architectures == ["x86_64", "arm64"] and found.default_architecture == "arm64"
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/stale").touch()
    prepared = found.prepare(architecture, tmp_path / "prepared")

    def tree(folder):
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    assert tree(prepared) == tree(folders[architecture])
    assert all(os.access(prepared / name / "bootstrap", os.X_OK) for name in (FUNCTION, KEEPER))


def test_a_release_without_calls_has_no_keeper_and_is_deployed_all_the_same(dist, tmp_path):
    template = json.loads(TEMPLATE)
    del template["Resources"][KEEPER]
    packed = archive({"template.yaml": json.dumps(template).encode()}, EPOCH)
    (dist / "token-mint-templates.zip").write_bytes(packed)
    (dist / "token-mint-keeper-arm64.zip").unlink()
    resum(dist)
    prepared = PublishedRelease(str(dist)).prepare("arm64", tmp_path / "prepared")
    assert sorted(file.name for file in prepared.iterdir()) == [FUNCTION, "template.yaml"]


@pytest.fixture
def refused(tmp_path):
    """What a release in this place is refused with, before anything is written."""

    def refused(source):
        with pytest.raises(CommandError) as refusal:
            PublishedRelease(str(source)).prepare("arm64", tmp_path / "prepared")
        assert not list(tmp_path.glob("prepared*")) and str(refusal.value).endswith("Nothing was changed.")
        return str(refusal.value)

    return refused


def resum(dist):
    (dist / "SHA256SUMS").write_text(
        checksums({file.name: file.read_bytes() for file in dist.iterdir() if file.name != "SHA256SUMS"})
    )


@pytest.mark.parametrize(
    "name",
    ["token-mint-arm64.zip", "token-mint-keeper-arm64.zip", "token-mint-templates.zip", "release.json", "SHA256SUMS"],
)
def test_a_file_that_is_missing_is_named(dist, refused, name):
    (dist / name).unlink()
    assert f"there is no {name}" in refused(dist)


@pytest.mark.parametrize(
    "name", ["token-mint-arm64.zip", "token-mint-keeper-arm64.zip", "token-mint-templates.zip", "release.json"]
)
def test_a_file_that_was_changed_is_refused(dist, refused, name):
    content = bytearray((dist / name).read_bytes())
    content[len(content) // 2] ^= 1
    (dist / name).write_bytes(content)
    assert f"{name} in {dist} is not the file that SHA256SUMS lists" in refused(dist)


@pytest.mark.parametrize("name", ["token-mint-templates.zip", "release.json"])
def test_a_list_without_a_needed_file_is_not_a_release(dist, refused, name):
    (dist / name).unlink()
    resum(dist)
    assert f"is not a release of Token Mint: SHA256SUMS does not list {name}" in refused(dist)


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("0" * 64 + "  release.json\n", "lists release.json twice"),
        ("0" * 64 + "  ../../etc/passwd\n", "a line in another form"),
        ("0" * 64 + "  /etc/passwd\n", "a line in another form"),
        ("0" * 64 + "  .aws/credentials\n", "a line in another form"),
        ("0" * 63 + "  release.json\n", "a line in another form"),
        ("<!DOCTYPE html>\n", "a line in another form"),
        (" " * MOST_TEXT, "is larger than"),
    ],
)
def test_a_list_that_names_a_file_twice_or_elsewhere_is_refused(dist, refused, line, sentence):
    with (dist / "SHA256SUMS").open("a") as file:
        file.write(line)
    assert sentence in refused(dist)


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("release.json", b"[]", "release.json does not describe one"),
        ("release.json", b"{", "release.json does not describe one"),
        ("release.json", b" " * (MOST_TEXT + 1), "release.json is larger than"),
        ("token-mint-arm64.zip", b"PK no zip", "is not a readable zip file"),
        ("token-mint-arm64.zip", archive({}, EPOCH), "does not contain a program for arm64"),
        ("token-mint-arm64.zip", archive({"bootstrap": program("x86_64")}, EPOCH), "does not contain a program for arm64"),
        ("token-mint-arm64.zip", archive({"bootstrap": b"#!/bin/sh"}, EPOCH), "does not contain a program for arm64"),
        (
            "token-mint-keeper-arm64.zip",
            archive({"bootstrap": program("x86_64")}, EPOCH),
            "does not contain a program for arm64",
        ),
        ("token-mint-arm64.zip", archive({"bootstrap": b"", "../x": b""}, EPOCH), "other files than a release has"),
        ("token-mint-templates.zip", archive({"template.yaml": b"a: [", "x/y/template.yaml": b""}, EPOCH), "other files"),
        ("token-mint-templates.zip", archive({"../template.yaml": b""}, EPOCH), "other files than a release has"),
        ("token-mint-templates.zip", archive({"template.yaml": b"{}"}, EPOCH), "not the built template of Token Mint"),
        ("token-mint-templates.zip", archive({"template.yaml": b"a: ["}, EPOCH), "not the built template of Token Mint"),
        ("token-mint-templates.zip", archive({}, EPOCH), "not the built template of Token Mint"),
        (
            "token-mint-templates.zip",
            archive({"template.yaml": TEMPLATE.replace(f'"{FUNCTION}"}}', '"/etc"}').encode()}, EPOCH),
            "not the built template of Token Mint",
        ),
        (
            "token-mint-templates.zip",
            archive({"template.yaml": TEMPLATE.replace(f'"{KEEPER}"}}', '"/etc"}').encode()}, EPOCH),
            "not the built template of Token Mint",
        ),
        ("token-mint-templates.zip", archive({"template.yaml": b" " * 1_000_001}, EPOCH), "is larger than 1000000 bytes"),
    ],
)
def test_a_file_with_another_content_is_refused_even_if_its_sum_is_right(dist, refused, name, content, sentence):
    (dist / name).write_bytes(content)
    resum(dist)
    assert sentence in refused(dist)


def test_a_zip_file_that_lists_a_file_twice_is_refused(dist, refused):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file, pytest.warns(UserWarning):
        file.writestr("bootstrap", program("arm64"))
        file.writestr("bootstrap", program("arm64"))
    (dist / "token-mint-arm64.zip").write_bytes(packed.getvalue())
    resum(dist)
    assert "other files than a release has" in refused(dist)


def test_a_release_without_the_architecture_names_those_that_it_has(dist, refused, folders):
    write(contents({"x86_64": folders["x86_64"]}, EPOCH, "0" * 40), dist)
    assert "has no function for arm64, only for x86_64. Give another Architecture in PARAMETERS." in refused(dist)


@pytest.mark.parametrize(
    "source, sentence",
    [
        ("/no/such/folder", "There is no folder /no/such/folder"),
        ("http://releases.example.com/v1", "is not encrypted"),
        ("http://127.0.0.1.example.com/v1", "is not encrypted"),
        ("ftp://releases.example.com/v1", "is neither a folder nor an https URL"),
        ("file:///etc", "is neither a folder nor an https URL"),
        ("https:///v1", "is neither a folder nor an https URL"),
        ("https://user:secret@releases.example.com/v1", "without a user"),
        ("https://releases.example.com/v1?x=y", "without a user, a query and a fragment"),
    ],
)
def test_a_source_that_is_no_folder_and_no_https_url_is_refused(refused, source, sentence):
    said = refused(source)
    assert sentence in said and ":secret@" not in said


@pytest.fixture
def served(dist):
    """The release at a URL of this machine, and redirects: each path to the address that it maps to."""
    redirects = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[self.path])
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=dist.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", redirects
    server.shutdown()
    server.server_close()


def test_a_release_is_downloaded_even_if_a_proxy_is_configured_or_the_server_redirects(served, tmp_path, monkeypatch):
    url, redirects = served
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    redirects["/latest/release.json"] = f"{url}/dist/release.json"
    for name in ["SHA256SUMS", "token-mint-arm64.zip", "token-mint-keeper-arm64.zip", "token-mint-templates.zip"]:
        redirects[f"/latest/{name}"] = f"/dist/{name}"
    for folder in ["dist", "dist/", "latest"]:
        prepared = PublishedRelease(f"{url}/{folder}").prepare("arm64", tmp_path / "prepared")
        assert (prepared / FUNCTION / "bootstrap").read_bytes() == program("arm64")


@pytest.mark.parametrize("target", ["https://127.0.0.1/SHA256SUMS", "http://releases.example.com/SHA256SUMS"])
def test_a_redirect_to_another_scheme_or_off_this_machine_is_refused(served, refused, target):
    url, redirects = served
    redirects["/dist/SHA256SUMS"] = target
    assert f"redirects to {target}, which is less secure" in refused(f"{url}/dist")


def test_a_redirect_from_https_to_http_is_refused():
    request = urllib.request.Request("https://releases.example.com/SHA256SUMS")
    follow = functools.partial(SameScheme().redirect_request, request, None, 302, "Found", {})
    assert follow("https://other.example.com/SHA256SUMS").full_url == "https://other.example.com/SHA256SUMS"
    for target in ["http://releases.example.com/SHA256SUMS", "http://127.0.0.1/SHA256SUMS"]:
        with pytest.raises(CommandError, match="less secure"):
            follow(target)


def test_a_url_that_does_not_answer_with_a_release_is_refused(served, refused):
    url, redirects = served
    assert "/nothing/SHA256SUMS answered 404. FROM must be the URL below which" in refused(f"{url}/nothing")
    redirects["/loop/SHA256SUMS"] = "/loop/SHA256SUMS"
    assert "answered 302" in refused(f"{url}/loop")
    redirects["/file/SHA256SUMS"] = "file:///etc/passwd"
    assert "answered 302" in refused(f"{url}/file")
    assert "cannot be downloaded" in refused(f"https://127.0.0.1:{free_port()}/v1")
    # Another protocol at the port, and a certificate that nobody signed.
    assert "cannot be downloaded" in refused(url.replace("http:", "https:"))
