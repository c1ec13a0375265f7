"""The commands: the same verbs and words as the Python interface, without logic of their own."""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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
    seeds: Seeds = 3,
    seed: Seed = 0,
    no_compare: Annotated[
        bool, typer.Option("--no-compare", help="Do not compare schedules.")
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Only find the rate, for at most this many full trainings (inf: the whole fine "
            "grid).",
            show_default="4, then compare schedules",
        ),
    ] = None,
) -> None:
    """Find the learning rate, then the schedule: range test, coarse and fine search, comparison.

    Example: lrtune search train.py:task --steps 2000 --budget 1
    """
    from lrtune import compare, plan, range_test, search

    if budget != math.inf:
        planned = plan(steps, budget, seeds=seeds)  # it checks the options before anything trains
        if budget is not None:
            session.print_status(f"Plan: {planned}")
    if budget is None:
        session.run(range_test, seeds=seeds, seed=seed)
    found = session.run(search, steps=steps, seeds=seeds, seed=seed, budget=budget)
    if budget is None and not no_compare:
        session.run(compare, found.lr, steps=steps, seed=seed)


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
    lr: Annotated[
        float, typer.Option(help="The rate that search found; peak rates are tried around it.")
    ],
    schedules: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas, or `all`.", show_default="the usual ones"),
    ] = None,
    steps: Steps = DEFAULT_STEPS,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of fresh seeds that decide the ranking.")
    ] = 5,
    seed: Seed = 0,
    samples: Annotated[
        int, typer.Option(min=0, help="Samples of each schedule's own parameters.")
    ] = 0,
) -> None:
    """Rank schedules for the task, each at its own peak rate.

    Example: lrtune compare train.py:task --lr 0.05 --schedules cosine,one-cycle,step
    """
    from lrtune import compare

    names = schedules.split(",") if schedules else None
    settings: dict[str, Any] = {"steps": steps, "seeds": seeds, "seed": seed, "samples": samples}
    session.run(compare, lr, schedules=names, **settings)


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
