"""The project's JavaScript and TypeScript pass Biome: formatting, lints and imports, by the rules of biome.jsonc."""

import shutil
import subprocess

import pytest
from conftest import ROOT, skip

PAGE = ROOT / "function/examples/demo/page"


@pytest.fixture(scope="module")
def biome():
    """Runs Biome on files of a folder that contains biome.jsonc."""
    program = ROOT / "tests/node/node_modules/.bin/biome"
    if not program.exists():
        skip("the check of the JavaScript needs npm")

    def biome(folder, *files, options=()):
        command = [program, "ci", "--error-on-warnings", "--colors=off", *options, *files]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)

    return biome


def test_every_javascript_file_is_formatted_and_free_of_findings(biome):
    list_files = ["git", "ls-files", "*.js", "*.jsx", "*.ts", "*.tsx"]
    tracked = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True)
    files = tracked.stdout.split()
    assert len(files) > 10
    ran = biome(ROOT, *files)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"Checked {len(files)} files" in ran.stderr, "biome.jsonc leaves a file out"


FAULTS = {
    "noUndeclaredVariables": "export const name = undefinedName;\n",
    "noUnusedVariables": "const name = 1;\n",
    "noUnusedImports": "import { showNotice } from './notice.js';\n",
    "cannot be resolved": "import { showNotice } from './missing.js';\n\nshowNotice();\n",
    "no export named": "import { missing } from './notice.js';\n\nmissing();\n",
    "noFloatingPromises": "import { requestToken } from './token.js';\n\nrequestToken({});\n",
    "noImportCycles": "import { elements } from './elements.js';\n\nexport const name = elements.name;\n",
    "formatting output": 'export const name = "name";\n',
}


@pytest.mark.parametrize("finding", FAULTS)
def test_a_fault_is_found(biome, tmp_path, finding):
    shutil.copy(ROOT / "biome.jsonc", tmp_path)
    for file in PAGE.glob("*.js"):
        shutil.copy(file, tmp_path)
    if finding == "noImportCycles":
        with (tmp_path / "elements.js").open("a") as elements:
            elements.write("\nexport { name } from './fault.js';\n")
    (tmp_path / "fault.js").write_text(FAULTS[finding])
    # The folder is not a Git repository.
    ran = biome(tmp_path, "fault.js", options=["--vcs-enabled=false"])
    assert ran.returncode == 1
    assert finding in ran.stdout + ran.stderr


def test_a_file_without_faults_passes(biome, tmp_path):
    shutil.copy(ROOT / "biome.jsonc", tmp_path)
    (tmp_path / "good.js").write_text("export const name = 'name';\n")
    ran = biome(tmp_path, "good.js", options=["--vcs-enabled=false"])
    assert ran.returncode == 0, ran.stdout + ran.stderr
