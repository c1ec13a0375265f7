"""Where an evaluator keeps the checkpoints of its runs: the best ones in memory, or all as files.

The name of a checkpoint is the key of its run and the step, such as `0123...ef-500`.
"""

import hashlib
import math
import os
import zipfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from typing import Protocol

import torch

from lrtune.analysis.curves import end_level
from lrtune.errors import ArgumentError, CheckpointError, printable
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.results.schema import CHECKPOINT_NAME, SELECTION
from lrtune.results.serialization import sync
from lrtune.training.checkpoints import Checkpoint, check_checkpoint
from lrtune.training.cohort import Cohort
from lrtune.training.run_keys import rank_of_equals

Score = tuple[bool, float, tuple[int, float, str]]
"""What runs are ranked by: whether they lack a validation, their loss, and `rank_of_equals`."""

DIGEST_LENGTH = 64
"""Characters of a SHA-256."""

SUFFIX, PART = ".pt", ".part"
"""The ending of a checkpoint's file, and of one that is being written."""


def checkpoint_name(key: str, step: int) -> str:
    """Return the name of a run's checkpoint at a step."""
    return f"{key}-{step}"


class CheckpointStore(Protocol):
    """Keeps checkpoints by name. Part of each name is `task`, which tells its task from others."""

    task: str

    def save(self, cohort: Cohort, trace: Trace, names: Mapping[str, str]) -> Mapping[str, str]:
        """Keep live runs of the cohort under these names; return the names that can be had.

        Args:
            cohort: Where the runs are now.
            trace: What the evaluator returns for them; their losses tell which is best.
            names: Each run to the name of its checkpoint.

        Raises:
            CheckpointError: A run has a state that is no plain data, or the disk is full.
        """

    def load(self, name: str) -> Checkpoint:
        """Return a checkpoint.

        Raises:
            ArgumentError: It is not there, or no longer.
            CheckpointError: It is damaged.
        """

    def place(self, name: str) -> str:
        """Return the path of a checkpoint's file; empty where there is none."""

    def newest(self, until: int) -> dict[str, int]:
        """Return the keys of runs that can be resumed, each with its newest step <= `until`."""

    def prune(self, keep: Collection[str]) -> None:
        """Delete all checkpoints but these."""


class MemoryStore:
    """Keeps the best of all runs that reached their end, for each length of runs.

    Best is the lowest validation loss; without validation, the lowest mean training loss of the
    last fifth. Of equal ones it is the one that `rank_of_equals` puts first. Runs that have not
    reached their end are where they are, in their cohorts.
    """

    def __init__(self, task: str, *, continues: bool) -> None:
        self.task, self._continues = task, continues
        self._best: dict[int, tuple[Score, str, Checkpoint]] = {}

    def save(self, cohort: Cohort, trace: Trace, names: Mapping[str, str]) -> Mapping[str, str]:
        """Keep the best run if it is the best so far; see `CheckpointStore`."""
        if cohort.step < cohort.steps:
            cohort.checkpoint(next(iter(names)))  # raises where none can be had later
            return names if self._continues else {}
        by_name = {run.name: run for run in cohort.live}
        score, run = min((_score(trace, by_name[run]), run) for run in names)
        if cohort.steps not in self._best or score < self._best[cohort.steps][0]:
            self._best[cohort.steps] = score, names[run], cohort.checkpoint(run)
        return names

    def load(self, name: str) -> Checkpoint:
        """Return a checkpoint that is still held; see `CheckpointStore`."""
        for _, known, saved in self._best.values():
            if known == name:
                return saved
        raise ArgumentError(
            f"the checkpoint {printable(name)!r} is not in memory: an evaluator holds that of the "
            "best run of each length, and runs that are not trained to their end yet. To keep all, "
            "give it a folder: Evaluator(task, checkpoints=Path('checkpoints'))."
        )

    def place(self, name: str) -> str:
        """Return nothing, as there is no file."""
        del name
        return ""

    def newest(self, until: int) -> dict[str, int]:
        """Return nothing: what is in memory is continued, not resumed."""
        del until
        return {}

    def prune(self, keep: Collection[str]) -> None:
        """Forget all checkpoints but these."""
        self._best = {steps: one for steps, one in self._best.items() if one[1] in keep}


