"""Exporting a study: CSV, Parquet, JSON."""

from pathlib import Path

import pandas as pd

from lrtune.errors import ArgumentError
from lrtune.results.serialization import write
from lrtune.study.archive import Archive


def export(archive: Archive, path: Path, *, curves: bool = False) -> Path:
    """Write a study into a file, as its ending says: `.csv`, `.parquet` or `.json`.

    Args:
        archive: What is written.
        path: Where to; what it held before is replaced once the new file is complete.
        curves: One row per run and step, instead of one per run; CSV and Parquet.

    Raises:
        ArgumentError: Another ending, or Parquet without its library.
        ResultsError: It cannot be written there.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        return write(path, archive.to_json() + "\n")
    frame = archive.curves if curves else archive.measured
    if ending == ".csv":
        return write(path, _unexecutable(frame).to_csv(index=False, lineterminator="\n"))
    if ending == ".parquet":
        return write(path, _parquet(frame))
    raise ArgumentError(f"--out {path}: expected a name that ends in .csv, .parquet or .json.")


def _parquet(frame: pd.DataFrame) -> bytes:
    try:
        return bytes(frame.to_parquet(engine="pyarrow", index=False))
    except ImportError as error:
        raise ArgumentError(
            "Parquet needs pyarrow, which is not installed. Try: pip install 'lrtune[parquet]', or "
            "name a .csv file."
        ) from error


def _unexecutable(frame: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    safe = frame.copy()
    for name in safe.columns:
        if pd.api.types.is_string_dtype(safe[name]) or safe[name].dtype == object:
            texts = safe[name].astype(str)
            risky = texts.str.startswith(("=", "+", "-", "@", "\t", "\r"))
            safe[name] = texts.where(~risky, "'" + texts)
    return safe
