"""The commands: the same verbs and words as the Python interface, without logic of their own."""

import inspect
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrtune.cli import declared, options
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


def _shared_options(
    target: declared.Target = None,
    device: declared.Device = None,
    engine: Annotated[
        Literal["loop", "vmapped", "auto"],
        typer.Option(help="Train runs one after the other, or all at once; auto: the faster."),
    ] = "loop",
    max_runs: declared.MaxRuns = None,
    offload: declared.Offload = None,
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
    no_study: Annotated[bool, typer.Option("--no-study", help="Record nothing.")] = False,
    out: declared.Out = REPORT,
    as_json: declared.AsJson = False,
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
    """Find the learning rate of a PyTorch model, and its schedule, by training it at several."""


@app.command()
@_trains
def search(
    session: "Session",
    steps: declared.Steps = DEFAULT_STEPS,
    budget: declared.Budget = None,
    time: declared.Time = None,
    schedule: declared.Schedule = None,
    schedules: declared.CompareAfterwards = None,
    sweep: declared.RangeTestBefore = False,
    rate_only: declared.RateOnly = False,
    fine: declared.Fine = None,
    current: declared.Current = None,
    current_schedule: declared.CurrentSchedule = None,
    around: declared.Around = None,
    min_gain: declared.MinGain = 0.02,
    seed: declared.Seed = 0,
    save: declared.Save = None,
) -> None:
    """Find the best learning rate of a schedule, and keep the best model trained on the way.

    Every run is recorded in a study in .lrtune/. Ctrl-C ends the search with
    the best answer so far, and the same command goes on from there.

    Exit codes: 0 for an answer, 1 for a task that failed or learned nothing,
    2 for wrong usage, 130 after Ctrl-C.

    Example: lrtune search train.py:task --steps 2000 --save best.pt
    """
    from lrtune import range_test
    from lrtune.cli import verbs

    now = options.current_setting(current, current_schedule)
    needs: dict[str, Any] = {"schedules": schedules, "fine": fine, "current": now, "save": save}
    options.check_search(rate_only=rate_only, around=around, **needs)
    asked: dict[str, Any] = {
        "steps": steps, "schedule": schedule, "budget": budget, "fine": fine, "current": now,
        "around": around, "min_gain": min_gain, "seed": seed,
    }  # fmt: skip
    verbs.show_plan(session, needs, rate_only=rate_only, sweep=sweep, **asked)
    if sweep:
        session.run(range_test, seed=seed)
    found = verbs.run_search(session, save=save, rate_only=rate_only, time_limit=time, **asked)
    if schedules:
        verbs.run_comparison(session, found, schedules=schedules, time_limit=time)


@app.command()
def check(
    target: declared.Target = None,
    device: declared.Device = None,
    as_json: declared.AsJson = False,
) -> None:
    """Show what will be trained, before it is, and what is odd about it.

    Exit codes: 0, or 1 where an error was found.

    Example: lrtune check train.py:task
    """
    from lrtune.cli.checking import run_check

    raise typer.Exit(run_check(target, device, as_json=as_json))


@app.command()
def diagnose(
    target: declared.Patient = None,
    lr: declared.StuckRate = None,
    steps: declared.DiagnosedSteps = 600,
    schedule: declared.DiagnosedSchedule = None,
    checkpoint: declared.StuckCheckpoint = None,
    seed: declared.Seed = 0,
    device: declared.Device = None,
    out: declared.Out = REPORT,
    as_json: declared.AsJson = False,
) -> None:
    """Find out why a task does not learn, or not any more; or which of your loss curves is good.

    It looks at the task, trains it shortly, and continues the run, or a
    checkpoint, in several ways: for half a training, or 300 updates.

    Exit codes: 0, 1 where an error was found or the task failed, 2 for wrong
    usage, 130 after Ctrl-C.

    Example: lrtune diagnose train.py:task --lr 0.1 --steps 2000

    Example: lrtune diagnose curves.csv
    """
    from lrtune.cli.checking import run_diagnose, run_verdicts

    asked: dict[str, Any] = {"lr": lr, "steps": steps, "checkpoint": checkpoint, "seed": seed}
    if target is not None and target.lower().endswith(options.TABLES):
        usual = {"steps": 600, "seed": 0, "out": REPORT}
        every = {**asked, "schedule": schedule, "device": device, "out": out}
        given = {name: value for name, value in every.items() if value != usual.get(name)}
        raise typer.Exit(run_verdicts(target, given, as_json=as_json))
    if schedule is not None:
        asked["schedule"] = schedule
    raise typer.Exit(run_diagnose(target, device, out=out, as_json=as_json, **asked))


@app.command("range-test")
@_trains
def range_test(
    session: "Session",
    low: declared.Low = 1e-6,
    high: declared.High = 10.0,
    steps: declared.SweepSteps = 200,
    seeds: declared.SweepSeeds = 3,
    vary: declared.Vary = None,
    seed: declared.Seed = 0,
) -> None:
    """Raise the rate through every decade, and see where the loss stops falling.

    Exit code 1 where no rate is shown to train. Sweeps of other settings are
    not recorded in the study.

    Example: lrtune range-test train.py:task --low 1e-6 --high 1 --seeds 5
    """
    from lrtune.cli import verbs

    asked: dict[str, Any] = {"steps": steps, "seeds": seeds, "vary": options.varied(vary)}
    verbs.show_sweeps(session, **asked)
    verbs.run_range_test(session, low=low, high=high, seed=seed, **asked)


@app.command()
@_trains
def compare(
    session: "Session",
    source: declared.Source = None,
    lr: declared.Peak = None,
    steps: declared.PeakSteps = None,
    schedules: declared.Rivals = None,
    seeds: declared.PairedSeeds = 3,
    budget: declared.MostTrainings = None,
    time: declared.Time = None,
    samples: declared.Samples = 0,
    rank_by: declared.RankBy = "final",
    seed: declared.NewSeed = None,
) -> None:
    """Compare other schedules with the recommended one, each at its own peak rate.

    Example: lrtune compare train.py:task --schedules cosine,one-cycle,step --budget 6
    """
    from lrtune.cli import verbs

    options.check_compare(lr, steps, source, no_study=session.no_study, fresh=session.fresh)
    asked: dict[str, Any] = {"schedules": schedules, "steps": steps, "seeds": seeds, "seed": seed}
    asked |= {"budget": budget, "samples": samples, "rank_by": rank_by, "time_limit": time}
    begin = verbs.last_search(session, source) if lr is None else lr
    verbs.run_comparison(session, begin, **asked)


@app.command()
@_trains
def transfer(
    session: "Session",
    over: declared.Over = "data",
    values: declared.Values = None,
    steps: declared.Steps = DEFAULT_STEPS,
    budget: declared.TransferBudget = None,
    time: declared.Time = None,
    seeds: declared.RateSeeds = 3,
    around: declared.Near = None,
    seed: declared.Seed = 0,
) -> None:
    """Find out whether the best rate carries over: to more data, a width, a batch size.

    Only runs of the task itself are recorded in the study.

    Example: lrtune transfer train.py:task --over data --steps 2000 --budget 10
    """
    from lrtune.cli import verbs

    asked: dict[str, Any] = {"over": over, "values": values, "seeds": seeds, "around": around}
    verbs.run_transfer(session, steps=steps, budget=budget, time_limit=time, seed=seed, **asked)


@app.command()
def schedules() -> None:
    """List the schedules, each with its shape.

    Example: lrtune schedules
    """
    from lrtune.cli.output import print_schedules

    print_schedules()


@app.command()
def recipes(
    name: declared.RecipeName = None,
    batch: declared.Batch = 64,
    steps: declared.RecipeSteps = DEFAULT_STEPS,
    as_json: declared.AsJson = False,
) -> None:
    """List published recipes for your batch size and length; a schedule is also `recipe:NAME`.

    Example: lrtune recipes --batch 64 --steps 2000
    """
    from lrtune.cli.output import exit_on_error, print_published

    with exit_on_error():
        print_published(name, batch, steps, as_json=as_json)


@app.command()
def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Output of --json, or earlier reports.", show_default=False),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Report the results of this study.", show_default=False)
    ] = None,
    out: declared.Out = REPORT,
) -> None:
    """Make one HTML report of saved results or of a study, without torch and without your code.

    Example: lrtune report --study digits --out digits.html
    """
    from lrtune.cli.output import exit_on_error
    from lrtune.errors import quantity
    from lrtune.reporting import answers_first, load, report
    from lrtune.study.contents import open_study

    with exit_on_error():
        contents = open_study(study) if study else None
        given = [one for path in results or () for one in load(path)]
        typer.echo(report([*given, *answers_first(contents.reported if contents else [])], out))
        if contents and contents.left_out:
            left_out = f"not in the report: {quantity(contents.left_out, 'run')}"
            typer.echo(f"{left_out}; `lrtune studies export` writes all of them", err=True)