class FolderStore:
    """Keeps one file for each run, of its newest step, in a folder.

    A file is written as a whole or not at all. When it is read, its digest is compared, and
    whether it holds the run that its name says. `torch.load(weights_only=True)` reads it, too.

    Args:
        path: The folder; made, for its owner only, when the first checkpoint is written.
        task: Tells the task from others, as part of every name.
    """

    def __init__(self, path: Path, task: str) -> None:
        self.path, self.task = path, task

    def save(self, cohort: Cohort, trace: Trace, names: Mapping[str, str]) -> Mapping[str, str]:
        """Write a file for each run, and delete those of earlier steps; see `CheckpointStore`."""
        del trace
        there = self.names()
        # A run that was resumed at this very step, and trained no further, has its file.
        new = {n: run for run, n in names.items() if cohort.updates[run] or n not in there}
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, run in new.items():
                self._write(name, cohort.checkpoint(run))
            # All at once, as with some engines the last bit of a run depends on its neighbours:
            # those that are resumed together should be those that were trained together.
            for name in new:
                self._part(name).replace(self._file(name))
            sync(self.path)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError when a disk is full
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise CheckpointError(f"no checkpoint in {self.path}: {reason}.") from error
        finally:
            for name in new:
                with suppress(OSError):
                    self._part(name).unlink(missing_ok=True)
        self._remove_earlier(names.values())
        return names

    def load(self, name: str) -> Checkpoint:
        """Read a file; see `CheckpointStore`."""
        known, file = CHECKPOINT_NAME.fullmatch(name), self._file(name)
        if not known or not file.exists():
            raise ArgumentError(
                f"there is no checkpoint {printable(name)!r} in {self.path}. One of a later step "
                "has replaced it, or it was removed because no result names it."
            )
        try:
            saved = _read(file)
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise CheckpointError(f"the checkpoint {file} cannot be read: {reason}.") from error
        if (saved.pop("key", None), saved.get("step")) != (known[1], int(known[2])):
            raise CheckpointError(f"the checkpoint {file} is not that of the run in its name.")
        return check_checkpoint(saved)

    def place(self, name: str) -> str:
        """Return the path of a checkpoint's file."""
        return str(self._file(name))

    def newest(self, until: int) -> dict[str, int]:
        """Return the keys of runs with a file, each with its newest step <= `until`."""
        found: dict[str, int] = {}
        for name in self.names():
            key, step = _parsed(name)
            if found.get(key, -1) < step <= until:
                found[key] = step
        return found

    def prune(self, keep: Collection[str]) -> None:
        """Delete the files of all checkpoints but these, and nothing else in the folder."""
        self.remove(self.names(parts=True) - set(keep))

    def remove(self, names: Iterable[str]) -> None:
        """Delete the files of these checkpoints."""
        for name in names:
            for file in (self._file(name), self._part(name)):
                with suppress(OSError):
                    file.unlink(missing_ok=True)

    def names(self, *, parts: bool = False) -> set[str]:
        """Return the names of all checkpoints; with `parts`, of those that a kill cut off, too."""
        found, endings = set(), (SUFFIX, PART) if parts else (SUFFIX,)
        with suppress(OSError):  # such as a folder that is not there yet
            for entry in os.scandir(self.path):
                file = Path(entry.name)
                if file.suffix in endings and CHECKPOINT_NAME.fullmatch(file.stem):
                    found.add(file.stem)
        return found

    def _file(self, name: str) -> Path:
        return self.path / f"{name}{SUFFIX}"

    def _part(self, name: str) -> Path:
        return self.path / f"{name}{PART}"

    def _write(self, name: str, saved: Checkpoint) -> None:
        part = self._part(name)
        part.unlink(missing_ok=True)  # one that a killed process has left
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as file:
            torch.save(saved | {"key": _parsed(name)[0]}, file)
            _sign(file)
            file.flush()
            os.fsync(file.fileno())

    def _remove_earlier(self, names: Iterable[str]) -> None:
        last = dict(map(_parsed, names))
        old = self.names(parts=True) - set(names)
        self.remove(name for name in old if _parsed(name)[1] < last.get(_parsed(name)[0], 0))


def _parsed(name: str) -> tuple[str, int]:
    """Return the key and the step in the name of a checkpoint."""
    key, _, step = name.partition("-")
    return key, int(step)


def _sign(file: BufferedRandom) -> None:
    """Append the digest of an archive that torch has just written, as its comment.

    The checksums inside do not cover the directory of the archive, which torch does not read as
    Python does: with a flipped bit there it returned numbers that were never saved.
    """
    file.seek(-2, os.SEEK_END)
    file.write(DIGEST_LENGTH.to_bytes(2, "little"))  # the length of the comment; there was none
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0, os.SEEK_END)
    file.write(digest.encode())


def _read(file: Path) -> Checkpoint:
    """Read a file, after comparing its digest."""
    raw = file.read_bytes()
    if hashlib.sha256(raw[:-DIGEST_LENGTH]).hexdigest().encode() != raw[-DIGEST_LENGTH:]:
        raise zipfile.BadZipFile("its digest does not fit")
    del raw
    with zipfile.ZipFile(file) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise zipfile.BadZipFile("torch.save compresses nothing, but this is compressed")
    with torch.inference_mode(mode=False):  # the caller's: nothing could train on such tensors
        return dict(torch.load(file, map_location="cpu", weights_only=True))


def _score(trace: Trace, run: Run) -> Score:
    """Return what a run is ranked by, lower is better: first of all, whether it was validated."""
    rows = trace.validations[trace.validations["run"] == run.name]
    validated = rows.loc[rows["part"] == SELECTION, "loss"]
    losses = trace.frame.loc[trace.frame["run"] == run.name, "loss"]
    score = float(validated.iloc[0]) if len(validated) else end_level(losses)
    return not len(validated), score if math.isfinite(score) else math.inf, rank_of_equals(run)
