"""The options of the commands: their types, help and limits."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lrtune.cli import options

LIMITS: Any = {"min": 1e-7, "max": 10.0, "show_default": False}  # the limits of a search

_DURATION: Any = {"parser": options.duration, "metavar": "TIME"}
_SCHEDULE: Any = {"parser": options.schedule, "metavar": "SCHEDULE"}
_SCHEDULES: Any = {"parser": options.schedules, "metavar": "NAMES"}

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK]",
        help="train.py:task or package.module:task; without it, the embedded digits.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="the task's own")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path, typer.Option(help="The HTML report to write; it replaces an earlier one.")]
Seed = Annotated[int, typer.Option(min=0, help="The first seed.")]
MaxRuns = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="The most runs to hold in memory at once; no answer depends on it.",
        show_default="what memory allows",
    ),
]
Offload = Annotated[
    Literal["cpu"] | None,
    typer.Option(help="Where runs wait that do not train.", show_default="on the device"),
]
Time = Annotated[
    float | None,
    typer.Option(
        **_DURATION,
        help="Begin nothing that would not finish in this time: 20m, 90s, 2h; a bare number counts "
        "seconds.",
        show_default="no limit",
    ),
]

# --- of a diagnosis

Patient = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK | CURVES]",
        help="train.py:task or package.module:task, or a CSV file with the columns step, loss, run "
        "and lr; without it, the embedded digits.",
        show_default=False,
    ),
]
StuckRate = Annotated[
    float | None,
    typer.Option("--lr", help="The rate that does not learn.", show_default="the best of a few"),
]
DiagnosedSteps = Annotated[
    int, typer.Option(min=1, help="The length of the training, in optimizer updates.")
]
DiagnosedSchedule = Annotated[
    str | None,
    typer.Option(**_SCHEDULE, help="Its schedule, such as cosine.", show_default="constant"),
]
StuckCheckpoint = Annotated[
    Path | None,
    typer.Option(
        help="A file that your training has saved: the state_dict of the model, or a dict with "
        "'model' and 'optimizer'. It is continued instead of a run.",
        show_default=False,
    ),
]

# --- of a search

Steps = Annotated[
    int,
    typer.Option(
        min=1, help="The length of training that the answer is for, in optimizer updates."
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        help="The most to spend, in full trainings.", show_default="4; more for --fine grid"
    ),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        **_SCHEDULE,
        help="The schedule whose peak rate is sought, such as cosine; constant for a rate that is "
        "kept. `lrtune schedules` lists them.",
        show_default="the best one on other tasks",
    ),
]
CompareAfterwards = Annotated[
    options.Names | None,
    typer.Option(
        **_SCHEDULES,
        help="Compare these schedules afterwards: names, separated by commas, or calls such as "
        "cosine(floor=0.1).",
        show_default="no comparison",
    ),
]
RangeTestBefore = Annotated[
    bool, typer.Option("--range-test", help="Make a range test before the search.")
]
RateOnly = Annotated[
    bool, typer.Option("--rate-only", help="End after the short runs, with the first answer.")
]
Fine = Annotated[
    Literal["grid"] | None,
    typer.Option(
        help="Train the whole fine grid, from 0.8 to 2 times the first answer.",
        show_default="the best rate so far, again",
    ),
]
Current = Annotated[
    float | None, typer.Option(**LIMITS, help="The rate that you use now: train it first.")
]
CurrentSchedule = Annotated[
    str | None,
    typer.Option(**_SCHEDULE, help="The schedule that you use now.", show_default="constant"),
]
Around = Annotated[
    float | None,
    typer.Option(**LIMITS, help="Begin near this rate instead of with the coarse grid."),
]
MinGain = Annotated[
    float,
    typer.Option(
        min=0,
        help="End when two more trainings are expected to lower the loss by less than this share; "
        "0.02 is 2 %.",
    ),
]
Save = Annotated[
    Path | None, typer.Option(help="Write the best model to this file.", show_default=False)
]

# --- of a range test

Low = Annotated[float, typer.Option(help="The first rate.")]
High = Annotated[float, typer.Option(help="The last rate.")]
SweepSteps = Annotated[int, typer.Option(min=2, help="Steps of each sweep.")]
SweepSeeds = Annotated[int, typer.Option(min=1, help="Sweeps, each with its own seed.")]

Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUES",
        help="Sweep with other values of weight_decay, momentum or batch_size as well, such as "
        "weight_decay=0,1e-4,1e-3. Give it once for each setting.",
        show_default=False,
    ),
]

# --- of a comparison

Source = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Begin with the search in this file: a report, or output of --json.",
        show_default="the last search of the study",
    ),
]
Peak = Annotated[
    float | None,
    typer.Option(help="Begin with this peak rate instead of a search.", show_default=False),
]
PeakSteps = Annotated[
    int | None,
    typer.Option(
        min=1, help="With --lr: the length of training that it is for.", show_default=False
    ),
]
Rivals = Annotated[
    options.Names | None,
    typer.Option(
        **_SCHEDULES,
        help="Schedules to compare, separated by commas: names, calls such as cosine(floor=0.1), "
        "or `all`; `lrtune schedules` lists them.",
        show_default="the usual ones",
    ),
]
PairedSeeds = Annotated[
    int, typer.Option(min=2, help="Whole trainings of each rival, each with its own seed.")
]
MostTrainings = Annotated[
    float | None,
    typer.Option(
        help="The most to spend, in full trainings.",
        show_default="4, or what one rival costs with all its seeds",
    ),
]
Samples = Annotated[
    int, typer.Option(min=0, help="Also try so many other parameters of each schedule.")
]
RankBy = Annotated[
    Literal["final", "early", "plateau"],
    typer.Option(help="Sort the table by final loss, early decrease or plateau."),
]
NewSeed = Annotated[
    int | None,
    typer.Option(min=0, help="The first new seed.", show_default="after those of the search"),
]

# --- of a transfer

Over = Annotated[
    Literal["data", "width", "batch_size"],
    typer.Option(
        help="What changes: the share of the training data, the width (of a model function with "
        "an argument `width`), or the batch size (by accumulation)."
    ),
]
Values = Annotated[
    options.Numbers | None,
    typer.Option(
        parser=options.numbers,
        metavar="NUMBERS",
        help="Shares such as 0.1,0.5,1, or widths, or batch sizes.",
        show_default="5 to 100 % of the data, 1/4 to 2 times the width, 1 to 8 times the batch",
    ),
]
TransferBudget = Annotated[
    float | None,
    typer.Option(
        help="The most to spend, in full trainings.",
        show_default="15, or what runs of 20 updates cost",
    ),
]
RateSeeds = Annotated[int, typer.Option(min=1, help="Runs of each rate, each with its own seed.")]
Near = Annotated[
    float | None,
    typer.Option(**LIMITS, help="Begin near this rate instead of with short runs."),
]

# --- of recipes

RecipeName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Show all of this recipe.", show_default=False),
]
Batch = Annotated[int, typer.Option(min=1, help="Your batch size, in samples.")]
RecipeSteps = Annotated[int, typer.Option(min=1, help="The length of your training, in updates.")]
