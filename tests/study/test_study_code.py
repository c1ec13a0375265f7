"""What the fingerprint sees of code: what it does counts, where and how it stands does not."""

import ast
import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrtune.study.fingerprint import fingerprint
from lrtune.task.value_texts import value_texts
from tests.study.tasks import a_task

PLAIN = """
import functools
from torch.nn import functional as F

SCALE = 0.5

def smooth(outputs, labels, amount=0.1):
    return SCALE * F.cross_entropy(outputs, labels, label_smoothing=amount)

def weighted(weight):
    def loss(outputs, labels):
        return weight * F.cross_entropy(outputs, labels)
    return loss

class Callable:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, outputs, labels):
        return self.weight * F.cross_entropy(outputs, labels)

def logged(inner):
    @functools.wraps(inner)
    def wrapper(*arguments):
        return 2.0 * inner(*arguments)
    return wrapper

class Method:
    factor = 3.0

    def loss(self, outputs, labels):
        return self.factor * F.cross_entropy(outputs, labels)

function = smooth
part = functools.partial(smooth, amount=0.2)
closure = weighted(0.7)
thing = Callable(0.7)
decorated = logged(smooth)
method = Method().loss
short = lambda outputs, labels: F.cross_entropy(outputs, labels) * 0.25
"""
KINDS = ["function", "part", "closure", "thing", "decorated", "method", "short"]
SAME = {
    "another file": lambda code: code,
    "moved down": lambda code: "\n\nimport os\n\ndef other():\n    return 1\n\n" + code,
    "comments": lambda code: re.sub(r"(?m)^( *)return", r"\1# why\n\1return", code) + "  # end\n",
    "blank lines": lambda code: re.sub(r"(?m)^( *)return", r"\n\n\1return", code),
    "formatted": lambda code: ast.unparse(ast.parse(code)),
    "over several lines": lambda code: re.sub(r"cross_entropy\(", "cross_entropy(\n        ", code),
    "docstrings": lambda code: re.sub(r"(?m)^( *)return", r'\1"""Why."""\n\1return', code),
    "annotations": lambda code: (
        code.replace("outputs, labels", "outputs: object, labels: 'int'")
        .replace("(outputs: object, labels: 'int', l", "(outputs, labels, l")
        .replace("y(outputs: object, labels: 'int')", "y(outputs, labels)")
        .replace("lambda outputs: object, labels: 'int'", "lambda outputs, labels")
    ),
    "renamed arguments": lambda code: code.replace("outputs", "given").replace("labels", "wanted"),
    "imports in another order": lambda code: code.replace(
        "import functools\nfrom torch.nn import functional as F",
        "from torch.nn import functional as F\nimport functools",
    ),
    "constants named like attributes": lambda code: code.replace(
        "SCALE = 0.5", "SCALE = 0.5\nweight = factor = cross_entropy = 7"
    ),
}
CHANGES = {
    "function": ["F.cross_entropy(outputs, labels, l", "SCALE = 0.5", "amount=0.1"],
    "part": ["SCALE = 0.5", "amount=0.2"],
    "closure": ["weight * F", "weighted(0.7)"],
    "thing": ["self.weight * F", "Callable(0.7)"],
    "decorated": ["2.0 * inner", "SCALE = 0.5", "amount=0.1"],
    "method": ["self.factor * F"],
    "short": ["* 0.25"],
}
OTHER = {
    "F.cross_entropy(outputs, labels, l": "1.0 * F.cross_entropy(outputs, labels, l",
    "SCALE = 0.5": "SCALE = 0.50001",
    "amount=0.1": "amount=0.10001",
    "amount=0.2": "amount=0.20001",
    "weight * F": "weight * 1.0 * F",
    "weighted(0.7)": "weighted(0.70001)",
    "self.weight * F": "1.0 * self.weight * F",
    "Callable(0.7)": "Callable(0.70001)",
    "2.0 * inner": "2.00001 * inner",
    "self.factor * F": "1.0 * self.factor * F",
    "* 0.25": "* 0.250001",
}


