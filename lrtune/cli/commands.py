"""The commands: the same verbs and words as the Python interface, without logic of their own."""

import inspect
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrtune.cli import options
from lrtune.cli.studies import studies
from lrtune.tuning.planning import DEFAULT_STEPS

if TYPE_CHECKING:
    from lrtune.cli.session import Session

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(studies, name="studies")

REPORT = Path("report.html")
Out = Annotated[Path, typer.Option(help="The HTML report to write.")]
Steps = Annotated[
    int, typer.Option(min=1, help="The length of training that the answer is for, in updates.")
]
Seeds = Annotated[
    int, typer.Option(min=1, help="Most seeds to use (weights, order of the data, dropout).")
]
LIMITS: Any = {"min": 1e-7, "max": 10.0, "show_default": False}  # those of a search
Seed = Annotated[int, typer.Option(min=0, help="The first seed.")]


def _shared_options(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]",
            help="train.py:task or package.module:task; without it, the embedded digits.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="the task's own")
    ] = None,
    engine: Annotated[
        Literal["loop", "vmapped", "auto"],
        typer.Option(help="Train runs one after the other, or all at once; auto: the faster."),
    ] = "loop",
    study: Annotated[
        str | None,
        typer.Option(
            help="The study that records all runs: a name in .lrtune/, or a database URL.",
            show_default="one per task",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a new study; an old one is kept as NAME~1.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Use the study although its task differs.")
    ] = False,
    no_study: Annotated[bool, typer.Option("--no-study", help="Record nothing.")] = False,
    out: Out = REPORT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The options that all commands that train have in common; only the signature is used."""


def _trains(command: Callable[..., None]) -> Callable[..., None]:
    """A command in a session: `command(session, ...)`, with the shared options added to its own.

    Such a command needs an option `seed`.
    """
    target, *shared = inspect.signature(_shared_options).parameters.values()
    own = [*inspect.signature(command).parameters.values()][1:]
    # `--help` lists the options in this order: first what belongs to this command alone.
    parameters = [one.replace(kind=one.KEYWORD_ONLY) for one in (target, *own, *shared)]

    @wraps(command)
    def run(**options: Any) -> None:
        # Imported here, as torch comes with it: `lrtune --help` and `lrtune report` need none.
        from lrtune.cli.session import Session

        common = {one.name: options.pop(one.name) for one in (target, *shared)}
        with Session(seed=options["seed"], **common) as session:
            command(session, **options)
        raise typer.Exit(session.exit_code)

    # typer reads the options from the signature, and their types from the annotations.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - how typer calls it
    if wanted:
        typer.echo(f"lrtune {version('lrtune')}")
        raise typer.Exit


@app.callback()
def lrtune(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Find the learning rate for a PyTorch model by short, honest experiments on your own task."""


@app.command()
@_trains
def search(
    session: "Session",
    steps: Steps = DEFAULT_STEPS,
    budget: Annotated[
        float | None,
        typer.Option(help="The most to spend, in full trainings.", show_default="4"),
    ] = None,
    time: Annotated[
        float | None,
        typer.Option(
            parser=options.duration,
            metavar="TIME",
            help="Begin nothing that would not finish in this time: 20m, 90s, 2h.",
            show_default="no limit",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            parser=options.schedule,
            metavar="SCHEDULE",
            help="The schedule whose peak rate is sought, such as cosine; constant for a rate that "
            "is kept.",
            show_default="the best one on other tasks",
        ),
    ] = None,
    schedules: Annotated[
        options.Names | None,
        typer.Option(
            parser=options.schedules,
            metavar="NAMES",
            help="Compare these schedules afterwards: names, separated by commas.",
            show_default="no comparison",
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--range-test", help="Make a range test before the search.")
    ] = False,
    rate_only: Annotated[
        bool, typer.Option("--rate-only", help="End with the first answer, of short runs.")
    ] = False,
    fine: Annotated[
        Literal["grid"] | None,
        typer.Option(help="Train the whole fine grid.", show_default="train the best peak again"),
    ] = None,
    current: Annotated[
        float | None,
        typer.Option(**LIMITS, help="The rate that you use now: train it first."),
    ] = None,
    current_schedule: Annotated[
        str | None,
        typer.Option(
            parser=options.schedule,
            metavar="SCHEDULE",
            help="The schedule that you use now.",
            show_default="constant",
        ),
    ] = None,
    around: Annotated[
        float | None,
        typer.Option(**LIMITS, help="Begin near this rate instead of with the coarse grid."),
    ] = None,
    min_gain: Annotated[
        float,
        typer.Option(min=0, help="End when two more trainings are expected to gain less."),
    ] = 0.02,
    seed: Seed = 0,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the best model to this file.", show_default=False),
    ] = None,
) -> None:
    """Find the best learning rate of a schedule, and keep the best model trained on the way.

    Example: lrtune search train.py:task --steps 2000 --save best.pt
    """
    from lrtune import range_test

    now = options.current_setting(current, current_schedule)
    needs: dict[str, Any] = {"schedules": schedules, "fine": fine, "current": now, "save": save}
    options.check_search(rate_only=rate_only, around=around, **needs)
    settings: dict[str, Any] = {
        "steps": steps,
        "schedule": schedule,
        "budget": budget,
        "min_gain": min_gain,
    }
    settings |= {"fine": fine, "seed": seed, "current": now, "around": around}
    session.show_plan(rate_only=rate_only, save=save, sweep=sweep, rivals=schedules, **settings)
    if sweep:
        session.run(range_test, seed=seed)
    found = session.search(save=save, rate_only=rate_only, time_limit=time, **settings)
    if schedules:
        session.compare(found, schedules=schedules, seed=seed)


@app.command("range-test")
@_trains
def range_test(
    session: "Session",
    low: Annotated[float, typer.Option(help="The first rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="The rate that the sweep approaches.")] = 10.0,
    steps: Annotated[int, typer.Option(min=2, help="Updates of each sweep.")] = 200,
    seeds: Seeds = 3,
    seed: Seed = 0,
) -> None:
    """Raise the rate through every decade, and see where the loss stops falling.

    Example: lrtune range-test train.py:task --low 1e-6 --high 1 --seeds 5
    """
    from lrtune import range_test

    session.run(range_test, low=low, high=high, steps=steps, seeds=seeds, seed=seed)


@app.command()
@_trains
def compare(
    session: "Session",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Begin with the search in this file: a report, or output of --json.",
            show_default="the last search of the study",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Begin with this peak rate instead of a search.", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="With --lr: the length of training that it is for.", show_default=False
        ),
    ] = None,
    schedules: Annotated[
        options.Names | None,
        typer.Option(
            parser=options.schedules,
            metavar="NAMES",
            help="Names, separated by commas, or `all`.",
            show_default="the usual ones",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds by which rivals are compared at full length.")
    ] = 3,
    budget: Annotated[float, typer.Option(help="The most to spend, in full trainings.")] = 4.0,
    samples: Annotated[
        int, typer.Option(min=0, help="Samples of each schedule's own parameters.")
    ] = 0,
    rank_by: Annotated[
        Literal["final", "early", "plateau"],
        typer.Option(help="Sort the table by final loss, early decrease or plateau."),
    ] = "final",
    seed: Seed = 0,
) -> None:
    """Rank schedules for the task, each at its own peak rate, after a search.

    Example: lrtune compare train.py:task --schedules cosine,one-cycle,step --budget 6
    """
    options.check_compare(lr, steps, source, no_study=session.no_study, fresh=session.fresh)
    settings = {"schedules": schedules, "seeds": seeds, "budget": budget, "samples": samples}
    begin = session.last_search(source) if lr is None else lr
    length = {} if lr is None else {"steps": steps}
    session.compare(begin, rank_by=rank_by, seed=seed, **settings, **length)


@app.command()
def schedules() -> None:
    """List the schedules, each with its shape.

    Example: lrtune schedules
    """
    from lrtune.cli.output import print_schedules

    print_schedules()


@app.command()
def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Output of --json, or earlier reports.", show_default=False),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Report the results of this study.", show_default=False)
    ] = None,
    out: Out = REPORT,
) -> None:
    """Make one HTML report of saved results or of a study, without torch and without your code.

    Example: lrtune report --study digits --out digits.html
    """
    from lrtune.cli.output import exit_on_error
    from lrtune.reporting import load, report
    from lrtune.study.contents import open_study

    with exit_on_error():
        contents = open_study(study) if study else None
        given = [one for path in results or () for one in load(path)]
        typer.echo(report([*given, *(contents.reported if contents else ())], out))
        if contents and contents.left_out:
            left_out = f"{contents.left_out} runs are not in the report"
            typer.echo(f"{left_out}; `lrtune studies export` writes all of them", err=True)


def main() -> None:
    """Run the command line; exits with 0 for an answer, 1 for a failed task, 2 for wrong usage."""
    app()
