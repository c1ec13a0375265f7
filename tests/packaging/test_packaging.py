"""What a release promises: one version, dependencies that are tried, types."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lrtune

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name):
    """The versions of a file of constraints, by package."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line[:1] not in ("#", "")]
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines}


def requirements(*extras):
    """What the project names, without its own extras."""
    named = [Requirement(line) for line in PROJECT["dependencies"]]
    named += [Requirement(line) for extra in extras for line in EXTRAS[extra]]
    return [one for one in named if one.name != "lrtune"]


def test_the_version_is_written_once():
    assert lrtune.__version__ == PROJECT["version"]
    for path in (ROOT / "lrtune").rglob("*.py"):
        assert PROJECT["version"] not in path.read_text(), path


@pytest.mark.parametrize(
    "command", [["-m", "lrtune"], ["-c", "from lrtune.__main__ import main; main()"]]
)
def test_the_command_line_tells_the_version(command):
    told = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip().split() == ["lrtune", PROJECT["version"]]


def test_the_lowest_versions_that_are_tried_are_the_lowest_that_are_allowed():
    lowest = pins("constraints-lowest.txt")
    for one in requirements("dev", "notebook", "postgres"):
        if one.name == "torch":  # an older build for CPUs is not at hand
            assert lowest["torch"] == pins("constraints.txt")["torch"]
            continue
        (floor,) = [Version(each.version) for each in one.specifier if each.operator == ">="]
        tried = lowest[canonicalize_name(one.name)]
        assert (tried.major, tried.minor) == (floor.major, floor.minor), "run `make lowest`"
        assert tried >= floor, one.name


def test_the_versions_that_make_installs_are_allowed():
    pinned = pins("constraints.txt")
    for one in requirements("dev", "notebook", "postgres", "parquet", "docs", "release"):
        assert pinned[canonicalize_name(one.name)] in one.specifier


def test_every_python_that_is_declared_is_allowed_and_typed():
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert declared == ["3.11", "3.12", "3.13", "3.14"]
    assert Version(declared[0]) in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert (ROOT / "lrtune/py.typed").exists()


def test_ci_calls_targets_that_are_there():
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = re.findall(r"\bmake (?:--\S+ )*([a-z-]+)", (ROOT / ".ci/run").read_text())
    assert {"demo", "test"} <= set(called) <= set(made)


def test_the_tests_that_make_names_are_there():
    named = re.findall(r"tests/[\w./-]+", (ROOT / "Makefile").read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
