"""What breaks is counted: fault, times tried, results lost, answers changed. So are models."""

import os
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
HEADS = {
    "make faults": ("fault", "tried", "result lost", "answer changed"),
    "make faults, models": (
        "verb", "models", "finished", "broken off", "refused", "model changed",
        "random state changed",
    ),
}  # fmt: skip
ALL = os.environ.get("LRTUNE_FAULTS") == "all"
ROWS, MODELS = {}, {}


def pytest_collection_modifyitems(items):
    for item in items:
        if "faults" in Path(item.fspath).parent.name:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(
    params=[
        pytest.param("few", marks=pytest.mark.slow),
        pytest.param("more", marks=[pytest.mark.slow, pytest.mark.long]),
    ]
)
def times(request):
    """How often to try: in `make faults`, among the slow tests, and in a sample of these."""
    few = request.param == "few"
    if few and ALL:
        pytest.skip("tried more often in the same session")
    return lambda often, quick: often if ALL else -(-quick // 4) if few else quick


@pytest.fixture
def tally():
    """Count a fault, and fail where anything was lost or changed."""

    def count(fault, tried, lost=0, changed=0):
        before = ROWS.get(fault, (0, 0, 0))
        ROWS[fault] = tuple(a + b for a, b in zip(before, (tried, lost, changed), strict=True))
        assert (lost, changed) == (0, 0), f"{fault}: {tried} tried, {lost} lost, {changed} changed"

    return count


def pytest_sessionfinish(exitstatus):
    """Write the tables, failures included; lines of tests that were left out stay."""
    if not ALL or exitstatus not in (0, 1):
        return
    page = PAGE.read_text()
    for (mark, head), rows in zip(HEADS.items(), (ROWS, MODELS), strict=True):
        page = written(page, mark, head, rows)
    PAGE.write_text(page)


def written(page, mark, head, rows):
    """The page with these rows in the table of that mark."""
    begin, end = f"<!-- begin: {mark} -->\n", f"<!-- end: {mark} -->\n"
    before, rest = page.split(begin)
    table, after = rest.split(end)
    kept = dict(line.strip("| ").split(" | ", 1) for line in table.splitlines()[2:])
    kept |= {name: " | ".join(map(str, row)) for name, row in rows.items()}
    lines = [f"| {' | '.join(head)} |", f"| --- {'| --: ' * (len(head) - 1)}|"]
    lines += [f"| {name} | {kept[name]} |" for name in sorted(kept)]
    return before + begin + "\n".join(lines) + "\n" + end + after


@pytest.fixture
def hands():
    """Count what happened to generated models, for a table of its own."""

    def count(verb, counted):
        MODELS[verb] = tuple(counted[name] for name in HEADS["make faults, models"][1:])

    return count


@pytest.fixture
def copy_of(tmp_path):
    """A study's file under a new name, alone in a folder."""
    made = iter(range(10**6))

    def copied(file):
        folder = tmp_path / f"copy{next(made)}"
        folder.mkdir()
        return Path(shutil.copyfile(file, folder / "study.db"))

    return copied
