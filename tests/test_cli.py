"""The command line: one answer first, and what it rests on; a comparison begins with a search."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commanding import BROKEN, DEAD, QUICK, SWEEP, found_in
from reporting import SAMPLES, a_search
from typer.testing import CliRunner

import lrtune
from lrtune.cli.commands import app
from lrtune.cli.options import as_options
from lrtune.demo import SmallCNN
from lrtune.reporting import load
from lrtune.reporting.statements import PEAK
from lrtune.results import ComparisonResult, SearchResult
from lrtune.schedules import SCHEDULES, parse


@pytest.fixture
def compared(monkeypatch):
    """What was asked of `lrtune.compare`, which gives a sample of its result."""
    from lrtune.cli import verbs

    asked = []

    def compare(task, begin, *, evaluate, progress, **settings):
        asked.append((begin, settings))
        return replace(SAMPLES[ComparisonResult]("one-cycle"), warnings=())

    monkeypatch.setattr(verbs, "compare", compare)
    return asked


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """What `lrtune search` gives, without a study; and the page that it writes."""
    out = tmp_path_factory.mktemp("searched") / "report.html"
    runner = CliRunner(env={"COLUMNS": "80"})
    result = runner.invoke(app, ["search", *QUICK, "--no-study", "--out", str(out)])
    return result, out.read_text()


# --- a search


def test_search_prints_one_answer_first_and_then_what_it_rests_on(searched):
    result, page = searched
    assert result.exit_code == 0, result.output
    first, second, *rest = result.stdout.splitlines()
    assert re.fullmatch(r"lr \S+ with trapezoid", first)
    assert second == f"({as_options(PEAK)})"
    titles = [line.split("  ")[0] for line in rest if re.match(r"[A-Z][\w ]+  +", line)]
    assert titles == [
        "Certainty", "Best training", "Retrained", "Cost", "Reason", "Other tasks", "Report"
    ]  # fmt: skip
    assert result.stdout.count("optimizer.step()") == 1, "one snippet"
    assert result.stdout.rstrip().endswith("report.html")
    assert "<html" in page


def test_answers_stay_within_eighty_columns(searched):
    lines = searched[0].stdout.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("# "))
    end = next(n for n, line in enumerate(lines) if line.startswith("Other tasks"))
    lines = [*lines[:begin], *lines[end:-1]]  # the code, and the place of the report, may be wider
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines), "nothing is cut off"


def test_every_rate_that_is_printed_has_its_schedule_beside_it(run, searched):
    said = " ".join((searched[0].stdout + searched[0].stderr).split())
    for command in (["--schedule", "constant"], ["--current", "0.05"]):
        result = run("search", *QUICK, *command)
        assert result.exit_code == 0, result.output
        said += " ".join((result.stdout + result.stderr).split())
    told = re.findall(r"\b[lL]r [\d.e-]*\d(.{12})", said)
    assert len(told) >= 8
    assert [after for after in told if not after.startswith(" with ")] == []


def test_the_plan_comes_before_anything_trains_and_the_time_soon_after(searched):
    plan, held, *later = [line for line in searched[0].stderr.splitlines() if line[:1] != " "]
    assert plan == "At most 4 full trainings of 40 steps. Usually, in full trainings:"
    assert held.startswith("Memory: about 8 runs at once, 182 kB on cpu (23 kB each with gradients")
    assert [line.split()[0] for line in searched[0].stderr.splitlines()[1:4]] == [
        "coarse", "fine", "together"
    ]  # fmt: skip
    assert re.match(r"About \d+ (second|minute)s? to go, at \S+ s per step\.", later[0])
    assert re.match(r"First answer, after \S+ trainings: lr \S+ with trapezoid$", later[1])


def test_the_same_seed_prints_the_same_answer(run, searched):
    (first, page), second = searched, run("search", *QUICK, "--no-study")
    ends = first.stdout.rindex("\n", 0, -1)  # the last line is the place of the report
    assert first.stdout[:ends] == second.stdout[:ends]
    assert page == Path("report.html").read_text()


def test_what_other_tasks_tell_is_said_not_to_be_measured_here(searched):
    said = " ".join(searched[0].stdout.split())
    assert "The final loss of schedules of 40 steps over that of trapezoid" in said
    assert "not measured on yours" in said


def test_json_is_one_object_that_a_report_is_made_of(run):
    result = run("search", *QUICK, "--json")
    answer = json.loads(result.stdout)
    low, high = answer["interval"]
    assert low <= answer["lr"] <= high
    assert (answer["steps"], answer["rate"], answer["stopped"]) == (40, "peak", "budget")
    assert parse(answer["call"]) == SCHEDULES[answer["schedule"]]()
    assert answer["best"]["loss"] > 0
    assert answer["best"]["samples"] < answer["best"]["of"]
    assert f"lr={answer['lr']:g}" in answer["snippet"]
    assert [one["kind"] for one in answer["results"]] == ["search"]
    Path("found.json").write_text(result.stdout)
    again = run("report", "found.json", "--out", "again.html")
    assert again.exit_code == 0, again.output
    assert again.stdout.strip() == "again.html"
    assert run("report", "again.html", "--out", "third.html").exit_code == 0


def test_a_number_that_json_does_not_have_is_none(run):
    Path("own.py").write_text(BROKEN.replace("calls > 30", "False"))
    answer = json.loads(run("search", "own.py", "--steps", "40", "--json").stdout)
    assert answer["best"]["loss"] is None, "without validation data no loss can be stated"
    assert answer["best"]["selected"] > 0


def test_a_constant_rate_is_no_peak(run):
    result = run("search", *QUICK, "--schedule", "constant")
    assert re.fullmatch(r"lr \S+ with constant", result.stdout.splitlines()[0])
    assert "--schedule constant" not in result.stdout


def test_the_rate_only_is_that_of_short_runs(run):
    result = run("search", *QUICK, "--rate-only", "--json")
    assert "fine" not in result.stderr
    found = found_in(result)
    assert set(found["runs"]["stage"]) - {"before"} == {"coarse"}
    assert (found["best"], found["stopped"]) == (None, "rate only")


def test_a_range_test_comes_before_the_search_and_is_printed_after_its_answer(run):
    result = run("search", *QUICK, "--rate-only", "--range-test")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("lr ")
    assert 0 < result.stdout.index("Certainty") < result.stdout.index("Range test")
    kinds = [type(one).kind for one in load("report.html")]
    assert kinds == ["search", "range-test"], "so does the page"
    assert "a range test: 3 sweeps" in result.stderr


def test_the_present_setting_is_the_first_whole_training(run):
    result = run("search", *QUICK, "--current", "0.05", "--current-schedule", "cosine")
    said = " ".join(result.stdout.split())
    assert "your present setting, lr 0.05 with cosine, ended at" in said
    found = found_in(run("search", *QUICK, "--current", "0.05", "--json"))
    stage, schedule = found["runs"]["stage"], found["runs"]["schedule"]
    assert schedule[stage.index("current")] == "constant"
    assert stage.index("current") < stage.index("fine")


def test_a_search_around_a_rate_needs_no_coarse_grid(run):
    found = found_in(run("search", *QUICK, "--around", "0.1", "--budget", "1.1", "--json"))
    assert "coarse" not in found["runs"]["stage"]
    assert found["interval"][0] < 0.1 < found["interval"][1]


def test_the_whole_fine_grid_lifts_the_budget_and_the_plan_says_so(run):
    result = run("search", "--steps", "20", "--device", "cpu", "--fine", "grid", "--json")
    assert result.exit_code == 0, result.output
    assert re.match(r"At most 1\d full trainings", result.stderr), "the default is 4"
    assert found_in(result)["runs"]["stage"].count("fine") >= 10


def test_after_the_time_nothing_is_begun(run):
    found = found_in(run("search", *QUICK, "--time", "0.001s", "--json"))
    assert found["stopped"] == "time"
    assert set(found["runs"]["stage"]) - {"before"} == {"coarse"}, (
        "the first answer stands in any case"
    )


@pytest.mark.parametrize("where", [[], ["--no-study"]], ids=["study", "memory"])
def test_the_best_model_is_saved(run, where):
    result = run("search", *QUICK, "--save", "best.pt", *where)
    assert result.exit_code == 0, result.output
    assert "Saved           best.pt" in result.stdout
    saved = torch.load("best.pt", weights_only=True)
    assert set(saved) == {"model", "optimizer", "scheduler", "ema", "lr", "schedule", "step"}
    answer = json.loads(run("search", *QUICK, "--save", "b.pt", "--json", *where).stdout)
    assert answer["saved"] == "b.pt"
    assert (saved["lr"], saved["step"]) == (answer["best"]["lr"], 40)
    model = SmallCNN()
    model.load_state_dict(saved["model"])


def test_a_model_that_a_study_keeps_is_saved_without_training_again(run):
    assert run("search", *QUICK).exit_code == 0
    result = run("search", *QUICK, "--save", "best.pt")
    assert "trained 0" in result.stderr
    assert Path("best.pt").exists()


def test_a_model_that_cannot_be_saved_costs_no_answer(run, monkeypatch):
    def gone(self):
        raise lrtune.errors.CheckpointError("the weights are gone")

    monkeypatch.setattr(SearchResult, "checkpoint", gone)
    result = run("search", *QUICK, "--save", "best.pt")
    assert result.exit_code == 1
    assert "the weights are gone" in result.stderr
    assert result.stdout.startswith("lr ")
    assert not Path("best.pt").exists()


def test_schedules_are_compared_after_the_search_and_the_comparison_has_the_last_word(
    run, compared
):
    result = run("search", *QUICK, "--schedules", "cosine,one_cycle")
    assert result.exit_code == 0, result.output
    ((begin, settings),) = compared
    assert isinstance(begin, SearchResult)
    assert settings["schedules"] == ["cosine", "one-cycle"]
    assert "a comparison with cosine, one-cycle" in result.stderr
    assert result.stdout.startswith("lr 0.1 with one-cycle\n(peak")
    assert (
        0 < result.stdout.index("Search          lr ") < result.stdout.index("Comparison      lr ")
    )
    assert "Other tasks" not in result.stdout, "the ranking has them"
    answer = json.loads(run("search", *QUICK, "--schedules", "cosine", "--json").stdout)
    assert (answer["lr"], answer["schedule"], answer["interval"]) == (0.1, "one-cycle", None)


def test_where_nothing_learns_there_is_no_answer_but_the_evidence(run):
    Path("dead.py").write_text(DEAD)
    result = run("search", "dead.py", "--steps", "40", "--json")
    assert result.exit_code == 1
    assert "learned" in result.stderr
    assert re.search(r"lr \S+", result.stderr), "the table of rates"
    answer = json.loads(result.stdout)
    assert "lr" not in answer
    assert "learned" in answer["error"]


# --- a comparison


def test_a_comparison_begins_with_the_last_search_of_the_study(run, compared):
    found = found_in(run("search", *QUICK, "--rate-only", "--json"))
    result = run("compare", "--device", "cpu", "--schedules", "step", "--rank-by", "early")
    assert result.exit_code == 0, result.output
    ((begin, settings),) = compared
    assert begin.to_dict() == found
    assert settings["steps"] is None, "the search knows the length"
    assert (settings["seeds"], settings["budget"], settings["rank_by"]) == (3, None, "early")


def test_a_comparison_begins_with_a_file_or_a_rate(run, compared):
    Path("found.json").write_text(a_search().to_json())
    assert run("compare", "--from", "found.json").exit_code == 0
    assert run("report", "found.json", "--out", "found.html").exit_code == 0
    assert run("compare", "--from", "found.html", "--no-study").exit_code == 0
    assert run("compare", "--lr", "0.05", "--steps", "80", "--no-study").exit_code == 0
    (json_, _), (html, _), (rate, settings) = compared
    assert json_.lr == html.lr == 0.02
    assert (rate, settings["steps"]) == (0.05, 80)


# --- the other commands


def test_schedules_are_listed_with_their_shapes(run):
    lines = run("schedules").stdout.splitlines()
    assert any(line.startswith("one-cycle ") and "█" in line for line in lines)
    assert any(line.startswith("reduce-on-plateau ") for line in lines)


def test_range_test_alone(run):
    result = run("range-test", *SWEEP, "--json", "--out", "sweep.html")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["report"] == "sweep.html"
    assert Path("sweep.html").exists()
