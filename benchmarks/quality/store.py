"""Tables of results as CSV files that only grow: what is in them is not measured again."""

import csv
import functools
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "docs" / "quality"
PACKAGES = (
    "lrtune", "torch", "numpy", "optuna", "torch-lr-finder", "fastai", "lightning",
    "pytorch-ignite", "schedulefree", "prodigyopt", "dadaptation", "scikit-learn",
    "scikit-image", "mlxtend",
)  # fmt: skip


@dataclass(frozen=True)
class Store:
    """One table.

    Attributes:
        path: The file.
        columns: Its columns; every row has a `session` besides, a row of sessions.csv.
        keys: The columns that say what was measured.
    """

    path: Path
    columns: Sequence[str]
    keys: Sequence[str]

    def read(self) -> pd.DataFrame:
        """Everything measured so far."""
        if not self.path.exists():
            return pd.DataFrame(columns=[*self.columns, "session"])
        return pd.read_csv(self.path, keep_default_na=False, na_values=["", "nan"])

    def known(self) -> set[tuple]:
        """What need not be measured again."""
        return set(self.read()[list(self.keys)].itertuples(index=False, name=None))

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows in one write, with a header where the file is new."""
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, [*self.columns, "session"], lineterminator="\n")
            if new:
                writer.writeheader()
            number = session(self.path.parent)
            writer.writerows({**_rounded(row), "session": number} for row in rows)


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}


@functools.cache
def session(folder: Path) -> int:
    """The number of this process in sessions.csv, which says with which versions it measured."""
    path = folder / "sessions.csv"
    number = sum(1 for _ in path.open()) if path.exists() else 1
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if number == 1:
            writer.writerow(["session", "date", "python", "machine", "threads", "versions"])
        writer.writerow([
            number, time.strftime("%Y-%m-%d"), platform.python_version(), platform.machine(),
            os.environ.get("OMP_NUM_THREADS", ""), "; ".join(_versions()),
        ])  # fmt: skip
    return number


def _versions() -> Iterable[str]:
    git = shutil.which("git")
    if git is not None:
        command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        yield f"commit {commit.strip() or 'unknown'}"
    for name in PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
