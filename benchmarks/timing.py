"""Paired timing: functions take turns in one process, so other work of the machine slows all."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

import torch

REPEATS = 7


def header(what: str) -> None:
    """Machine and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"\n## {what}")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s) of {cores} core(s), "
        f"{platform.machine()}, lrtune {version('lrtune')}, python {platform.python_version()}"
    )


def timed(
    functions: Mapping[str, Callable[[], object]], repeats: int | None = None
) -> dict[str, list[float]]:
    """Seconds of each function; they take turns, every other round in reverse, after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range((repeats or REPEATS) + 1):
        for name in list(functions) if repeat % 2 else reversed(list(functions)):
            begin = time.perf_counter()
            functions[name]()
            if repeat:
                times[name].append(time.perf_counter() - begin)
    return times


def ratio(ones: list[float], others: list[float]) -> tuple[float, float, float]:
    """Median and quartiles of the paired ratios."""
    pairs = [one / other for one, other in zip(ones, others, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4)
    return middle, low, high


def ratio_text(ones: list[float], others: list[float]) -> str:
    """The ratio with its quartiles."""
    middle, low, high = ratio(ones, others)
    return f"{middle:6.3f} (quartiles {low:.3f} to {high:.3f}, {len(ones)} pairs)"
