"""README and docs: every command is known to a test, every link leads somewhere, and every table is the code's."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from conftest import DEMO_IS_UP, ROOT, TOOLCHAIN, free_port, post, skip
from samtranslator.yaml_helper import yaml_parse

from docs import tables
from estimate.description import REFUSALS, VARIABLES

NAMES = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"]
NAMES = [name for name in NAMES if (ROOT / name).exists()] + sorted(
    f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md")
)
PAGES = {name: (ROOT / name).read_text() for name in NAMES}
ALL = "\n".join(PAGES.values())
TEMPLATE = yaml_parse((ROOT / "template.yaml").read_text())

# Read from the terminal, so that the key is in no history.
WITH_A_KEY = "read -rs KEY && OPENAI_API_KEY=$KEY make demo"

# The commands that other tests run, by the file that runs them.
ELSEWHERE = {
    r'make (build|deploy|key)( PARAMETERS=".+")?': "tests/test_operating.py",
    r"make (status|doctor)": "tests/test_stack.py",
    r"make set DEPLOY_ROLE_ARN=\S+ PARAMETERS=.+": "tests/test_roles.py",
    r"make deploy FLAGS='--tags .+'": "tests/test_options.py",
    r"make (invoke|local-api)": "tests/test_sam_local.py",
    r"make (cost|capacity)( [A-Z_]+=\d+){2}": "tests/test_cost.py",
    r"make set PARAMETERS=.RateLimit=\d+ BurstLimit=.+": "tests/test_cost.py",
    r"make set PARAMETERS=.CallsAtOnceForAll=\d+ DailyCallMinutes=.+": "tests/test_cost.py",
    r"make set PARAMETERS=.(DomainName|ProxyAddressHeader|MonthlyBudgetUsd)=.+": "tests/test_options.py",
    r"sudo apt-get install .+|curl .* \| sh .+|git clone .+|cd token-mint": ".ci/first-page",
    r"cargo test .+ --lib config|\.venv/tools/bin/pytest -q tests/test_pins\.py": ".ci/first-page",
    r"make (check|python-tools)": ".ci/first-page",
    r"make deploy FROM=https://\S+ PARAMETERS=.AllowedOrigins=\S+": "tests/test_stack.py",
    r"sha256sum --check --strict SHA256SUMS": "tests/test_release_artifacts.py",
    # Only after a release at GitHub.
    r"gh attestation verify SHA256SUMS .+": ".github/workflows/release.yml",
    r"python3 -m docs\.tables": "tests/test_docs.py",
    r"npm pack \./client": "tests/test_client.py",
}


def commands():
    """Every line of the pages' shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", ALL, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def curls():
    """The commands that ask a demo, in the order of the pages."""
    return list(dict.fromkeys(command for command in commands() if command.startswith("curl -X POST http://127.0.0.1:8080/")))


def test_every_command_is_run_by_a_test():
    # Like the first, but with origins, a port or, in a test of its own, a key of the reader's.
    demos = r"(ALLOWED_ORIGINS=\S+ )?make demo( PORT=\d+)?"
    here = {command for command in commands() if re.fullmatch(demos, command)} | {*curls(), WITH_A_KEY}
    # This very test is part of it.
    here.add("make test")
    assert {"make demo", "make test", WITH_A_KEY} <= set(commands())
    unknown = [command for command in commands() if command not in here]
    unknown = [command for command in unknown if not any(re.fullmatch(known, command) for known in ELSEWHERE)]
    assert not unknown, "no test runs these"
    assert all((ROOT / file).exists() for file in ELSEWHERE.values())
    walk = (ROOT / ".ci/first-page").read_text()
    for command in commands():
        if command.startswith(("cargo test", ".venv/tools/bin/pytest")):
            assert command in walk, command


def test_the_pages_requests_do_what_they_say(demo):
    if not shutil.which("curl"):
        skip("the README's commands need curl")
    _, port = demo()
    answers = {}
    for command in curls():
        command_here = command.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}")
        ran = subprocess.run(["bash", "-c", command_here], capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
        answers[command] = json.loads(ran.stdout or "{}")
    plain, voice, planned = answers.values()
    assert plain["success"] and voice["voice"] == "marin"
    assert planned == {}
    assert json.loads(post(f"http://127.0.0.1:{port}/token")[2])["code"] == "openai_out_of_quota"


def test_the_line_for_a_key_takes_it_without_showing_it(simulator, tmp_path):
    port = free_port()
    environment = TOOLCHAIN | {"PORT": str(port), "OPENAI_BASE_URL": f"{simulator}/v1"}
    log = tmp_path / "demo.log"
    with log.open("w") as output:
        ran = subprocess.Popen(["bash", "-c", WITH_A_KEY], cwd=ROOT, env=environment, stdin=subprocess.PIPE, text=True,
                               stdout=output, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
        try:
            ran.stdin.write("sk-my-own\n")
            ran.stdin.flush()
            deadline = time.monotonic() + 30
            while DEMO_IS_UP not in log.read_text():
                assert ran.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            assert post(f"http://127.0.0.1:{port}/token")[0] == 200
        finally:
            os.killpg(ran.pid, signal.SIGTERM)
            ran.wait(timeout=10)
    assert len(json.loads(post(f"{simulator}/simulator/requests", None, method="GET")[2])) == 1
    assert "sk-my-own" not in log.read_text() and "simulated" not in log.read_text()


def test_the_line_for_another_page_names_its_origin(demo):
    [line] = [command for command in commands() if command.startswith("ALLOWED_ORIGINS=")]
    named = line.split()[0].removeprefix("ALLOWED_ORIGINS=")
    _, port = demo(ALLOWED_ORIGINS=named)
    for origin, status in ((named, 200), (f"http://localhost:{port}", 200), ("https://evil.example", 403)):
        assert post(f"http://127.0.0.1:{port}/token", headers={"Origin": origin})[0] == status, origin


def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page):
    text, folder = PAGES[page], (ROOT / page).parent
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text) + re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', text)
    for link in links:
        path, _, anchor = link.partition("#")
        target = folder / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_shows_the_page_and_leads_to_every_other_page():
    readme = PAGES["README.md"]
    assert "function/examples/demo/page.png" in readme
    assert len(readme.splitlines()) <= 150
    for name in PAGES:
        assert name == "README.md" or f"({name})" in readme, name


