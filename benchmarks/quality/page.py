"""docs/quality.md: every number in it comes from the files of docs/quality."""

import math
import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.quality import gather, horizons, retrained, searched, statements, verdicts
from benchmarks.quality.answers import ANSWERS
from benchmarks.quality.picture import draw
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.regret import FAILURE, LEVEL, geometric, markdown, per_task, summary
from benchmarks.quality.store import FOLDER
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import FEWER, RUNS, SEEDS
from lrtune.errors import quantity

FORMATS = {
    "geometric mean": "{:.2f}", "worst": "{:.3g}", "failures": "{:.0%}", "trainings": "{:.1f}",
    "CPU s": "{:.1f}", "won": "{:.0f}", "lost": "{:.0f}", "tasks": "{:.0f}", "rivals": "{:.0f}",
    "rate / constant's": "{:.1f}", "best on": "{:.0f}", "tau": "{:.2f}", "chosen, regret": "{:.2f}",
    "at its own rate": "{:.2f}", "T": "{:.0f}", "batch": "{:.0f}", "rate": "{:.2g}",
    "loss": "{:.3g}", "guessing": "{:.3g}", "level": "{:.0f}",
    "regret": "{:.2f}", "regret, fair": "{:.2f}",
}  # fmt: skip
SETS = {"Open tasks": False, "Held-out tasks": True}


def _tasks() -> str:
    rows = {}
    for spec in gather.measured():
        rate, loss = gather.oracle_of(gather.finals(spec))
        rows[spec.name] = {
            "held out": "yes" if spec.held_out else "", "about": spec.about or "-",
            "optimizer": spec.method, "batch": spec.batch, "T": spec.steps,
            "rate": math.nan if spec.held_out else rate,
            "loss": math.nan if spec.held_out else loss, "guessing": spec.guessing(),
        }  # fmt: skip
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), FORMATS, "task")


def _summary(regrets: pd.DataFrame, reference: str) -> str:
    table = summary(regrets, reference)
    table.insert(1, "answers", regrets.groupby("method").size())
    table = table.rename(columns={"mean": "geometric mean", "seconds": "CPU s"})
    return markdown(table, FORMATS, "method")


def _by_task(regrets: pd.DataFrame) -> str:
    table = per_task(regrets).T
    order = table.apply(lambda row: geometric(row.dropna()), axis=1).sort_values().index
    formats = dict.fromkeys(table.columns, "{:.2f}")
    return markdown(table.loc[order], formats, "method")


def _failures() -> str:
    said = ANSWERS.read().dropna(subset=["said"])
    lines = [
        f"- {row.method}, {row.task}, repeat {row.repeat}: `{row.said}`"
        for row in said.itertuples()
    ]
    return "\n".join(lines) or "None: every method gave a rate on every task."


def _schedules(table: pd.DataFrame, fair: pd.DataFrame) -> str:
    ratios = table.pivot_table("ratio", "task", "method", sort=False)
    shifts = table.pivot_table("shift", "task", "method", sort=False)
    best = ratios.idxmin(axis=1).value_counts()
    rows = pd.DataFrame({
        "tasks": ratios.count(),
        "geometric mean": ratios.apply(geometric),
        "worst": ratios.max(),
        "best on": best.reindex(ratios.columns).fillna(0),
        "rate / constant's": np.exp(np.log(shifts).median()),
        "regret": ratios.div(ratios.min(axis=1), axis=0).apply(geometric),
    }).sort_values("geometric mean")  # fmt: skip
    losses = fair.pivot_table("loss", "task", "method", sort=False).loc[ratios.index]
    rows["regret, fair"] = losses.div(losses[gather.BEST], axis=0).apply(geometric)
    limit = {"tasks": len(ratios), "geometric mean": geometric(ratios.min(axis=1))}
    rows.loc[gather.BEST] = limit | {"worst": ratios.min(axis=1).max()}
    return markdown(rows, FORMATS, "schedule")


