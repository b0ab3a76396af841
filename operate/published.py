"""A published release, from a folder or a URL, as the folder that `make build` would leave: `make deploy FROM=…`.

Nothing of it is used before its SHA-256 equals the one in SHA256SUMS. That file shows that a release arrived as it was
published; SECURITY.md says how to check who published it.
"""

import hashlib
import http.client
import io
import ipaddress
import json
import pathlib
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib

import yaml
from samtranslator.yaml_helper import yaml_parse

from operate.build import ARCHITECTURES, machine_of
from operate.error import CommandError

FOLDER = pathlib.Path(".aws-sam/release")
SUMS = "SHA256SUMS"
# The folder of each function's code, as SAM names it in the templates that it builds, and the beginning of its file's name.
# A release without calls has no keeper.
FUNCTION, KEEPER = "MintFunction", "KeeperFunction"
FILES = {FUNCTION: "token-mint", KEEPER: "token-mint-keeper"}
# The largest sizes in bytes. Lambda takes 50 MB packed and 250 MB unpacked, CloudFormation takes templates of 1 MB.
MOST_TEXT, MOST_TEMPLATE, MOST_PACKED, MOST_UNPACKED = 100_000, 1_000_000, 50_000_000, 250_000_000
UNCHANGED = "Nothing was changed."


class PublishedRelease:
    """Reads and checks a release's list of files, its description and its templates."""

    def __init__(self, source):
        self.source = source
        self.read = from_url(source) if "://" in source else from_folder(source)
        self.sums = listed(self.read(SUMS, MOST_TEXT), source)
        try:
            about = json.loads(self.file("release.json", MOST_TEXT))
            self.version, self.commit = str(about["version"]), str(about["commit"])
            self.architectures = [name for name in ARCHITECTURES.values() if name in about["architectures"]]
        except (ValueError, KeyError, TypeError):
            raise self.not_a_release("release.json does not describe one") from None
        self.templates = self.unpacked("token-mint-templates.zip", 10 * MOST_TEMPLATE, r"(\w+/)?template\.yaml", MOST_TEMPLATE)
        try:
            template = yaml_parse(self.templates["template.yaml"].decode())
            self.default_architecture = template["Parameters"]["Architecture"]["Default"]
            code = {
                name: template["Resources"][name]["Properties"]["CodeUri"] for name in FILES if name in template["Resources"]
            }
        except (LookupError, ValueError, TypeError, yaml.YAMLError):
            raise self.not_a_release("template.yaml is not the built template of Token Mint") from None
        if FUNCTION not in code or any(uri != name for name, uri in code.items()):
            raise self.not_a_release("template.yaml is not the built template of Token Mint")
        self.functions = list(code)

    def prepare(self, architecture, folder=FOLDER):
        """Writes the templates and the functions for this architecture into a folder, as `make build` leaves them."""
        if architecture not in self.architectures:
            raise CommandError(
                f"The release has no function for {architecture}, only for {' and '.join(self.architectures) or 'none'}. "
                f"Give another Architecture in PARAMETERS. {UNCHANGED}"
            )
        programs = {f"{function}/bootstrap": self.program(function, architecture) for function in self.functions}
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for path, content in {**self.templates, **programs}.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_bytes(content)
        for path in programs:
            (unfinished / path).chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
        return folder

    def program(self, function, architecture):
        """The program of a function for this architecture."""
        name = f"{FILES[function]}-{architecture}.zip"
        found = self.unpacked(name, MOST_PACKED, "bootstrap", MOST_UNPACKED).get("bootstrap", b"")
        if ARCHITECTURES.get(machine_of(found)) != architecture:
            raise CommandError(f"{name} does not contain a program for {architecture}. {UNCHANGED}")
        return found

    def file(self, name, most):
        """The content of a file, whose checksum is right."""
        if name not in self.sums:
            raise self.not_a_release(f"{SUMS} does not list {name}")
        content = self.read(name, most)
        if hashlib.sha256(content).hexdigest() != self.sums[name]:
            raise CommandError(
                f"{name} in {self.source} is not the file that {SUMS} lists: its SHA-256 differs. "
                f"Download the release again. {UNCHANGED}"
            )
        return content

    def unpacked(self, name, most_packed, allowed, most):
        """The files in a zip file, whose names all have the allowed form, by name."""
        try:
            with zipfile.ZipFile(io.BytesIO(self.file(name, most_packed))) as file:
                names = file.namelist()
                if len(set(names)) != len(names) or not all(re.fullmatch(allowed, one) for one in names) or len(names) > 9:
                    raise self.not_a_release(f"{name} contains other files than a release has")
                found = {}
                for one in names:
                    with file.open(one) as entry:
                        found[one] = bounded(entry, most, f"{one} in {name}")
                return found
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            raise self.not_a_release(f"{name} is not a readable zip file") from None

    def not_a_release(self, why):
        return CommandError(f"{self.source} is not a release of Token Mint: {why}. {UNCHANGED}")


