"""The documentation is run: every python block, every command, the notebooks."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import typer.main
from nbclient import NotebookClient
from typer.testing import CliRunner

import lrtune
from lrtune.cli.commands import app
from lrtune.diagnosis import registry

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))
COMMANDS = [
    line.removeprefix("$ ")
    for kind, text in BLOCK.findall(README)
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("$ ")
]
QUICK = {
    "search": ["--steps", "160"],
    "range-test": ["--steps", "24", "--seeds", "1"],
    "transfer": ["--steps", "60", "--budget", "20", "--seeds", "1"],
}
"""Appended to the README's commands: what a test needs to know does not take full budgets."""


def python_blocks(page):
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == "python"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    yield tmp_path
    sys.modules.pop("train", None)


def tool(name):
    """A module of docs/tools, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page", ["README.md", *(page for page in PAGES if python_blocks(ROOT / page))]
)
def test_the_python_blocks_run_in_order(page, folder):
    blocks = python_blocks(ROOT / page)
    scope = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)  # noqa: S102 - it is our own page


@pytest.mark.slow
def test_the_commands_run(folder):
    (train,) = [block for block in python_blocks(ROOT / "README.md") if "# train.py" in block]
    Path("train.py").write_text(train)
    ours = [command for command in COMMANDS if command.startswith("lrtune ")]
    assert {shlex.split(command)[1] for command in ours} == {
        "search", "check", "compare", "diagnose", "range-test", "recipes", "report", "schedules",
        "studies", "transfer",
    }  # fmt: skip
    slow = [f"slow,{step},{2 - 0.01 * step}" for step in range(50)]
    fast = [f"fast,{step},{2 * 0.9**step}" for step in range(50)]
    Path("curves.csv").write_text("\n".join(["run,step,loss", *slow, *fast]))
    for command in ours:
        line, _, into = command.partition(" > ")
        words = shlex.split(line)[1:]
        fewer = ["--steps", "40"] if "--lr" in words else QUICK.get(words[0], [])
        result = CliRunner().invoke(app, [*words, *fewer])
        assert result.exit_code == 0, (command, result.output)
        if into:
            Path(into).write_text(result.stdout)


@pytest.mark.slow
def test_the_sample_of_a_diagnosis_is_what_is_printed(folder):
    blocks = BLOCK.findall((ROOT / "docs/diagnosis.md").read_text())
    command, sample = next(text for kind, text in blocks if kind == "console"), dict(blocks)["text"]
    (train,) = [block for block in python_blocks(ROOT / "README.md") if "# train.py" in block]
    Path("train.py").write_text(train)
    printed = CliRunner().invoke(app, shlex.split(command)[2:]).stdout
    words, ours = (re.sub(r"\d[\d.]*", "#", text).split() for text in (printed, sample))
    assert words == ours  # numbers depend on the machine


def test_the_make_targets_are_there_and_ci_calls_them():
    ours = [shlex.split(command)[1] for command in COMMANDS if command.startswith("make ")]
    assert ours == ["demo", "test"]
    ci = (ROOT / ".ci/run").read_text()
    for target in ours:
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)
        assert f"make {target}" in ci


def test_every_command_of_ours_is_in_the_readme():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        inside = group.typer_instance.registered_commands
        names |= {f"{group.name} {one.name or one.callback.__name__}" for one in inside}
    assert [name for name in names if f"lrtune {name}" not in README] == []


def test_links_within_the_project_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), ROOT / "ARCHITECTURE.md"]:
        for link in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text()):
            assert (page.parent / link).exists(), (page.name, link)


def test_every_file_and_package_of_the_architecture_page_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    files = re.findall(r"`([\w/]+\.(?:py|toml))`", text)
    assert len(files) > 30
    folder = ""
    for file in files:
        # A bare name, such as `vmapped.py`, lies beside the file that was named before it.
        folder = file.rpartition("/")[0] or folder
        path = file if "/" in file or (ROOT / file).is_file() else f"{folder}/{file}"
        assert (ROOT / path).is_file() or (ROOT / "lrtune" / path).is_file(), file
    floors = re.findall(r"│ (\w+)  +\w", text)
    packages = {path.parent.name for path in (ROOT / "lrtune").glob("*/__init__.py")}
    assert packages | {"__main__", "errors"} == set(floors)


def executed(name, folder, **smaller):
    """The code cells of a notebook, run in a folder, with some texts replaced."""
    notebook = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip it"
    for cell in code:
        for constant, value in smaller.items():
            cell.source = re.sub(rf"\b{constant} = \d+", f"{constant} = {value}", cell.source)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(folder))
    return code


def charts(code):
    return [cell for cell in code if any("application/vnd.plotly" in str(o) for o in cell.outputs)]


@pytest.mark.slow
def test_the_notebook_runs_with_small_budgets(folder):
    code = executed("quickstart", folder, STEPS=40)
    assert (folder / "report.html").exists()
    assert charts(code)


@pytest.mark.slow
def test_the_notebook_of_the_lecture_names_every_cause(folder):
    code = executed("why-does-it-stall", folder)
    told = "".join(o.get("text", "") for cell in code for o in cell.outputs)
    causes = (
        "error: activation-before-loss", "nothing found", "warning: noise-floor",
        "lr 0.001, warning: rate-too-low", "lr 1, warning: rate-too-high", "warning: overfitting",
        "lr 0.01: too low", "lr 0.1: good",
    )  # fmt: skip
    assert [one for one in causes if one not in told] == []
    assert len(charts(code)) == 5


def test_every_finding_has_an_entry_of_its_own():
    page = (ROOT / "docs/diagnosis.md").read_text()
    kinds = (registry.CHECKS, registry.TRIALS, registry.CONTINUATIONS)
    names = {name for kind in kinds for names in kind.values() for name in names}
    entries = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert sorted(entry.split("\n")[0] for entry in entries) == sorted(names)
    for entry in entries:
        for part in ("**Symptom.**", "**Seen.**", "**Way out.**"):
            assert part in entry, entry.split("\n")[0]


def commands(command=None, name="lrtune"):
    """Every command by its full name, with the names of its options."""
    command = command or typer.main.get_command(app)
    inside = getattr(command, "commands", {})
    found = {name: {opt for param in command.params for opt in param.opts if opt[0] == "-"}}
    for each, one in inside.items():
        found |= commands(one, f"{name} {each}")
    return found


def test_the_reference_of_the_command_line_has_every_command_and_option():
    assert tool("commands").MARKER in (ROOT / "docs/cli.md").read_text()
    text = tool("commands").on_page_markdown(tool("commands").MARKER)
    for name, options in commands().items():
        section = text.split(f"## `{name}`\n")[1] if name != "lrtune" else text
        section = section.split("\n## ")[0]
        assert [option for option in options if f"`{option}" not in section] == [], name


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_commands_that_a_page_names_are_there_with_their_options(page):
    known = commands()
    text = (ROOT / page).read_text()
    console = [
        line
        for kind, block in BLOCK.findall(text)
        if kind == "console"
        for line in block.splitlines()
    ]
    told = re.findall(r"`(lrtune [a-z][^`]*)`", text)
    told += [line.removeprefix("$ ") for line in console if line.startswith("$ lrtune ")]
    for line in told:
        words = line.replace(",", " ").split()
        name = max((one for one in known if words[: len(one.split())] == one.split()), key=len)
        assert name != "lrtune", f"{page}: there is no command {line!r}"
        options = {word for word in words if word.startswith("--")}
        assert options <= known[name] | {"--help"}, f"{page}: {line!r}"


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs/api.md").read_text().splitlines()
    named = [name for name in lrtune.__all__ if name != "LrtuneError"]  # in `lrtune.errors`
    where = {
        name: "::: lrtune.schedules" if name == "schedules" else f"::: lrtune.{name}"
        for name in named
    }
    assert [line for line in where.values() if line not in page] == []


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text()
    assert [page for page in PAGES if page.removeprefix("docs/") not in nav] == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="other.html#there">in</a> <a id="here"></a><a href="#here">here</a>', None),
        ('<a href="https://example.org/a">out</a>', None),
        ('<a href="missing.html">in</a>', "leads nowhere"),
        ('<a href="other.html#missing">in</a>', "a place that is not on that page"),
        ('<a href="#missing">here</a>', "a place that is not on that page"),
        ('<img src="missing.png">', "leads nowhere"),
        ('<a href="https://nowhere">out</a>', "is no address"),
        ('<a href="htp://example.org">out</a>', "is no address"),
        ('<script src="https://example.org/a.js"></script>', "fetches"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "fetches"),
    ],
)
def test_a_broken_link_of_the_site_is_found(body, fault, tmp_path):
    (tmp_path / "index.html").write_text(body)
    (tmp_path / "other.html").write_text('<h1 id="there">there</h1>')
    found = tool("check_site").faults(tmp_path)
    assert len(found) == (fault is not None)
    assert not fault or fault in found[0]