def test_every_path_that_the_architecture_names_is_there():
    page = PAGES["docs/architecture.md"]
    later = re.search(r"They do not exist yet:\n(.*?)\n\n", page, re.DOTALL)[1]
    names = set(re.findall(r"`([\w.-]+/[\w./-]*|\w+\.(?:rs|py|yaml|toml|json))`", page.replace(later, "")))
    crates = [ROOT / "function/src", ROOT / "simulator/src"]
    folders = [ROOT, ROOT / "function", ROOT / "bench", *crates]
    folders += [folder for folder in crates[0].iterdir() if folder.is_dir()]
    folders += [ROOT / "infra", ROOT / "estimate", ROOT / "release"]
    assert len(names) > 40
    assert not [name for name in names if not any((folder / name).exists() for folder in folders)]
    for name in re.findall(r"`([\w./]+)`", later):
        assert not (crates[0] / name).exists(), f"{name} has work now: move it to the table"
    tables_of_files = page.split("## The files of the function")[1].split("## The files of the simulator")
    for crate, table in zip(crates, tables_of_files, strict=True):
        for file in crate.rglob("*.rs"):
            path = file.relative_to(crate)
            named = any(f"`{name}`" in table for name in (path, file.name, "call/" if path.parts[0] == "call" else path))
            assert named or file.name == "mod.rs", f"{file.relative_to(ROOT)} is in no row"


def test_the_pages_and_the_makefile_name_the_same_targets():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}
    pages = "\n".join(text for name, text in PAGES.items() if name != "CHANGELOG.md")
    assert targets == set(re.findall(r"(?:^|`|=\S+ )make ([a-z-]+)", pages, re.MULTILINE))


def test_the_tables_that_are_made_from_the_code_are_new():
    for path, text in tables.pages():
        assert (ROOT / path).read_text() == text, "run `python3 -m docs.tables`"


def test_the_tables_of_parameters_and_alarms_match_the_template():
    """Read by another parser than the program's own."""
    lines = PAGES["docs/parameters.md"].splitlines()
    for name, given in TEMPLATE["Parameters"].items():
        [row] = [line for line in lines if line.startswith(f"| `{name}` |")]
        _, default, allowed, effect = row.strip("| ").split(" | ")
        assert default == str(given["Default"] if given["Default"] != "" else "–")
        assert effect == given["Description"]
        if "MinValue" in given:
            assert allowed == f"{given['MinValue']} to {given['MaxValue']}"
        for value in given.get("AllowedValues", []):
            assert value == "" or f"`{value}`" in allowed
    alarms = {
        name: found["Properties"]["AlarmDescription"]
        for name, found in TEMPLATE["Resources"].items()
        if found["Type"] == "AWS::CloudWatch::Alarm"
    }
    shown = dict(re.findall(r"^\| (\w+Alarm) \| (.+) \|$", PAGES["docs/operating.md"], re.MULTILINE))
    assert shown == alarms and len(alarms) == 15
    assert "| fifteen alarms |" in PAGES["README.md"]
    given = re.findall(r"(\w+)=\S+", " ".join(re.findall(r'PARAMETERS="(.*?)"', ALL)))
    assert set(given) - {"Name"} <= set(TEMPLATE["Parameters"])


def test_the_table_of_variables_is_that_of_the_function():
    rows = list(tables.variables())
    assert [row[0].strip("`") for row in rows] == re.findall(r"^\| `([A-Z_]+)` \|", PAGES["docs/parameters.md"], re.MULTILINE)
    assert [row[0].strip("`") for row in rows] == list(VARIABLES)
    assert all(effect for *_, effect in rows), "each has a comment at its constant"
    # A range and a default for each number that is read.
    numbers = [row for row in rows if row[2] != tables.NONE]
    assert len(numbers) == 10 and all(default.isdigit() for _, default, *_ in numbers)
    # Where a parameter of the stack has the same name, it has the same default.
    defaults = {
        re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper(): given["Default"] for name, given in TEMPLATE["Parameters"].items()
    }
    defaults["OPENAI_BASE_URL"] = defaults.pop("OPEN_AIBASE_URL")
    same = {name.strip("`"): default.strip("`") for name, default, *_ in rows if name.strip("`") in defaults}
    assert len(same) > 8
    for name, default in same.items():
        assert str(defaults[name]) in ("", default), name


def test_the_table_of_refusals_is_that_of_the_function():
    table = re.findall(r"^\| (\d{3}) \| `([a-z_]+)` \|", PAGES["docs/api.md"], re.MULTILINE)
    assert sorted((int(status), code) for status, code in table) == sorted(REFUSALS)


def test_the_readme_has_the_price_of_the_cost_page():
    [month] = re.findall(r"^\| \*\*Sum\*\* \| +\| \*\*([\d.]+)\*\* \|", PAGES["docs/cost.md"], re.MULTILINE)
    assert f" {month} USD a month for a million tokens " in PAGES["README.md"]