def _horizons(table: pd.DataFrame) -> str:
    rows = {}
    for (way, share), some in table.groupby(["way", "share"]):
        low, high = horizons.interval(some["tau"])
        rows[f"{way}, T / {share}"] = {
            "tasks": len(some), "tau": some["tau"].mean(),
            "90 % interval": f"{low:.2f} to {high:.2f}",
            "chosen, regret": geometric(some["regret"]), "worst": some["regret"].max(),
            "at its own rate": geometric(some["own"]),
        }  # fmt: skip
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), FORMATS, "horizon")


GROUPS = {
    "open": {name: spec for name, spec in TASKS.items() if not spec.held_out},
    "practice": PRACTICE,
    "held out": {name: spec for name, spec in TASKS.items() if spec.held_out},
}


def _kept() -> str:
    """The training that a search hands out, over the best constant rate; and what it cost."""
    rows = {}
    for method in (searched.OURS, searched.CONSTANT):
        for group, specs in GROUPS.items():
            table = verdicts.kept(specs.values(), method)
            if len(table):
                rows[f"{method}, {group}"] = {
                    "tasks": len(table), "geometric mean": geometric(table["ratio"]),
                    "worst": table["worst"].max(), "trainings": table["cost"].mean(),
                    "at most": f"{table['cost'].max():.2f}",
                }  # fmt: skip
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), FORMATS, "search")


def _calibration() -> str:
    """How often an interval holds the best rate, or one that is as good."""
    rows = {}
    for method in searched.OPTIONS:
        for group, specs in GROUPS.items():
            table = verdicts.intervals(specs, method)
            if len(table):
                rows[f"{method}, {group}"] = {
                    "answers": len(table), "holds": f"{table['holds'].mean():.0%}",
                    "width, median": f"{table['width'].median():.2f}x",
                }  # fmt: skip
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), FORMATS, "search")


def _retrained() -> str:
    """How often the interval of a new training holds one; each task counts as one."""
    rows = {}
    for group, specs in list(GROUPS.items())[:2]:
        table = retrained.intervals(specs)
        for (near, runs), some in table.groupby(["near", "runs"], sort=False):
            where = "at its rate" if near else "at other rates"
            tasks = some.groupby("task")
            rows[f"{quantity(runs, 'training')} {where}, {group}"] = {
                "tasks": len(tasks), "intervals": len(some),
                "holds": f"{tasks['holds'].mean().mean():.0%}",
                "width, median": f"{tasks['width'].median().median():.2f}x",
            }  # fmt: skip
    return markdown(pd.DataFrame.from_dict(rows, orient="index"), FORMATS, "going by")


def _statements() -> str:
    """What comparisons said of the rivals that they trained, and how much of it was wrong."""
    said, rows = statements.STATEMENTS.read(), {}
    for group, specs in GROUPS.items():
        some, table = said[said["task"].isin(list(specs))], statements.checked(specs)
        for verdict in ("behind", "tied", "ahead"):
            count, claims = int((some["verdict"] == verdict).sum()), table["verdict"] == verdict
            wrong = f"{int(table.loc[claims, 'wrong'].sum())} of {claims.sum()}"
            rows[f"{verdict}, {group}"] = {
                "rivals": count, "tasks": some["task"].nunique(),
                "the other sign": "" if verdict == "tied" else wrong,
            }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index")
    return markdown(table[table["rivals"] > 0], FORMATS, "verdict")


def _versions() -> str:
    """The newest version of each package that something was measured with."""
    sessions = pd.read_csv(FOLDER / "sessions.csv")
    parts = [part.rsplit(" ", 1) for text in sessions["versions"] for part in text.split("; ")]
    newest, last = dict(parts), sessions.iloc[-1]
    packages = "; ".join(f"{name} {version}" for name, version in newest.items())
    text = f"Last measured with Python {last['python']}, {last['machine']}: {packages}."
    return textwrap.fill(text, 100, break_on_hyphens=False)


