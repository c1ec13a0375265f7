"""What a command shows on standard error while it trains: a bar, the answer so far, an estimate."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrtune.errors import printable
from lrtune.reporting.statements import setting
from lrtune.tuning.experiment import Event
from lrtune.tuning.planning import Plan

MEASURED = 20
"""Updates after which the time per update is known well enough for an estimate."""


def duration_text(seconds: float) -> str:
    """A duration in the unit that a person would use.

    >>> duration_text(7.3), duration_text(80), duration_text(754), duration_text(9000)
    ('7 seconds', '80 seconds', '13 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'s' * (round(seconds) > 1)}"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


class Pace:
    """Measures the time per update, between the reports of one call.

    The first report of a call only begins it: what happens once, such as compiling, and what
    happens between calls is left out.

    Args:
        now: The time in seconds; for tests.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._last = now, (0.0, -1)
        self.made, self._seconds = 0, 0.0

    def report(self, done: int) -> None:
        """Note that the present call has made so many updates."""
        now, (before, known) = self._now(), self._last
        if 0 <= known <= done:
            self.made += done - known
            self._seconds += now - before
        self._last = now, done

    def end_call(self) -> None:
        """The next report is that of another call."""
        self._last = 0.0, -1

    @property
    def seconds_per_update(self) -> float | None:
        """The measured time; None after fewer than `MEASURED` updates."""
        return self._seconds / self.made if self.made >= MEASURED else None


class ProgressDisplay:
    """A bar per stage, or for a search one over its whole plan; nothing where it is no terminal.

    Args:
        console: Standard error.
        say: Prints a line there.
    """

    def __init__(self, console: Console, say: Callable[[str], None]) -> None:
        self._say = say
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.4g} of {task.total:,.4g} {task.fields[unit]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[answer]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._plan: Plan | None = None
        self._title = ""
        self._event: Event | None = None
        self._pace = Pace()
        self._before = 0  # updates that were made before the last event
        self._told = False
        self.last = ""

    def start(self) -> None:
        """Show the bars."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bars."""
        self._bar.stop()

    def show_plan(self, title: str, plan: Plan, text: str = "") -> None:
        """Print what will be spent by what has this title; its bar measures against it."""
        self._plan, self._title, self._event = plan, title, None
        self._say(text or str(plan))

    def updates(self, stage: str, done: int, total: int) -> None:
        """Show how far the runs of one call have come; an evaluator calls it."""
        self.last = f"after {done} of {total} updates of the stage {stage!r}"
        event, plan = self._event, self._plan
        if event is None or plan is None or event.stage != stage:
            self._show(stage, done, total, "updates")
            return
        self._pace.report(done)
        spent = event.done + (self._pace.made - self._before) / plan.sizes.steps
        self._show(self._title, spent, event.total, "trainings")
        each = self._pace.seconds_per_update
        if each is not None and not self._told:
            self._told = True
            left = each * plan.sizes.steps * max(0.0, event.total - spent)
            self._say(f"About {duration_text(left)} to go, at {each:.2g} s per step.")

    def event(self, event: Event) -> None:
        """Show the answer so far; a search calls it before it trains runs."""
        before, answer = self._event, answer_so_far(event)
        self._pace.end_call()
        self._event, self._before = event, self._pace.made
        self._show(self._title, event.done, event.total, "trainings", answer)
        if before is not None and before.lr is None and answer:
            self._say(f"First answer, after {event.done:.2f} trainings: {answer}")

    def _show(self, name: str, done: float, total: float, unit: str, answer: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, unit=unit, answer="")
        self._bar.update(self._tasks[name], completed=done, total=total)
        if answer:
            self._bar.update(self._tasks[name], answer=escape(printable(answer, 40)))


def answer_so_far(event: Event) -> str:
    """The best rate so far with its schedule; empty before the first answer.

    >>> answer_so_far(Event("fine", 1.5, 4.0, 0.0312, "trapezoid"))
    'lr 0.0312 with trapezoid'
    """
    return "" if event.lr is None else setting(event.lr, event.schedule)
