"""The documentation is run: every python block, every command, the notebook."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from lrtune.cli.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.removeprefix("$ ")
    for kind, text in BLOCK.findall(README)
    if kind == "console"
    for line in text.splitlines()
    if line.startswith("$ ")
]
QUICK = {"search": ["--seeds", "1"], "range-test": ["--seeds", "1"], "compare": ["--seeds", "2"]}
"""Appended to the README's commands: what a test needs to know does not take full budgets."""


def python_blocks(page):
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == "python"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    yield tmp_path
    sys.modules.pop("train", None)


@pytest.mark.parametrize("page", ["README.md", "docs/schedules.md"])
def test_the_python_blocks_run_in_order(page, folder):
    blocks = python_blocks(ROOT / page)
    assert blocks
    scope = {"__name__": "docs"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)  # noqa: S102 - it is our own page


def test_the_commands_run(folder):
    (train,) = [block for block in python_blocks(ROOT / "README.md") if "# train.py" in block]
    Path("train.py").write_text(train)
    ours = [command for command in COMMANDS if command.startswith("lrtune ")]
    assert {shlex.split(command)[1] for command in ours} == {
        "search", "compare", "range-test", "report", "schedules", "studies"
    }  # fmt: skip
    for command in ours:
        line, _, into = command.partition(" > ")
        words = shlex.split(line)[1:]
        few = "100" if "--budget" in words else "24"
        steps = [] if words[0] in ("report", "schedules", "studies") else ["--steps", few]
        result = CliRunner().invoke(app, [*words, *steps, *QUICK.get(words[0], [])])
        assert result.exit_code == 0, (command, result.output)
        if into:
            Path(into).write_text(result.stdout)


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


def test_the_notebook_runs_with_small_budgets(folder):
    notebook = nbformat.read(ROOT / "notebooks/quickstart.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip it"
    for cell in code:
        for budget, small in {"STEPS = 400": "STEPS = 24", "SEEDS = 3": "SEEDS = 2"}.items():
            cell.source = cell.source.replace(budget, small)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(cwd=str(folder))
    assert (folder / "report.html").exists()
    assert [cell for cell in code if any("application/vnd.plotly" in str(o) for o in cell.outputs)]
