"""Data sets and trainers that users add: every file in `datasets/` and `trainers/` beside train.py is imported.

They are imported by where they lie, in packages `user_datasets` and `user_trainers`: a folder named `datasets` on
Python's path would stand in the way of Hugging Face's package of that name.
"""

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from yacs.config import CfgNode

from saratrx.errors import InputError, first_line
from saratrx.files import visible

FOLDERS = ("datasets", "trainers")


def import_plugins(stage: Path) -> list[Callable[[CfgNode], None]]:
    """Import what users have put beside train.py, in the order of the names; each file once per process.

    A data set or trainer replaces one of this stage's with the same name.

    Args:
        stage: folder of train.py.

    Returns:
        The functions `extend_cfg(cfg)` in these files, which add keys of their own to the config, such as TRAINER.COOP.

    Raises:
        InputError: naming the file that cannot be imported.

    """
    extensions = []
    for name in FOLDERS:
        folder, package = stage / name, f"user_{name}"
        files = [file for file in visible([path.name for path in folder.glob("*.py")]) if file != "__init__.py"]
        if not files:
            continue
        if (folder / "__init__.py").is_file():
            import_file(folder / "__init__.py", package)
        else:
            sys.modules.setdefault(package, ModuleType(package)).__path__ = [str(folder)]  # for relative imports
        for file in files:
            module = import_file(folder / file, f"{package}.{Path(file).stem}")
            if hasattr(module, "extend_cfg"):
                extensions.append(module.extend_cfg)
    return extensions


def import_file(path: Path, name: str) -> ModuleType:
    """Import a file as a module, unless it was.

    Raises:
        InputError: naming the file, if that fails.

    """
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported: it is no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever users' code raises
        del sys.modules[name]
        raise InputError(f"{path} cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    return module
