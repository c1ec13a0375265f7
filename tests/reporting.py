"""Results of every kind, with a text of one's choice in every place; and a reader of pages."""

import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from lrtune.analysis.sweep_rules import Suggestion
from lrtune.results import (
    ComparisonResult,
    Diagnosis,
    Finding,
    RangeTestResult,
    SearchResult,
    Trace,
    TransferResult,
    schema,
)
from lrtune.results.diagnosis import Chart
from lrtune.results.schema import as_table
from lrtune.results.trained import BestRun, Retrained

NAN, INF = math.nan, math.inf
VOID = {"meta", "link", "img", "br", "hr", "input", "base", "source"}


def framed(kind, **given):
    """A frame of a result with the given columns; the others are filled in."""
    fill = {"str": "", "int64": 0, "float64": 1.0, "bool": False}
    rows = max(len(column) for column in given.values() if isinstance(column, (list, range)))
    whole = {name: [fill[dtype]] * rows for name, dtype in kind.items()} | given
    return as_table(pd.DataFrame(whole), kind)


def a_sweep(text="text"):
    lr = np.geomspace(1e-4, 1.0, 20).tolist()
    return RangeTestResult(
        suggestion=Suggestion(0.05, text, text, (0.01, 0.1)),
        warnings=(text,),
        notes=(text, "seed 0: the sweep diverged by 1"),
        manifest={"model": text, f"{text}!": text, "steps": "20", "low": "1e-06", "seed": text},
        frame=framed(
            schema.SWEEP,
            lr=lr,
            loss=[2.0] * 15 + [1.0] * 3 + [INF, NAN],
            smooth=[2.0] * 18 + [NAN] * 2,
        ),
        stops=framed(schema.STOPS, outcome=[text], lr=[1.0], edge=[NAN]),
        answers=framed(schema.ANSWERS, rule=[text, "valley"], lr=[0.02, 0.05], because=[text, ""]),
        floor=0.0,
        varied=framed(
            schema.VARIED,
            setting=[text, "momentum", "momentum"],
            value=[0.1, 0.5, 0.9],
            lr=[0.1, NAN, 0.01],
            loss=[0.5, NAN, INF],
            difference=[0.0, NAN, 0.1],
            verdict=["lowest", "does not train", text],
        ),
        varied_sweeps=framed(
            schema.VARIED_SWEEPS,
            setting=[text] * 10 + ["momentum"] * 10,
            value=[0.1] * 10 + [0.5] * 5 + [0.9] * 5,
            lr=lr,
            loss=[2.0] * 15 + [1.0] * 3 + [INF, NAN],
            smooth=[2.0] * 18 + [NAN] * 2,
        ),
    )


def a_transfer(text="text"):
    return TransferResult(
        over="data",
        statements=(text, f"At equal updates {text}."),
        warnings=(text,),
        notes=(text,),
        stopped="budget",
        steps=400,
        length=90,
        seeds=2,
        budget=9.0,
        cost=8.5,
        manifest={"model": text, "over": text, "values": "1, 0.5", "steps": "400"},
        table=framed(
            schema.TRANSFER,
            equal=["updates", "updates", text, text],
            label=["100 %", text, "100 %", text],
            value=[1.0, 0.5] * 2,
            lr=[0.1, 0.2, 0.1, NAN],
            low=[0.05, 0.1, NAN, NAN],
            high=[0.2, INF, NAN, NAN],
            edge=["", "high", "", text],
        ),
        trends=framed(
            schema.TRENDS, equal=["updates", text], verdict=["no", text], slope=[-1.0, NAN],
            high=[INF, NAN],
        ),
        runs=framed(schema.TRIED, run=[text], stage=[text], outcome=[text]),
    )  # fmt: skip


def a_diagnosis(text="text"):
    drawn = Chart(f"update {text}", f"loss {text} of the batch", {text: ((1.0, 2.0),)})
    return Diagnosis(
        facts={text: text, "Updates in an epoch": "9"},
        findings=(
            Finding(text, "warning", text, text, text, drawn),
            Finding("odd", "note", text, "", ""),
        ),
        looked_at=(text, "odd"),
        manifest={"model": text, "schedule": text, "lr": text, "steps": "600"},
        groups=framed(schema.GROUPS, group=[0, 1], weight_decay=[NAN, 0.1]),
        cost=120.5,
        stopped="interrupted",
    )