def loss_of(folder, name, code, kind):
    """The loss of that kind in a file with this code."""
    path = Path(folder) / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, kind)


@pytest.mark.parametrize("change", SAME)
@pytest.mark.parametrize("kind", KINDS)
def test_where_and_how_code_stands_refuses_no_study(tmp_path, kind, change):
    before = fingerprint(a_task(loss=loss_of(tmp_path, "train", PLAIN, kind)))
    after = fingerprint(a_task(loss=loss_of(tmp_path, "renamed", SAME[change](PLAIN), kind)))
    assert before.differences(after) == []
    assert before == after


# Pairs of sources of `f`, and whether both do the same.
PAIRS = {
    "a renamed local": (
        "def f(a, b):\n total = a + b\n return total",
        "def f(a, b):\n s: int = a + b  # why\n return s",
        True,
    ),
    "arguments that change places": (
        "def f(a, b): return a - b",
        "def f(b, a): return a - b",
        False,
    ),
    "both change places": ("def f(a, b): return a - b", "def f(b, a): return b - a", True),
    "renamed around it": (
        "def g(w, v):\n def f(x): return w * x + v\n return f\nf = g(2, 3)",
        "def g(v, u):\n def f(x): return v * x + u\n return f\nf = g(2, 3)",
        True,
    ),
    "other values around it": (
        "def g(w, v):\n def f(x): return w * x + v\n return f\nf = g(2, 3)",
        "def g(w, v):\n def f(x): return w * x + v\n return f\nf = g(3, 2)",
        False,
    ),
    "lambdas on one line": (
        "f, g = (lambda x: x + 1), (lambda x: x + 2)",
        "f, g = (lambda y: y + 1), (lambda x: x + 3)",
        True,
    ),
    "another lambda on one line": (
        "f, g = (lambda x: x + 1), (lambda x: x + 2)",
        "f, g = (lambda x: x + 1.0), (lambda x: x + 2)",
        False,
    ),
    "a lambda in a lambda": (
        "f = lambda x: lambda y: x - y",
        "f = lambda y: lambda x: y - x",
        True,
    ),
    "another lambda in a lambda": (
        "f = lambda x: lambda y: x - y",
        "f = lambda x: lambda y: y - x",
        False,
    ),
    "a comprehension": (
        "def f(x): return [v for v in x if v]",
        "def f(x): return [x for x in x if x]",
        True,
    ),
    "a comprehension that hides a name": (
        "def f(x, y): return [v for v in x if y]",
        "def f(x, y): return [y for y in x if y]",
        False,
    ),
    "a global instead of a local": (
        "def f(x): return [v for v in x]",
        "def f(x): return [w for v in x]",
        False,
    ),
    "an argument that can be named": (
        "def f(x, k=2): return x * k",
        "def f(x, j=2): return x * j",
        False,
    ),
    "named arguments that change places": (
        "def f(*, a, b): return a - b",
        "def f(*, b, a): return b - a",
        False,
    ),
    "a default that is read outside": (
        "def f(x, n):\n y = x\n return lambda n=n: y * n",
        "def f(x, n):\n y = x\n return lambda n=y: y * n",
        False,
    ),
    "attributes of a class inside": (
        "def f(x):\n class A:\n  y = x\n return A",
        "def f(x):\n class A:\n  z = x\n return A",
        False,
    ),
    "a global that it sets": (
        "def f(x):\n global q\n q = x",
        "def f(x):\n global r\n r = x",
        False,
    ),
    "another order": ("def f(x): print(x); x.sin_()", "def f(x): x.sin_(); print(x)", False),
    "texts in other quotes": (
        "def f(x): return f'{x:>{3}} a'",
        'def f(y): return f"{y:>{3}} a"',
        True,
    ),
    "another text": ("def f(x): return f'{x:>{3}} a'", "def f(x): return f'{x:>{3}} b'", False),
    "a loop": (
        "def f(x, k):\n for i in range(k):\n  x = x + i\n return x",
        "def f(z, n):\n for j in range(n):\n  z = z + j\n return z",
        True,
    ),
    "another type of number": ("def f(x): return 1 * x", "def f(x): return 1.0 * x", False),
}