def _promises() -> Iterator[str]:
    """What searches and comparisons hand out and say, held against what is measured."""
    if len(searched.SEARCHED.read()):
        yield from ["## What a search hands out\n", KEPT_TEXT, _kept()]
        yield from ["## Intervals\n", CALIBRATION_TEXT, _calibration()]
        yield from ["### Of a new training\n", RETRAINED_TEXT, _retrained()]
    if len(statements.STATEMENTS.read()):
        yield from ["## What a comparison says\n", STATEMENTS_TEXT, _statements()]


def write() -> None:
    """Write the page and its picture from what is measured so far."""
    regrets = gather.regrets()
    constant = regrets[regrets["schedule"] == "constant"]
    other = regrets[regrets["schedule"] != "constant"]
    parts = [HEAD.format(
        tasks=len(gather.measured()), held=sum(s.held_out for s in gather.measured()),
        runs=len(RUNS.read()), seeds=len(SEEDS), failure=FAILURE, level=f"{LEVEL:.0%}",
        versions=_versions(),
    ), "## The tasks\n", TASKS_TEXT, _tasks()]  # fmt: skip
    luck = gather.luck()
    floor = {name: luck.loc[luck["held_out"] == held, "regret"] for name, held in SETS.items()}
    told = "; ".join(
        f"{name.lower()} {geometric(some):.2f} (worst {some.max():.3g})"
        for name, some in floor.items()
        if len(some)
    )
    parts += ["## A rate, kept constant to the end\n", RATES_TEXT.format(luck=told)]
    for title, held_out in SETS.items():
        some = constant[constant["held_out"] == held_out]
        if len(some):
            parts += [f"### {title}: {some['task'].nunique()}\n", _summary(some, searched.CONSTANT)]
    parts += ["![Regret of each method on each task](quality/regret.svg)\n"]
    draw(constant, FOLDER / "regret.svg")
    parts += ["### By task, open\n", _by_task(constant[~constant["held_out"]])]
    parts += ["### Where there was no answer\n", _failures()]
    parts += _promises()
    parts += [
        "## Rate and schedule together, and optimizers without a rate\n",
        OTHER_TEXT.format(fewer=len(FEWER)),
    ]
    for title, held_out in SETS.items():
        some = other[other["held_out"] == held_out]
        if len(some):
            parts += [f"### {title}: {some['task'].nunique()}\n", _summary(some, searched.OURS)]
    parts += ["## Schedules, each at its own best rate\n", SCHEDULES_TEXT]
    table, fair = gather.schedules(), gather.crossed()
    for title, held_out in SETS.items():
        some = table[table["held_out"] == held_out]
        if len(some):
            parts += [f"### {title}: {some['task'].nunique()}\n", _schedules(some, fair)]
    parts += ["## Do short runs rank schedules as long ones do?\n", HORIZONS_TEXT]
    table = horizons.all_agreements()
    for title, held_out in SETS.items():
        some = table[table["held_out"] == held_out]
        if len(some):
            parts += [f"### {title}: {some['task'].nunique()}\n", _horizons(some)]
    text = "\n\n".join(part.strip("\n") for part in parts) + "\n"
    (FOLDER.parent / "quality.md").write_text(text)


