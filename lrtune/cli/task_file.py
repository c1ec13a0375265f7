"""The task that a command names: `train.py:task` or `package.module:task`.

The named file or module is the only code of the user that lrtune executes.
"""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from lrtune.demo import digits
from lrtune.errors import ArgumentError, TargetError, TaskError, shown
from lrtune.task.checks import resolve_device
from lrtune.task.task import Task


def task_of(target: str | None, device: str | None) -> Task:
    """The task of the command line, on its device; the embedded digits without a target."""
    if device is not None:
        try:
            resolve_device(device)
        except TaskError as error:  # of the command line, not of the task
            raise ArgumentError(str(error)) from None
    if target is None:
        torch.set_num_threads(1)  # with more threads, so small a CNN only gets slower
        return digits(device or "auto")
    task = load_task(target)
    return task if device is None else task.on(device)


def default_study(target: str | None, device: str | None = None) -> str:
    """The name of the study of a task, when no other is given.

    >>> default_study("models/train.py:task"), default_study(None)
    ('models-train-task', 'digits')
    """
    if target is None:
        name = "digits"
    else:
        place, attribute = _split(target)
        path = Path(place.removesuffix(".py"))
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        name = _plain(f"{path}-{attribute}").strip("-") or "task"
    if device not in (None, "auto"):
        name += f"-{_plain(str(device))}"
    if len(name) <= 80:
        return name
    return f"{name[-60:].strip('-')}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _split(target: str) -> tuple[str, str]:
    # A colon among the first two letters belongs to a Windows drive, as in C:\\train.py:task.
    place, _, name = target.partition(":") if ":" not in target[:2] else target.rpartition(":")
    return place, name or "task"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)


def load_task(target: str) -> Task:
    """The task that a target names.

    Args:
        target: `path/to/file.py:name` or `package.module:name`, where `:task` may be omitted. The
            name is that of a `Task`, or of a function without arguments that returns one.

    Raises:
        TargetError: There is no such file, module or name, or it is not a task. Errors of the
            user's own code pass through.
    """
    place, name = _split(target)
    with _as_a_program(place):
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    if not hasattr(module, name):
        names = [each for each in vars(module) if not each.startswith("_")]
        tasks = [each for each in names if isinstance(getattr(module, each), Task)]
        hint = f"It has {', '.join(tasks)}." if tasks else f"Write {name} = lrtune.Task(...) there."
        raise TargetError(f"{place} has no {name!r}; expected a Task of that name. {hint}")
    found = getattr(module, name)
    task, of = found, "is"
    if _is_factory(target, found):
        with _as_a_program(place):
            task, of = found(), "returned"
    if not isinstance(task, Task):
        raise TargetError(
            f"{target} {of} {shown(task)}; expected a Task, or a function that returns one. "
            f"Write {name} = lrtune.Task(model, train_loader, loss=...)."
        )
    return task


@contextmanager
def _as_a_program(place: str) -> Iterator[None]:
    """Let the user's code see no argument of ours, and print to standard error.

    Raises:
        TargetError: It ended the program, with whatever exit code.
    """
    ours, sys.argv = sys.argv, [place]
    try:
        with redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        raise TargetError(
            f"{place} ends the program while it is loaded (SystemExit: {shown(error.code)}); "
            "expected that it runs to its end. It gets no arguments: give those of its own "
            'defaults, and put what is for the script alone under if __name__ == "__main__".'
        ) from error
    finally:
        sys.argv = ours


def _is_factory(target: str, found: object) -> bool:
    """Whether a target is a function to call; raises where that takes arguments."""
    if not callable(found) or isinstance(found, (type, nn.Module)):
        return False
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TargetError(
            f"{target} is a function that cannot be called without arguments ({error}); "
            "expected a Task, or a function that returns one. Give its arguments defaults."
        ) from error
    except ValueError:  # some builtin callables have no signature
        pass
    return True


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = sorted(path.parent.glob("*.py")) if path.parent.is_dir() else []
        there = f" There are {', '.join(each.name for each in near[:5])}." if near else ""
        raise TargetError(f"there is no file {str(path)!r}.{there} Check the path.")
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{str(path)!r} cannot be imported as a Python file. Check its ending.")
    module = importlib.util.module_from_spec(spec)
    # As with `python train.py`: the file can import its neighbours, and the workers of a loader
    # find the module under its name.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise TargetError(
            f"there is no module {name!r} from here. Give a file, as in train.py:task, or a module "
            "that `python -c 'import ...'` finds, as in package.module:task."
        )
    return importlib.import_module(name)
