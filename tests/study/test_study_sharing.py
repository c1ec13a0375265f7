"""Several processes on one study divide the runs of each call, and all have the same answer."""

import itertools
import os
import re
import subprocess
import sys
import threading
from functools import partial

import pytest
from hypothesis import strategies as st
from sqlalchemy import select

from lrtune import Evaluator, Run, compare, range_test, search
from lrtune.cli.session import who_trained
from lrtune.errors import EngineError
from lrtune.schedules import cosine
from lrtune.study import leases, tables
from lrtune.study.catalog import study_location
from lrtune.study.database import Database
from lrtune.study.leases import Request
from lrtune.study.records import StudyRecords
from lrtune.study.study import Study
from lrtune.testing import bowl
from lrtune.training.engine_choice import separable_units
from tests.faults.searching import ended, forked
from tests.planted import without_checkpoints, without_places
from tests.sampling import law
from tests.study.tasks import a_task

RUNS = [Run(f"{lr}/{seed}", lr, cosine(), seed) for seed in (0, 1) for lr in (0.3, 0.1, 0.03)]


def rows(where, table):
    with Database(study_location(where), create=False).read() as link:
        return [dict(row) for row in link.execute(table.select()).mappings()]


def requests(*names, until=5):
    return [[Request(name * 32, until, 0)] for name in names]


@pytest.fixture
def processes(where):
    """The records of a study as several processes have them open."""
    Study(where, bowl())
    return [StudyRecords(Database(study_location(where), create=False), 1, "{}") for _ in range(3)]


def names_of(taken):
    return [one.key[0] for one in taken]


# --- who trains what


def test_one_process_alone_takes_everything(processes):
    one, *_ = processes
    mine, others = one.allocate(requests(*"abcd"))
    assert (names_of(mine), others) == (["a", "b", "c", "d"], [])


def test_a_process_that_waits_gets_its_share_of_the_next_call(processes):
    one, two, _ = processes
    one.allocate(requests(*"abcd"))
    mine, others = two.allocate(requests(*"abcd"))
    assert (mine, len(others)) == ([], 4)
    one.leases.release()  # as when its runs are recorded
    assert names_of(one.allocate(requests(*"efgh"))[0]) == ["e", "f"]
    assert names_of(two.allocate(requests(*"efgh"))[0]) == ["g", "h"]


def test_three_processes_leave_one_another_their_shares(processes):
    one, two, three = processes
    one.allocate(requests("a"))
    two.allocate(requests("a"))
    three.allocate(requests("a"))
    one.leases.release()
    taken = [names_of(each.allocate(requests(*"bcdefg"))[0]) for each in (one, two, three)]
    assert taken[0] == ["b", "c"]
    assert sorted(itertools.chain(*taken)) == [*"bcdefg"]
    assert all(taken)


def test_who_is_between_two_calls_has_a_share_as_well(processes):
    one, two, _ = processes
    one.allocate(requests("a"))
    two.allocate(requests("a"))
    one.leases.release()
    two.allocate(requests("a"))  # it sees nobody, as the other one is between calls
    two.begin_call()
    assert names_of(two.allocate(requests(*"cdef"))[0]) == ["c", "d"]
    two.leases.release()
    assert names_of(two.allocate(requests(*"cdef"))[0]) == [*"cdef"], "nobody came"
    two.begin_call()
    assert names_of(two.allocate(requests(*"efgh"))[0]) == [*"efgh"]


def test_who_trained_a_part_of_a_call_has_a_share_of_the_next(where):
    """Also where neither process was ever seen: both trained, recorded, and were gone."""
    one, two = (Study(where, bowl(4.0)) for _ in range(2))
    one.evaluate([Run("a", 0.1)], 5, stage="s")
    two.evaluate([Run("a", 0.1), Run("b", 0.2)], 5, stage="s")
    asked = []

    def train(runs, steps, **more):
        asked.append([run.name for run in runs])
        return Evaluator(bowl(4.0))(runs, steps, **more)

    wanted = [Run(name, 0.1 + n / 100) for n, name in enumerate("cdef", start=1)]
    for steps in (5, 6):
        two.evaluator(train)(wanted, steps, stage="s")
    assert asked == [["c", "d"], ["e", "f"], [*"cdef"]], "it is expected once"


def test_a_process_goes_on_with_the_runs_that_it_began(processes):
    one, two, _ = processes
    one.allocate(requests("x"))
    two.allocate(requests("x"))
    one.leases.release()
    two.trained += [Request("c" * 32, 5, 0)]
    two.begin_call()
    assert names_of(two.allocate(requests(*"abcd", until=9))[0]) == ["c", "a"]
    assert names_of(one.allocate(requests(*"abcd", until=9))[0]) == ["b", "d"]


