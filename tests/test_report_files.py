"""Results come back from a page as they were; a page is written whole or not at all."""

import json
import math
import os
import re
import stat
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting import SAMPLES, Reader, a_search, a_sweep, a_trace, framed

from lrtune.errors import ArgumentError, ResultsError
from lrtune.reporting import load, report
from lrtune.results import RangeTestResult, SearchResult, Trace, schema

NAN = math.nan
HOSTILE = "</script><script>alert(1)</script>\u2028\x00"


@pytest.mark.parametrize("kind", SAMPLES)
def test_results_come_back_from_a_page_as_they_were(kind, tmp_path):
    one = SAMPLES[kind](HOSTILE)
    (back,) = load(report(one, tmp_path / "r.html"))
    same(back, one)


def test_several_results_come_back_in_order(tmp_path):
    path = report([make() for make in SAMPLES.values()], tmp_path / "r.html")
    assert [type(one) for one in load(path)] == list(SAMPLES)


def same(back, one):
    assert type(back) is type(one)
    for name, value in vars(one).items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(getattr(back, name), value)
        else:
            assert getattr(back, name) == value


@settings(max_examples=10, deadline=None)
@given(
    losses=st.lists(st.floats(), min_size=4, max_size=4),
    text=st.text(min_size=1).filter(lambda text: "\r" not in text),
)
def test_whatever_comes_is_reported_and_comes_back(losses, text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.html"
    frame = framed(schema.TRACE, run=[text] * 4, step=range(4), loss=losses)
    one = Trace(4, frame, framed(schema.RUNS, run=[text]), framed(schema.VALIDATIONS, run=[text]))
    same(load(report(one, path))[0], one)


def emptied(one):
    """The result without a single row."""
    frames = {name: value for name, value in vars(one).items() if isinstance(value, pd.DataFrame)}
    return type(one)(**vars(one) | {name: frame.iloc[:0] for name, frame in frames.items()})


def without_numbers(one):
    """The result with NaN for every loss."""
    frames = {
        name: value.copy() for name, value in vars(one).items() if isinstance(value, pd.DataFrame)
    }
    for frame in frames.values():
        numbers = [c for c in frame.select_dtypes("float64") if c != "lr"]
        frame[numbers] = NAN
    return type(one)(**vars(one) | frames)


def first_row(one):
    """The result with a single row in each of its tables."""
    frames = {name: value for name, value in vars(one).items() if isinstance(value, pd.DataFrame)}
    return type(one)(**vars(one) | {name: frame.iloc[:1] for name, frame in frames.items()})


@pytest.mark.parametrize("worse", [emptied, without_numbers, first_row])
@pytest.mark.parametrize("kind", [RangeTestResult, SearchResult, Trace])
def test_poor_results_make_a_page_all_the_same(kind, worse, tmp_path):
    one = worse(SAMPLES[kind]())
    seen = Reader(report(one, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert seen.open == []
    same(load(tmp_path / "r.html")[0], one)


def test_json_is_read_as_well(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("\ufeff" + a_search().to_json(), encoding="utf-8")
    same(load(path)[0], a_search())
    path.write_text(json.dumps({"lr": 1, "results": [a_trace().to_dict()]}), encoding="utf-8")
    same(load(path)[0], a_trace())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"{}", "expected a result of kind"),
        (b"<html><body>no results</body></html>", "not a report of lrtune"),
        (b"<script id='lrtune-results'>alert(1)</script>", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
    ids=["empty", "words", "binary", "foreign", "page", "script", "deep"],
)
def test_what_holds_no_results_is_refused_by_name(content, says, tmp_path):
    path = tmp_path / "some.file"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=says) as error:
        load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["missing.html", "."])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(name, tmp_path):
    with pytest.raises(ResultsError, match=r"cannot read .*: (No such file|Is a directory)"):
        load(tmp_path / name)


# --- files


def test_one_result_or_several_and_any_path(tmp_path):
    assert report(a_trace(), str(tmp_path / "r.html")) == tmp_path / "r.html"
    assert report((a_trace(), a_sweep()), tmp_path / "r.html") == tmp_path / "r.html"
    assert len(load(tmp_path / "r.html")) == 2


@pytest.mark.parametrize("wrong", [[], None, "report", [a_trace(), 3]])
def test_what_is_no_result_is_refused(wrong, tmp_path):
    with pytest.raises(ArgumentError, match=r"a report (needs at least one|consists of) result"):
        report(wrong, tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_with_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        path = report(a_trace(), tmp_path / "r.html")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_page_is_written_whole_or_not_at_all(failure, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("the old page", encoding="utf-8")

    def fail(_file):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((ResultsError, KeyboardInterrupt)) as error:
        report(a_trace(), path)
    if error.type is ResultsError:
        assert str(error.value).startswith(f"cannot write {path}: No space left on device.")
    assert path.read_text(encoding="utf-8") == "the old page"
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "r.html", tmp_path / "file" / "r.html", tmp_path):
        with pytest.raises(ResultsError, match=re.escape(f"cannot write {path}: ")):
            report(a_trace(), path)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.skipif(os.name != "posix", reason="devices and links are a matter of POSIX")
def test_devices_and_links_are_not_replaced(tmp_path):
    with pytest.raises(ResultsError, match="no regular file"):
        report(a_trace(), os.devnull)
    assert Path(os.devnull).is_char_device()
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "r.html")
    report(a_trace(), link)
    assert link.is_symlink()
    assert len(load(tmp_path / "r.html")) == 1
