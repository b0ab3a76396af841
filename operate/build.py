"""A build: the one that `make build` leaves in .aws-sam/build, or a published release in the same form."""

import datetime
import pathlib

from operate.error import CommandError
from operate.template import Template

FOLDER = pathlib.Path(".aws-sam/build")
# The e_machine field of an ELF header.
ARCHITECTURES = {0x3E: "x86_64", 0xB7: "arm64"}


def machine_of(program):
    """The e_machine field of an ELF program, of which the first 20 bytes are enough; None for another kind of file."""
    if len(program) < 20 or not program.startswith(b"\x7fELF"):
        return None
    return int.from_bytes(program[18:20], "little")


class Build:
    """Reads the built template and the functions that belong to it. A build of a release without calls has no keeper."""

    def __init__(self, folder=FOLDER):
        self.folder = folder
        template = folder / "template.yaml"
        if not template.is_file():
            raise CommandError("There is no build. Run `make build` first. Nothing was changed.")
        self.template = Template(template.read_text())
        bootstrap = self.program(self.template.function)
        self.bootstrap = bootstrap.read_bytes()
        self.architecture = self.architecture_of(bootstrap)
        self.time = datetime.datetime.fromtimestamp(bootstrap.stat().st_mtime)
        self.keeper = None
        if self.template.keeper:
            keeper = self.program(self.template.keeper)
            self.keeper = keeper.read_bytes()
            if self.architecture_of(keeper) != self.architecture:
                raise CommandError(f"{keeper} is not a program for {self.architecture}. Run `make build`. Nothing was changed.")

    def program(self, function):
        """The file with the program of a function."""
        uri = function.get("CodeUri")
        bootstrap = self.folder / uri / "bootstrap" if isinstance(uri, str) else None
        if not bootstrap or not bootstrap.is_file():
            raise CommandError(
                f"The build in {self.folder} does not have all functions. Run `make build` first. Nothing was changed."
            )
        return bootstrap

    def architecture_of(self, bootstrap):
        found = ARCHITECTURES.get(machine_of(bootstrap.read_bytes()))
        if not found:
            raise CommandError(f"{bootstrap} is not a program for arm64 or x86_64. Run `make build`. Nothing was changed.")
        return found

    def require(self, architecture, target):
        """Refuses a build for another processor, which Lambda could not start."""
        if architecture != self.architecture:
            raise CommandError(
                f"The build is for {self.architecture}, not for {architecture}. "
                f"Run `make build PARAMETERS=Architecture={architecture}`, then `make {target}` again. Nothing was changed."
            )