def listed(text, source):
    """Name to SHA-256. The names are those of files in the release itself, each one once."""
    sums = {}
    for line in text.decode(errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][\w.-]*)", line, re.ASCII)
        if not found:
            raise CommandError(
                f"{source} is not a release of Token Mint: {SUMS} has a line in another form: {line[:100]!r}. {UNCHANGED}"
            )
        if found[2] in sums:
            raise CommandError(f"{source} is not a release of Token Mint: {SUMS} lists {found[2]} twice. {UNCHANGED}")
        sums[found[2]] = found[1]
    return sums


def bounded(stream, most, name):
    content = stream.read(most + 1)
    if len(content) > most:
        raise CommandError(f"{name} is larger than {most} bytes, which no file of a release is. {UNCHANGED}")
    return content


def from_folder(source):
    """A function that reads a file of the release in this folder."""
    folder = pathlib.Path(source)
    if not folder.is_dir():
        raise CommandError(f"There is no folder {source}. Give FROM=folder or FROM=https://…. {UNCHANGED}")

    def read(name, most):
        if not (folder / name).is_file():
            raise CommandError(f"{source} is not a complete release of Token Mint: there is no {name}. {UNCHANGED}")
        with (folder / name).open("rb") as file:
            return bounded(file, most, name)

    return read


def from_url(source):
    """A function that downloads a file of the release below this URL."""
    address = urllib.parse.urlsplit(source)
    if address.scheme not in ("https", "http") or not address.hostname:
        raise CommandError(f"FROM={source} is neither a folder nor an https URL. {UNCHANGED}")
    if address.username or address.password or address.query or address.fragment:
        raise CommandError(f"FROM must be a URL without a user, a query and a fragment. {UNCHANGED}")
    if address.scheme == "http" and not is_loopback(address.hostname):
        raise CommandError(
            f"FROM={source} is not encrypted, so anyone on the way could replace the release. Use https. {UNCHANGED}"
        )
    # A proxy cannot reach this machine's own loopback.
    proxies = [urllib.request.ProxyHandler({})] if is_loopback(address.hostname) else []
    opener = urllib.request.build_opener(SameScheme, *proxies)

    def read(name, most):
        url = f"{source.rstrip('/')}/{name}"
        try:
            with opener.open(url, timeout=30) as answer:
                return bounded(answer, most, name)
        except urllib.error.HTTPError as error:
            raise CommandError(
                f"{url} answered {error.code}. FROM must be the URL below which the release's files are, for example "
                f"https://github.com/OWNER/REPOSITORY/releases/download/v1.2.3. {UNCHANGED}"
            ) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CommandError(f"{url} cannot be downloaded: {getattr(error, 'reason', error)}. {UNCHANGED}") from None

    return read


def is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects, which GitHub answers with, but not from https to http, and from loopback to loopback only."""

    def redirect_request(self, request, *others):
        redirected = super().redirect_request(request, *others)
        before, after = (urllib.parse.urlsplit(one.full_url) for one in (request, redirected))
        if after.scheme != before.scheme or (after.scheme == "http" and not is_loopback(after.hostname)):
            raise CommandError(f"{request.full_url} redirects to {redirected.full_url}, which is less secure. {UNCHANGED}")
        return redirected


def prepare(source, architecture):
    """Fetches and checks the release in a folder or at a URL, and returns the folder that it is prepared in."""
    release = PublishedRelease(source)
    folder = release.prepare(architecture or release.default_architecture)
    print(f"Release {release.version}, built from commit {release.commit}.")
    return folder