@pytest.mark.slow
@law(
    few=5,
    cases=60,
    asked=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=5),
)
def test_no_run_is_leased_twice_and_each_is_leased_in_the_end(tmp_path_factory, asked, sizes):
    where = f"sqlite:///{tmp_path_factory.mktemp('x')}/x.db"
    Study(where, bowl())
    every = [StudyRecords(Database(study_location(where), create=False), 1, "{}") for _ in "abc"]
    names = iter("abcdefghijklmnopq")
    units = [[Request(next(names) * 32, 5, 0) for _ in range(size)] for size in sizes]
    held = [[], [], []]
    for who, ends in asked:
        if ends:
            every[who].leases.release()
            held[who] = []
        elif not held[who]:
            held[who], _ = every[who].allocate(units)
            whole = [unit for unit in units if set(unit) & set(held[who])]
            assert held[who] == [one for unit in whole for one in unit], "units stay whole"
        taken = list(itertools.chain(*held))
        assert len(taken) == len(set(taken))
        with every[0]._database.read() as link:
            keys = set(link.scalars(select(tables.leases.c.key).where(tables.leases.c.until > 0)))
        assert keys == {one.key for one in taken}
    for one in every:
        one.leases.release()
    assert rows(where, tables.leases) == []


def test_the_leases_of_a_process_with_short_calls_show_that_it_lives(processes, monkeypatch):
    """Nobody may take it for dead because none of its calls lasted until a heartbeat."""
    one, two, _ = processes
    monkeypatch.setattr(leases, "_host", lambda: "elsewhere")
    one.allocate(requests("a"))
    monkeypatch.undo()
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for _ in range(4):
        assert len(two.allocate(requests("a"))[1]) == 1
        now[0] += 0.9 * leases.GRACE
        with monkeypatch.context() as patch:
            patch.setattr(leases, "_host", lambda: "elsewhere")
            one.leases.release()
            one.allocate(requests("a"))
    assert len(two.allocate(requests("a"))[1]) == 1
    now[0] += 1.1 * leases.GRACE
    assert two.allocate(requests("a"))[1] == []


# --- runs that are trained apart


def apart(engine):
    """The losses of each run, trained in the least units one after the other."""
    evaluate, found = partial(Evaluator, engine=engine, decide=lambda _name, make: make()), {}
    for unit in separable_units({run: run for run in RUNS}, engine):
        frame = evaluate(a_task())(unit, 12, stage="s").frame
        found |= {run: some["loss"].tolist() for run, some in frame.groupby("run")}
    return found


@pytest.mark.parametrize(("engine", "units"), [("loop", 6), ("vmapped", 2)])
def test_units_that_are_trained_apart_give_the_same_bits(engine, units):
    assert len(separable_units({run: run for run in RUNS}, engine)) == units
    together = Evaluator(a_task(), engine=engine)(RUNS, 12, stage="s").frame
    assert apart(engine) == {run: some["loss"].tolist() for run, some in together.groupby("run")}


def test_where_the_number_of_runs_chooses_the_engine_they_stay_together():
    few = {run: run for run in (*RUNS[:2], *RUNS[3:5])}
    assert separable_units(dict.fromkeys("abcd", RUNS[0]), "auto") == [[*"abcd"]]
    assert separable_units(few, "auto") == [[run] for run in few]  # it is the loop's
    for engine in ("loop", "vmapped", "auto"):
        units = separable_units({run: run for run in RUNS}, engine)
        assert sorted(run.name for unit in units for run in unit) == sorted(r.name for r in RUNS)


# --- the same answer


def test_two_processes_divide_the_runs_of_a_call(where):
    """The first one has all runs of a call that it began alone, and half of those of the next."""
    task, one_at_a_time = a_task(), threading.Lock()
    met, both = threading.Event(), threading.Barrier(2)
    late, early = Study(where, task, say=lambda _: met.set()), Study(where, task)
    trained, answers = {"early": [], "late": []}, {"early": [], "late": []}

    def ask(name, study):
        def train(runs, steps, **more):
            trained[name].append([run.name for run in runs])
            if steps == 9:
                both.wait(60)
            elif name == "early":
                second.start()
                met.wait(60)
            with one_at_a_time:  # threads share the random states
                return inner(runs, steps, **more)

        inner = Evaluator(task)
        evaluate = study.evaluator(train)
        for steps in (6, 9):
            answers[name].append(evaluate(RUNS, steps, stage="s"))

    second = threading.Thread(target=ask, args=("late", late))
    ask("early", early)
    second.join(60)
    names = [run.name for run in RUNS]
    assert trained["early"][0] == names
    assert sorted([*trained["early"][1:], *trained["late"]]) == sorted([names[:3], names[3:]])
    for steps, *traces in zip((6, 9), *answers.values(), strict=True):
        plain = Evaluator(task)(RUNS, steps, stage="s")
        for trace in traces:
            assert trace.frame.equals(plain.frame)
            assert trace.validations.equals(plain.validations)
    told = [(one.trained, one.shared, one.remembered) for one in (early, late)]
    assert told == [(9, 3, 0), (3, 9, 0)]
    assert rows(where, tables.leases) == []


SEARCH = {"steps": 60, "budget": 5.0}