HEAD = """
# How good the answers are

Made by `make bench-quality` from the files in `quality/`; what is in them is not measured again.

A finder's answer is good when training with it goes well. Here {tasks} small tasks ({held} of them
held out: nothing may be tuned on them) are trained to their full length T at 25 constant rates,
1e-5 to 10, four per decade, with {seeds} seeds: the *oracle*. Then every finder answers, with other
seeds, and its answer is trained to the full length with the seeds of the oracle. **Regret** is its
validation loss over that of the oracle's best rate (mean over the seeds). A run that ends above
the loss of guessing, or is lost, counts as guessing; a regret above {failure:g}, a lost run and no
answer are *failures*. As the oracle is the best of 25 on the very seeds that judge, it is ahead by
some luck: an answer of its own next-best rate already has a regret above 1.

Cost: *trainings* are optimizer updates over T, CPU s is processor time of one thread on a machine
that others used, too; what a task itself trains before (MNIST fine-tuned does) is charged to who
comes first. *won* and *lost* count the tasks on which the default search is better or worse
than the method in that row by more than {level}. {runs:,} runs are behind the tables.

{versions}
Which session measured which row stands in `quality/sessions.csv`.
"""
TASKS_TEXT = """
*rate* and *loss* are the oracle's best constant rate and its final validation loss; *guessing* is
the loss of the best answer that does not look at the input. The answers of held-out tasks stay
out of this page.
"""
RATES_TEXT = """
Other tools are called as their documentation says, with their defaults. Random search and Optuna
look from 1e-5 to 10, and may make as many updates as the search of lrtune 0.1.0 made on that task:
about four trainings, the default budget of `lrtune search` now.

How much of a regret is luck: when one seed chooses among the 25 rates, at the full length, and
the others judge, the oracle's own answers have a regret of, as geometric means:
{luck}.
"""
KEPT_TEXT = """
The best training of a search, as `found.model()` gives it. The search is given one half of the
validation data, and splits it again; the other half judges. Held against the mean of three fresh
seeds of the best constant rate there; no answer counts as guessing. *worst* is a single answer,
*trainings* what a search says that it cost, validation included.

What is known of other tasks, of which a search makes use, is made without the task that it
searches. Constants besides were chosen on the open tasks and those for practice.
"""
CALIBRATION_TEXT = """
How often the 90 % interval that comes with a rate holds the best rate, or one whose mean log loss
over the seeds is within 5 % of it, for the schedule of the answer.
"""
RETRAINED_TEXT = """
How often `found.retrained`, which is meant to hold nine of ten trainings with another seed, holds
one. Replayed from `quality/halves.csv`: seeds of a good rate and another seed there; or the first
trainings of a search, on both sides of its first answer, and a training at the next one. Each task
counts as one. The weight and the size of the usual scatter were chosen on these tasks, and what
other tasks tell of rates was not left out.
"""
STATEMENTS_TEXT = """
After a search two comparisons, of three rivals each, with three seeds: constant, step and
exponential; cosine, linear and wsd. Of what is said to be behind or ahead, and of the recommended
schedule, eight fresh pairs of seeds were trained: *the other sign* counts the claims which their
mean contradicts.
"""
OTHER_TEXT = """
Measured against the same oracle of constant rates, so a good schedule is below 1. The rows of
`lrtune search` are what the snippet of a search makes: its schedule, at its peak rate. Optimizers
that need no rate (on {fewer} of the seeds) replace the task's own; their run is the training
itself, and costs nothing before it.
"""
SCHEDULES_TEXT = """
Final validation loss over that of the best constant rate. Rates are on the oracle's grid, from two
places below the constant's best to three above it, and more while the best is on the edge. *rate /
constant's*: the median of the best rate over the constant's best. *regret*: over the best schedule
of each task. That is the lowest of many on the seeds that judge, so *regret, fair* lets all seeds
but one choose (rates, and for the best the schedule, too), and that one judge, in turn.
"""
HORIZONS_TEXT = """
Each schedule is judged by short runs at its best rate *there*. *whole, compressed*: the complete
schedule in a share of T. *cut off*: the first share of its full run, at no decay to speak of.
*tau*: Kendall's tau between that ranking and the one at T, mean over tasks, with a bootstrap
interval over the tasks. *chosen, regret*: the full-length loss of the schedule and rate that would
have been chosen, over that of the best schedule at its best rate; *at its own rate*: when its rate
is tuned at T. Only rates that were trained at T are tried, which favours short runs.
"""
