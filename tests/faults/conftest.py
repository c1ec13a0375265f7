"""What breaks is counted: fault, times tried, results lost, answers changed."""

import os
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- begin: make faults -->\n", "<!-- end: make faults -->\n"
ALL = os.environ.get("LRTUNE_FAULTS") == "all"
ROWS = {}


def pytest_collection_modifyitems(items):
    for item in items:
        if "faults" in Path(item.fspath).parent.name:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def times():
    """How often to try: in `make faults`, and in the usual tests."""
    return lambda often, quick: often if ALL else quick


@pytest.fixture
def tally():
    """Count a fault, and fail where anything was lost or changed."""

    def count(fault, tried, lost=0, changed=0):
        before = ROWS.get(fault, (0, 0, 0))
        ROWS[fault] = tuple(a + b for a, b in zip(before, (tried, lost, changed), strict=True))
        assert (lost, changed) == (0, 0), f"{fault}: {tried} tried, {lost} lost, {changed} changed"

    return count


def pytest_sessionfinish(exitstatus):
    """Write the table, failures included; lines of tests that were left out stay."""
    if not ALL or not ROWS or exitstatus not in (0, 1):
        return
    head, rest = PAGE.read_text().split(BEGIN)
    table, tail = rest.split(END)
    kept = dict(line.strip("| ").split(" | ", 1) for line in table.splitlines()[2:])
    rows = kept | {fault: " | ".join(map(str, ROWS[fault])) for fault in ROWS}
    lines = ["| fault | tried | result lost | answer changed |", "| --- | --: | --: | --: |"]
    lines += [f"| {fault} | {rows[fault]} |" for fault in sorted(rows)]
    PAGE.write_text(head + BEGIN + "\n".join(lines) + "\n" + END + tail)


@pytest.fixture
def copy_of(tmp_path):
    """A study's file under a new name, alone in a folder."""
    made = iter(range(10**6))

    def copied(file):
        folder = tmp_path / f"copy{next(made)}"
        folder.mkdir()
        return Path(shutil.copyfile(file, folder / "study.db"))

    return copied
