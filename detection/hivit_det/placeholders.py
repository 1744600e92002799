"""MMDetection's modules that were imported before the stand-in for MMCV's operators, as in `import mmdet` first."""

import importlib
import sys


def replace_placeholders() -> None:
    """Give them the operators that they did without.

    Where MMCV's operators do not import, such a module defines functions and classes of their names, which only raise.
    """
    operators = importlib.import_module("mmcv.ops")
    for name, module in list(sys.modules.items()):
        if name.startswith("mmdet."):
            for word, value in list(vars(module).items()):
                is_own = getattr(value, "__module__", None) == name
                if is_own and hasattr(operators, word) and "requires mmcv to be compiled" in texts_in(value):
                    setattr(module, word, getattr(operators, word))


def texts_in(value: object) -> str:
    """Texts in a function, or in the constructor of a class."""
    function = value.__init__ if isinstance(value, type) else value  # type: ignore[misc]  # of a class, whichever it is
    code = getattr(function, "__code__", None)
    return " ".join(word for word in code.co_consts if isinstance(word, str)) if code else ""
