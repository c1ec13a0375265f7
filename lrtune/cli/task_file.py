"""Targets: `train.py:task` or `package.module:task` to the task that is meant.

The file or module that a user names is the only code that lrtune ever executes.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from lrtune.errors import TargetError
from lrtune.task.task import Task

DEFAULT_NAME = "task"


def load(target: str) -> Task:
    """The task that a target names; `:task` may be left out.

    Args:
        target: `path/to/file.py:name` or `package.module:name`. The name leads to a `Task`, or to
            a function without arguments that returns one.

    Raises:
        TargetError: There is no such file, module or name, or it is no task. What the user's own
            code raises passes through.
    """
    place, _, name = target.partition(":") if ":" not in target[:2] else target.rpartition(":")
    name = name or DEFAULT_NAME
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    if not hasattr(module, name):
        names = [each for each in vars(module) if not each.startswith("_")]
        tasks = [each for each in names if isinstance(getattr(module, each), Task)]
        hint = f"It has {', '.join(tasks)}." if tasks else f"Write {name} = lrtune.Task(...) there."
        raise TargetError(f"{place} has no {name!r}; expected a Task of that name. {hint}")
    found = getattr(module, name)
    task = found if isinstance(found, Task) or not callable(found) else found()
    if not isinstance(task, Task):
        raise TargetError(
            f"{target} is a {type(task).__name__}; expected a Task, or a function that returns "
            f"one. Write {name} = lrtune.Task(model, train_loader, loss=...)."
        )
    return task


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        near = sorted(path.parent.glob("*.py")) if path.parent.is_dir() else []
        there = f"There are {', '.join(each.name for each in near[:5])}." if near else ""
        raise TargetError(f"there is no file {str(path)!r}. {there} Check the path.".strip())
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{str(path)!r} cannot be imported as a Python file. Check its ending.")
    module = importlib.util.module_from_spec(spec)
    # As `python train.py` does: its neighbours can be imported, and loader workers find it again.
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
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
