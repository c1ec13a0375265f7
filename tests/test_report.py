"""One page that opens offline, says what was found, and runs nobody else's code."""

import base64
import gzip
import hashlib
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting import SAMPLES, Reader, a_search

from lrtune import search
from lrtune.reporting import page, report
from lrtune.reporting.search import search_section
from lrtune.reporting.sections import format_cell, python_call, text_table, values_by_step
from lrtune.reporting.statements import PEAK
from lrtune.results import KINDS, schema
from lrtune.testing import bowl

NAN = math.nan


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A page of all kinds."""
    path = tmp_path_factory.mktemp("whole") / "report.html"
    report([make() for make in SAMPLES.values()], path)
    return path


@pytest.fixture(scope="module")
def read(whole):
    return Reader(whole.read_text(encoding="utf-8"))


# --- the page


def test_every_kind_of_result_has_words_and_a_sample_here():
    assert set(page.SECTIONS) == set(KINDS.values()) == set(SAMPLES)


def test_the_page_is_well_formed_and_says_its_language(read):
    assert read.open == []
    assert [tag for tag, _ in read.tags][:2] == ["html", "head"]
    assert read.tags[0][1] == {"lang": "en"}
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_headings_go_down_one_level_at_a_time(read):
    levels = [int(tag[1]) for tag, _ in read.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels.count(2) == len(SAMPLES)
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_whatever_is_named_by_another_element_is_there(read):
    ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
    for _, attrs in read.tags:
        assert set(attrs.get("aria-labelledby", "").split()) <= ids
        if "href" in attrs:
            assert attrs["href"].removeprefix("#") in ids


def test_every_chart_has_words_for_those_who_cannot_see_it_and_tables(read):
    charts = [attrs for _, attrs in read.tags if attrs.get("class") == "chart"]
    assert len(charts) >= 5
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in charts)
    tags = [tag for tag, _ in read.tags]
    assert tags.count("figcaption") == len(charts)
    assert tags.count("details") >= len(charts)


def test_nothing_is_fetched(read):
    fetching = {"src", "srcset", "data", "poster", "action", "formaction", "background", "ping"}
    for tag, attrs in read.tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not fetching & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
    assert not any(re.search(r"url\(|@import", style) for style in read.styles)


def test_only_our_scripts_may_run(read):
    policy = next(a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    run = [text for attrs, text in read.scripts if "type" not in attrs]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert rules["script-src"].split() == [f"'sha256-{one}'" for one in hashes]
    assert len(run) == 2
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "connect-src" not in rules
    assert "unsafe" not in rules["script-src"]


def test_figures_are_json_that_a_browser_reads(read):
    data = [
        (attrs, text) for attrs, text in read.scripts if attrs.get("type") == "application/json"
    ]
    figures = [text for attrs, text in data if attrs["id"].endswith("-figure")]
    assert len(figures) == len([1 for _, attrs in read.tags if attrs.get("class") == "chart"])
    for text in figures:
        figure = json.loads(text, parse_constant=pytest.fail)  # neither NaN nor Infinity
        assert figure["data"]
        assert not set("<>&\u2028\u2029") & set(text)


def test_the_same_results_make_the_same_page(whole, tmp_path):
    again = report([make() for make in SAMPLES.values()], tmp_path / "again.html")
    assert again.read_bytes() == whole.read_bytes()


def test_it_is_small(whole):
    assert whole.stat().st_size < 1_700_000  # plotly's bundle is 1,500,041 of them


def test_the_bundle_is_what_it_says_and_fits_the_plotly_that_is_installed():
    from plotly.offline import get_plotlyjs_version

    packed = files("lrtune.reporting").joinpath(page.BUNDLE).read_bytes()
    banner = gzip.decompress(packed).decode()[:200]
    version = re.search(r"plotly\.js \(cartesian - minified\) v([\d.]+)", banner)[1]
    assert f"plotly.js {version}" in Path(page.__file__).read_text(encoding="utf-8")
    assert version.split(".")[0] == get_plotlyjs_version().split(".")[0]
    licence = files("lrtune.reporting").joinpath("plotly.LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License")


def test_reports_are_made_without_torch_and_optuna(whole, tmp_path):
    code = (
        "import sys, lrtune.reporting as r\n"
        f"r.report(r.load({str(whole)!r}), {str(tmp_path / 'r.html')!r})\n"
        "print(sorted({'torch', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "r.html").read_bytes() == whole.read_bytes()


# --- words


def test_every_heading_belongs_to_a_column():
    tables = [table for table in vars(schema).values() if isinstance(table, dict)]
    columns = {name for table in tables if table is not schema.HEADINGS for name in table}
    added = {"end", "validation"}  # by the section of a trace
    assert schema.HEADINGS.keys() - added <= columns


def test_tables_have_headings_in_plain_words(whole):
    page = whole.read_text(encoding="utf-8")
    headings = {*re.findall('<th scope="col"[^>]*>([^<]*)</th>', page)}
    assert {"learning rate", "difference to the recommended", "90 % interval from"} <= headings
    assert not headings & schema.HEADINGS.keys()


def words(result, tmp_path):
    """The text of a page about one result, without breaks."""
    page = report(result, tmp_path / "r.html").read_text(encoding="utf-8")
    return " ".join(" ".join(Reader(page).text).split())


def test_a_search_is_reported_in_plain_words(tmp_path):
    text = words(a_search("the best of 4"), tmp_path)
    assert "Use lr 0.02 with trapezoid" in text
    assert PEAK in text
    assert "The best of 4." in text
    assert "0.01 to 0.1" in text
    assert "Stated loss 0.45 ± 0.05 on 90 of 180 samples" in text
    assert "The best training: loss 0.45 (standard error 0.05) on the 90 of 180 validation" in text
    assert "Retrained, expect 0.475 (0.4 to 0.55)" in text
    assert "3.50 of 4 full trainings" in text
    call = "lrtune.search(task, schedule='trapezoid', steps=400, coarse=(0.001, 0.01, 0.1, 1))"
    assert call in text


def test_a_search_without_a_whole_training_says_so_and_states_no_loss(tmp_path):
    text = words(a_search(whole=False), tmp_path)
    assert "Use lr 0.02 with trapezoid" in text
    assert "No rate was trained to its end" in text
    assert "Stated loss" not in text
    assert "The best training" not in text
    assert "Whole trainings follow" not in text


def test_what_other_tasks_tell_is_no_measurement_of_this_one(tmp_path):
    text = words(a_search(), tmp_path)
    assert re.search(r"From \d+ to \d+ other tasks, not measured on yours", text)
    long = words(replace(a_search(), steps=4000), tmp_path)
    assert "From only 2 other tasks" in long


def test_every_rate_of_an_answer_has_its_schedule_beside_it(tmp_path):
    for schedule in ("trapezoid", "cosine(floor=0.1)", "constant", "a function of mine"):
        text = words(replace(a_search(), schedule=schedule), tmp_path)
        told = re.findall(r"\b[Ll]r 0\.02\b(?! *=)(.{,40})", text)
        assert len(told) >= 3
        beside = (f" with {schedule}", " with trapezoid, seed 1")  # the latter of the best training
        assert all(after.startswith(beside) for after in told), told
        assert (PEAK in text) == (schedule != "constant")


def test_a_range_test_and_a_trace_are_reported_in_plain_words(read):
    text = " ".join(" ".join(read.text).split())
    assert "Start with a learning rate of about 0.05" in text
    assert "3 runs of 4 steps" in text


def test_a_call_holds_nothing_but_numbers():
    manifest = {"steps": "400", "seed": "__import__('os')", "fine": "0.8, 0.9", "coarse": "0.1; x"}
    assert python_call("search", manifest, ["steps", "seed"], ["coarse", "fine"]) == (
        "lrtune.search(task, steps=400, fine=(0.8, 0.9))"
    )
    for text in ("a\nb", "'); os.abort() #", "x" * 201, "\u202e"):
        assert python_call("search", {}, [], texts={"schedule": text}) == "lrtune.search(task)"
    call = python_call("search", {}, [], texts={"schedule": "stable_decay(0.1, 'linear')"})
    assert call == """lrtune.search(task, schedule="stable_decay(0.1, 'linear')")"""


def test_cells_and_tables():
    assert [format_cell(x) for x in (True, np.False_, 0.00001234, 3, "a", NAN)] == [
        "yes", "no", "1.234e-05", "3", "a", "nan",
    ]  # fmt: skip
    table = text_table("t", pd.DataFrame({"a": ["x"], "b": [1.5], "c": [True]}))
    assert table.numeric == [False, True, False]
    assert table.rows == [["x", "1.5", "yes"]]
    near, far = (
        text_table("t", pd.DataFrame({"loss": [constant + 1 / 3, constant + 2.0, NAN]})).rows
        for constant in (0.0, 1e6)
    )
    assert near == [["0.3333"], ["2"], ["nan"]]
    assert far == [["1000000.33"], ["1000002"], ["nan"]]
    outcomes = text_table("t", pd.DataFrame({"lr": [0.1], "outcome": ["DIVERGED"]}))
    assert outcomes.columns == ["learning rate", "outcome"]
    assert outcomes.rows == [["0.1", "diverged"]]


def test_long_runs_are_shown_at_some_steps_with_the_first_and_the_last():
    long = pd.DataFrame({"run": ["b"] * 100 + ["a"] * 50, "step": [*range(100), *range(50)]})
    rows = values_by_step(long.assign(loss=1.0), "run", "loss")
    assert rows["run"].tolist() == ["b", "a"]
    assert rows.columns[[1, -1]].tolist() == ["step 0", "step 99"]
    assert len(rows.columns) == 10
    assert rows["step 99"].isna().tolist() == [False, True]


# --- hostile names


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<!--<script>",
    "]]><a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}{% raw %}",
    "%{x}<br><b>bold</b>$\\href{javascript:alert(1)}$",
    "\u2028\u2029\x00\ud800&amp;&#60;",
    "",
    "a" * 10_000,
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The skeleton of the page with an ordinary name in every place."""
    return pages("text", tmp_path_factory.mktemp("plain")).skeleton


def pages(text, tmp_path):
    path = report([make(text) for make in SAMPLES.values()], tmp_path / "hostile.html")
    return Reader(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_changes_the_page(text, plain, tmp_path):
    assert pages(text or " ", tmp_path).skeleton == plain


@settings(max_examples=8, deadline=None)
@given(text=st.text(min_size=1))
def test_no_text_changes_the_page(text, plain, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    assert pages(f"{text}.", folder).skeleton == plain


def test_hostile_names_are_shown_as_they_are(tmp_path):
    seen = pages(HOSTILE[0], tmp_path)
    assert any(HOSTILE[0] in text for text in seen.text)
    assert not any("alert" in text for attrs, text in seen.scripts if "type" not in attrs)


def test_tables_for_people_leave_out_the_run_that_changes_no_weight():
    found = search(bowl(4.0), steps=60, rate_only=True)
    assert "before" in set(found.runs["stage"])
    tables = [table for chart in search_section(found).charts for table in chart.tables]
    texts = [cell for table in tables for row in table.rows for cell in row]
    assert any(text.startswith("short ") for text in texts)
    assert not any(text.startswith("untrained") for text in texts)
