"""Numbers to plotly figures.

Each module first computes the numbers to draw, in pure functions that the tests check, and then
draws them. plotly is imported only when a figure is drawn, so that reading results stays fast.
"""

from lrtune.figures.comparison import losses_figure, ranking_figure, schedules_figure
from lrtune.figures.finding import finding_figure
from lrtune.figures.losses import curves_figure, trace_figure
from lrtune.figures.range_test import sweep_figure
from lrtune.figures.search import rates_figure
from lrtune.figures.transfer import transfer_figure
from lrtune.figures.varied import varied_figure

__all__ = [
    "curves_figure",
    "finding_figure",
    "losses_figure",
    "ranking_figure",
    "rates_figure",
    "schedules_figure",
    "sweep_figure",
    "trace_figure",
    "transfer_figure",
    "varied_figure",
]