def answers_of(where, engine="loop"):
    """What all verbs answer."""
    task = a_task()
    study = None if where is None else Study(where, task)
    evaluate = None
    if study is not None:
        inner = Evaluator(task, engine=engine, decide=study.decide, checkpoints=study.checkpoints)
        evaluate = study.evaluator(inner, engine)
    sweep = range_test(task, steps=12, seeds=2, evaluate=evaluate)
    found = search(task, **SEARCH, evaluate=evaluate)
    ranked = compare(task, found, schedules=["step"], seeds=2, budget=4, evaluate=evaluate)
    for one in (sweep, found, ranked) if study else ():
        study.record(one)
    return "\n".join(without_checkpoints(one) for one in (sweep, found, ranked))


def by_processes(where, folder, count, engine="loop"):
    """What so many processes answer, started at once on one study."""

    def ask(number):
        return lambda: (folder / f"{number}").write_text(answers_of(where, engine))

    children = [forked(ask(number)) for number in range(count)]
    assert [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children] == [0] * count
    return {(folder / f"{number}").read_text() for number in range(count)}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_all_processes_end_with_the_answer_of_one_alone(where, tmp_path, count):
    plain = answers_of(None)
    assert by_processes(where, tmp_path, count) == {plain}
    kept = rows(where, tables.runs)
    assert len({(row["key"], row["until"], row["validated"]) for row in kept}) == len(kept)
    assert answers_of(where) == plain
    assert rows(where, tables.leases) == []


def test_the_vmapped_engine_gives_them_one_answer_as_well(where, tmp_path):
    plain = answers_of(f"{where}#alone", "vmapped")
    assert by_processes(f"{where}#shared", tmp_path, 2, "vmapped") == {plain}


@pytest.mark.slow
def test_two_commands_print_the_same_answer(tmp_path):
    """As somebody starts them in two terminals."""
    line = [sys.executable, "-m", "lrtune", "search", "--steps", "400", "--study", "both"]
    where = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([*line, "--out", f"{n}.html"], **where) for n in range(2)]
    said = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    alone = subprocess.run([*line[:-1], "alone", "--out", "2.html"], check=True, **where)
    answers = {out.partition("Report")[0] for out, _ in said}
    assert answers == {alone.stdout.partition("Report")[0]}
    pages = {without_places((tmp_path / f"{n}.html").read_text()) for n in range(3)}
    assert len(pages) == 1
    counts = [re.findall(r"trained (\d+)", err) for _, err in said]
    assert any(counts), "the later one says who trained what"


def test_what_a_process_that_died_had_claimed_is_trained_by_another(where):
    """It dies with its claim, and another one that waits for it takes it over."""
    read, write = os.pipe()

    def hangs(*_arguments, **_more):
        os.write(write, b".")
        threading.Event().wait()

    child = forked(lambda: Study(where, a_task()).evaluator(hangs)(RUNS, 9, stage="s"))
    os.read(read, 1)
    claimed = {row["key"] for row in rows(where, tables.leases)}
    said, killed = [], []

    def kill(text):
        said.append(text)
        killed.append(ended(child, 0))

    study = Study(where, a_task(), say=kill)
    trace = study.evaluate(RUNS, 9, stage="s")
    assert len(claimed) == len(RUNS)
    assert trace.frame.equals(Evaluator(a_task())(RUNS, 9, stage="s").frame)
    assert (len(said), study.trained, study.shared) == (1, len(RUNS), 0)
    assert rows(where, tables.leases) == []


def test_an_error_of_one_process_leaves_its_runs_to_the_others(where):
    def breaks(*_arguments, **_more):
        raise EngineError("cannot")

    with pytest.raises(EngineError):
        Study(where, a_task()).evaluator(breaks)(RUNS, 9, stage="s")
    study = Study(where, a_task())
    study.evaluate(RUNS, 9, stage="s")
    assert (study.trained, study.shared) == (len(RUNS), 0)


# --- the last line


ALL = "; the cost counts all of them"


class Counted:
    """What a study counts."""

    def __init__(self, remembered=0, trained=0, shared=0, companions=0, *, known=True):
        self.remembered, self.trained, self.known = remembered, trained, known
        self.shared, self.companions = shared, companions


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (Counted(3, 5, 4, 1), "remembered 3 runs, trained 5; another process trained 4" + ALL),
        (Counted(1, 0, 9, 2), "remembered 1 run, trained 0; 2 other processes trained 9" + ALL),
        (Counted(0, 5, 4, 1, known=False), "remembered 0 runs, trained 5; another process trained 4" + ALL),  # noqa: E501
        (Counted(3, 5), "remembered 3 runs, trained 5; the cost counts both"),
        (Counted(0, 5), "remembered 0 runs, trained 5"),
        (Counted(0, 5, known=False), ""),
        (Counted(), ""),
    ],
)  # fmt: skip
def test_the_last_line_counts_who_trained_what(study, words):
    assert who_trained(study) == words
