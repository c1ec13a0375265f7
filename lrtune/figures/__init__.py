"""Figures in three storeys: frames -> numbers to draw -> plotly figures -> (elsewhere) a page.

Every module begins with the numbers, which are pure and are what tests look at, and then draws
them. plotly is imported when a figure is made, so that reading results stays light.
"""

from lrtune.figures.comparison import (
    heat_figure,
    paths_figure,
    ranking_figure,
    stability_figure,
)
from lrtune.figures.curves import curves_figure
from lrtune.figures.rates import rates_figure
from lrtune.figures.sweep import sweep_figure
from lrtune.figures.trace import trace_figure

__all__ = [
    "curves_figure",
    "heat_figure",
    "paths_figure",
    "ranking_figure",
    "rates_figure",
    "stability_figure",
    "sweep_figure",
    "trace_figure",
]