def a_search(text="text", *, whole=True):
    """Four short runs, of which one diverged, and three whole trainings, unless told otherwise."""
    rates = [0.001, 0.01, 0.1, 1.0]
    short = {
        "run": [f"{text} {lr:g}" for lr in rates],
        "stage": ["coarse"] * 4,
        "lr": rates,
        "seed": [0] * 4,
        "until": [5, 20, 20, 7],
        "outcome": ["PAUSED", "PAUSED", text, "DIVERGED"],
        "train": [2.0, 1.0, 1.5, 1e30],
        "loss": [NAN] * 4,
        "test": [NAN] * 4,
    }
    long = {
        "run": [f"{text} whole {seed}" for seed in range(3)],
        "stage": ["current", "fine", "fine"],
        "lr": [0.05, 0.02, 0.02],
        "seed": [0, 1, 2],
        "until": [400] * 3,
        "outcome": ["FINISHED"] * 3,
        "train": [0.5, 0.3, 0.4],
        "loss": [0.6, 0.4, 0.5],
        "test": [0.65, 0.45, 0.5],
    }
    columns = {name: short[name] + (long[name] if whole else []) for name in short}
    count = len(columns["run"])
    return SearchResult(
        lr=0.02,
        schedule="trapezoid",
        interval=(0.01, 0.1),
        good_range=(0.015, 0.03),
        steps=400,
        best=BestRun(0.02, "trapezoid", 1, 0.4, 0.45, 0.05, 90, 180, text) if whole else None,
        retrained=Retrained(0.475, 0.4, 0.55, 2) if whole else None,
        because=text,
        confidence=text,
        warnings=(text,),
        notes=(text,),
        stopped="budget",
        budget=4.0,
        cost=3.5,
        scores=text,
        manifest={"model": text, "steps": "400", "coarse": "0.001, 0.01, 0.1, 1", "fine": text},
        frame=framed(
            schema.RATES,
            lr=[*rates, 0.02, 0.05],
            stage=[text] * 6,
            verdict=["too low", "good", text, "diverged", "good", "high"],
            loss=[2.0, 1.0, 1.5, NAN, 0.45, 0.6],
            failed=[0, 0, 0, 1, 0, 0],
        ),
        runs=framed(
            schema.TRIED,
            **columns,
            schedule=[text] * count,
            steps=[400] * count,
            start=[2.0] * count,
            checkpoint=[text] * count,
        ),
        curves=framed(
            schema.CURVES,
            run=[name for name in columns["run"] for _ in range(5)],
            step=[*range(5)] * count,
            loss=([2.0, 1.5, 1.0, 0.5, 0.4] * 3 + [2.0, 9.0, 1e30, INF, NAN])
            + [2.0, 1.0, 0.5, 0.4, 0.3] * (count - 4),
        ),
        spending=framed(schema.SPENDING, stage=["coarse", "fine"]),
    )


def a_trace(text="text"):
    names = [f"{text} {n}" for n in range(3)]
    return Trace(
        steps=4,
        frame=framed(
            schema.TRACE,
            run=[name for name in names for _ in range(4)],
            step=[*range(4)] * 3,
            loss=[2.0, 1.0, 0.5, 0.25, -2.0, -1.0, NAN, INF, 1.0, 1e300, -INF, 0.0],
        ),
        runs=framed(schema.RUNS, run=names, schedule=[text] * 3, outcome=["FINISHED", text, text]),
        validations=framed(schema.VALIDATIONS, run=names[:1] * 2, step=[4, 4], loss=[0.2, 0.4]),
    )


def a_comparison(text="text"):
    names = [text, "cosine()", "linear", "wsd"]
    runs = [f"{text} {n}" for n in range(2)]
    return ComparisonResult(
        winner=text,
        schedule=text,
        call=text,
        lr=0.1,
        because=text,
        warnings=(text,),
        notes=(text,),
        stopped="budget",
        steps=4,
        horizon=0,
        seeds=2,
        budget=4.0,
        cost=2.0,
        scores=text,
        best=BestRun(0.1, text, 0, 0.4, 0.5, 0.01, 90, 180, text),
        retrained=None,
        manifest={"model": text, "found": "0.1", "steps": "4", "seeds": text},
        table=framed(
            schema.RANKING,
            rank=[1, 2, 3, 4],
            schedule=names,
            call=names,
            lr=[0.1, 0.2, 0.1, 0.1],
            verdict=["recommended", "tied", "behind", text],
            estimate=[0.0, -0.01, INF, NAN],
            low=[0.0, -0.1, NAN, NAN],
            high=[0.0, 0.1, NAN, NAN],
            prior=[0.0, NAN, 0.1, 0.2],
            failed=[0, 0, 1, 0],
            released=[text, "", "yes", "no"],
        ),
        runs=framed(
            schema.TRIED,
            run=runs,
            stage=["fine", text],
            schedule=names[:2],
            steps=[4, 4],
            outcome=["FINISHED", text],
        ),
        curves=framed(
            schema.CURVES,
            run=[name for name in runs for _ in range(4)],
            step=[*range(4)] * 2,
            loss=[2.0, 1.0, 0.5, 0.4, 2.0, 1.0, INF, NAN],
        ),
        spending=framed(schema.SPENDING, stage=["rivals"]),
    )


SAMPLES = {
    RangeTestResult: a_sweep,
    SearchResult: a_search,
    Trace: a_trace,
    Diagnosis: a_diagnosis,
    ComparisonResult: a_comparison,
    TransferResult: a_transfer,
}


class Reader(HTMLParser):
    """What a browser would make of a page: tags, their attributes, scripts, text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.scripts, self.styles, self.text = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        else:
            self.text.append(data)

    @property
    def skeleton(self):
        """Everything but the words."""
        return [(tag, sorted(attrs)) for tag, attrs in self.tags]