@pytest.mark.parametrize("what", PAIRS)
def test_code_is_known_by_what_it_does(tmp_path, what):
    one, two, same = PAIRS[what]
    functions = (loss_of(tmp_path, f"f{n}", code, "f") for n, code in enumerate((one, two)))
    first, second = (list(value_texts(function)) for function in functions)
    assert (first == second) == same


@pytest.mark.parametrize(("kind", "part"), [(k, p) for k, parts in CHANGES.items() for p in parts])
def test_other_code_or_another_number_is_another_task(tmp_path, kind, part):
    """Even where the losses differ by less than the tolerance."""
    assert part in PLAIN
    before = fingerprint(a_task(loss=loss_of(tmp_path, "train", PLAIN, kind)))
    changed = PLAIN.replace(part, OTHER[part])
    after = fingerprint(a_task(loss=loss_of(tmp_path, "train2", changed, kind)))
    (difference,) = before.differences(after)
    assert difference.startswith("loss: ")


@pytest.mark.parametrize("kind", KINDS)
def test_code_without_source_is_known_by_its_numbers_and_its_losses(kind):
    def made(code):
        space = {"__name__": "nowhere"}
        exec(code, space)  # noqa: S102 - as a notebook or a template does
        return fingerprint(a_task(loss=space[kind]))

    before = made(PLAIN)
    assert before == made("\n\n" + PLAIN)
    assert before.differences(made(PLAIN.replace("F.cross", "7.0 * F.cross"))) != []
    for number in re.findall(r"0\.[257]\b", "".join(CHANGES[kind])):
        if number != "0.25":  # a constant inside the code shows in the losses only
            assert before.differences(made(PLAIN.replace(number, number + "0001"))) != []


TIMES = [1]


def test_a_change_of_the_backward_pass_or_the_optimizer_shows_in_the_second_loss():
    class Repeated(torch.optim.SGD):
        """Steps as often as code says that no fingerprint reads."""

        def step(self, closure=None):
            for _ in range(TIMES[0]):
                super().step(closure)

    def taken(times):
        TIMES[0] = times
        return fingerprint(a_task(optimizer=functools.partial(Repeated, momentum=0.9)))

    before, after = taken(1), taken(200)
    assert before.losses[0] == after.losses[0]
    (difference,) = before.differences(after)
    assert "the first updates have the losses" in difference


@pytest.mark.slow
def test_no_text_depends_on_the_process_or_on_the_hashes_of_strings(tmp_path):
    code = (
        "from tests.study.test_study_code import loss_of, PLAIN, KINDS;"
        "from lrtune.task.value_texts import value_texts;"
        "values = [{'b', 'a', 'c'}, frozenset('xyz'), object(), len, lambda: {'p', 'q'}];"
        f"values += [loss_of({str(tmp_path)!r}, 'train', PLAIN, kind) for kind in KINDS];"
        "print([list(value_texts(one)) for one in values])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(seen) == 1
    assert " at 0x" not in seen.pop().replace(" at 0x>", "")


PLAIN_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3).map(tuple), st.dictionaries(st.text(), inside, max_size=3)
    ),
    max_leaves=5,
)


@given(PLAIN_VALUES, PLAIN_VALUES)
def test_texts_tell_values_apart(one, two):
    assert (list(value_texts(one)) == list(value_texts(two))) == (repr(one) == repr(two))


def test_a_cycle_ends():
    cycle = [1]
    cycle.append(cycle)
    assert list(value_texts(cycle)) == ["list of 2", "1"]
