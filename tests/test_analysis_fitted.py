"""Every number that was chosen by measurement names the command that measures or checks it."""

import ast
import re
from pathlib import Path

import pytest

import lrtune.analysis
from lrtune.analysis.fitted import ENTRIES

REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(Path(lrtune.analysis.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", ENTRIES)
def test_every_fitted_number_has_a_meaning_and_a_command_that_exists(name):
    entry = ENTRIES[name]
    assert isinstance(entry["value"], int | float)
    assert entry["meaning"].endswith(".")
    words = entry["command"].split()
    target = words[-1] if words[1:3] == ["-m", "pytest"] else words[1]
    if words[1:3] == ["-m", "benchmarks.quality"]:
        text = (REPOSITORY / "benchmarks/quality/__main__.py").read_text()
        stages = re.findall(r"^(\w+) {2,}", ast.get_docstring(ast.parse(text)) or "", re.MULTILINE)
        assert {*words[3:]} <= {*stages}
        target = "benchmarks/quality/__main__.py"
    assert (REPOSITORY / target).is_file()
    assert (REPOSITORY / entry.get("source", target)).is_file()


def test_every_fitted_number_is_used_by_the_code_and_only_those():
    text = "\n".join(module.read_text() for module in MODULES)
    used = re.findall(r"^[A-Z]\w* = .*\bfitted\(.*$", text, re.MULTILINE)
    names = [name for line in used for name in re.findall(r'fitted\("(\w+)"\)', line)]
    assert sorted(names) == sorted(ENTRIES)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_other_number_of_a_module_is_a_convention_or_a_definition(module):
    text = module.read_text()
    lines = text.splitlines()
    for node in ast.parse(text).body:
        numbers = [
            one
            for one in ast.walk(node)
            if isinstance(one, ast.Constant) and type(one.value) in (int, float)
        ]
        if isinstance(node, ast.Assign | ast.AnnAssign) and numbers:
            line = lines[node.lineno - 1]
            assert re.search(r"# by (convention|definition): \w", line), f"{module.name}: {line}"
