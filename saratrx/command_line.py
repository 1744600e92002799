"""A command line from frozen dataclasses: each field is one option, declared and checked where it is used.

For example:
    @dataclass(frozen=True)
    class Schedule:
        epochs: int = option(300, help="passes over the data")
        lr: float | None = option(None, help="learning rate", default_text="from --blr")

        def __post_init__(self) -> None:
            raise_problems(at_least(1, epochs=self.epochs))

    schedule, output = parse([Schedule, Output], "Pre-train.", sys.argv[1:])

A type says how a value is read: int, float, str, Path; bool for a switch; `X | None` for what need not be given;
`tuple[X, ...]` for one or more values, `tuple[X, X]` for two; `Literal[...]` for a choice. A positional tuple with a
default takes all the words that are left, whatever they look like.
"""

import argparse
import math
import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from saratrx import __version__
from saratrx.errors import InputError, SeveralInputErrors, raise_problems

LARGEST_WHOLE = 2**63 - 1  # what PyTorch and NumPy hold
LONGEST_ERROR = 300  # characters of what a person typed


@dataclass(frozen=True)
class Option:
    """What the command line says of a field, beside its name, type and default; see `option`."""

    help: str
    metavar: str | None
    names: tuple[str, ...]
    off: str | None
    positional: bool
    default_text: str | None
    alone: Any


def option(
    default: Any = MISSING,
    *,
    help: str | None,  # noqa: A002 -- argparse's word
    metavar: str | None = None,
    names: tuple[str, ...] = (),
    off: str | None = None,
    positional: bool = False,
    default_text: str | None = None,
    alone: Any = None,
) -> Any:
    """Declare a field of a dataclass that is an option of a command.

    Args:
        default: its value where it is not given; without one it must be.
        help: what it is for; None hides it.
        metavar: stands for its value in the help.
        names: further spellings, dashes included.
        off: how a switch that is on is turned off (default: `--no-<name>`).
        positional: given by its place, not by a name.
        default_text: what the help says of the default, where that is no plain value.
        alone: its value where the name is given without one; None where it must have one.

    """
    about = Option(argparse.SUPPRESS if help is None else help, metavar, names, off, positional, default_text, alone)
    return field(default=default, metadata={"option": about})


def parse(
    classes: Sequence[type[Any]], description: str, argv: Sequence[str] | None = None, *, hyphens: bool = False
) -> tuple[Any, ...]:
    """Read a command line into an instance of each class; the help has a section for each, titled by its docstring.

    Args:
        classes: frozen dataclasses whose fields are made by `option`; no two have a field of the same name.
        description: what the command does.
        argv: the words after the command's name (default: those of this process).
        hyphens: spell `work_dir` as `--work-dir`, not `--work_dir`.

    Raises:
        InputError: that tells all mistakes that the classes find in their values.
        SystemExit: with code 2, after one sentence on stderr, for words that are no option or value.

    """
    separator = "-" if hyphens else "_"
    parser = Parser(description=description)
    parser.add_argument("--version", action="version", version=f"saratrx {__version__}", help="print it and exit")
    for cls in classes:
        section = parser.add_argument_group((cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".").lower())
        hints = get_type_hints(cls)
        for each in fields(cls):
            add(section, each, hints[each.name], separator)
    given = vars(parser.parse_args(argv))
    made, problems = [], []
    for cls in classes:
        names = [each.name for each in fields(cls)]
        no_numbers = [text for name in names for text in no_number(name.replace("_", separator), given[name])]
        told = tuple(text.partition(" ")[0] + " " for text in no_numbers)
        problems += no_numbers
        try:
            made.append(cls(**{each.name: given[each.name] for each in fields(cls)}))
        except SeveralInputErrors as error:
            problems += [each for each in error.sentences if not each.startswith(told)]
        except InputError as error:
            problems.append(str(error))
    raise_problems(problems)
    return tuple(made)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message.removeprefix('argument ')[:LONGEST_ERROR]}; --help lists the options\n")


def add(section: argparse._ArgumentGroup, each: Field[Any], hint: Any, separator: str) -> None:
    """Add one field to a section of a parser."""
    about: Option = each.metadata["option"]
    name = each.name.replace("_", separator)
    text = about.help if about.help == argparse.SUPPRESS else about.help.replace("%", "%%")
    words: dict[str, Any] = {"help": text, "dest": each.name}
    if each.default is MISSING:
        words["required"] = True
    else:
        words["default"] = each.default
        shown = about.default_text if about.default_text is not None else default_text(each.default)
        if shown and about.help != argparse.SUPPRESS:
            words["help"] += f" (default: {shown})"
    kind = without_none(hint)
    if kind is bool:
        add_switch(section, name, about, words, may_be_none=kind is not hint)
        return
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        words["nargs"] = "+" if parts[1] is Ellipsis else len(parts)
        if about.positional and each.default is not MISSING:
            words["nargs"] = argparse.REMAINDER
        words["action"], kind = AsTuple, parts[0]
        origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        words["choices"] = parts
        kind = type(parts[0])
    words["type"] = kind
    if about.alone is not None:
        words |= {"nargs": "?", "const": about.alone}
    if about.metavar:
        words["metavar"] = about.metavar
    if about.positional:
        del words["dest"]
        words.pop("required", None)
        if each.default is not MISSING and "nargs" not in words:
            words["nargs"] = "?"
        section.add_argument(each.name, **words)
    else:
        section.add_argument(f"--{name}", *about.names, **words)


def add_switch(
    section: argparse._ArgumentGroup, name: str, about: Option, words: dict[str, Any], *, may_be_none: bool
) -> None:
    """Add a switch: `--name` where it is off by default, else `--name` and `--no-name`, or `about.off`."""
    if about.off:
        section.add_argument(f"--{name}", *about.names, action="store_true", **words)
        section.add_argument(about.off, action="store_false", dest=words["dest"], help="do not")
    elif words.get("default") is False and not may_be_none:
        section.add_argument(f"--{name}", *about.names, action="store_true", **words)
    else:
        section.add_argument(f"--{name}", *about.names, action=argparse.BooleanOptionalAction, **words)


class AsTuple(argparse.Action):
    """Stores several values as a tuple."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace, self.dest, tuple(values))


def without_none(hint: Any) -> Any:
    """`X | None` -> X; other types as they are."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0]
    return hint


def no_number(name: str, value: Any) -> list[str]:
    """Say what is wrong with the numbers of an option, if any are NaN, infinite or too large to be meant."""
    numbers = value if isinstance(value, tuple) else (value,)
    problems = []
    for number in numbers:
        if isinstance(number, float) and not math.isfinite(number):
            problems.append(f"--{name} {number}: must be a finite number")
        elif isinstance(number, int) and abs(number) > LARGEST_WHOLE:
            problems.append(f"--{name} {str(number)[:30]}: is too large")
    return problems


def default_text(default: Any) -> str:
    """Say what the help says of a default: nothing of what is empty or off."""
    if isinstance(default, tuple):
        return " ".join(map(str, default))
    if default is True:
        return "on"
    return "" if default is None or default is False or default == "" else str(default)


def at_least(low: float, **values: float | None) -> list[str]:
    """Name the options, given by name and value, that are below `low` or no number; None is nothing to check."""
    said = "must not be negative" if low == 0 else f"must be at least {low:g}"
    return [f"--{name} {value}: {said}" for name, value in values.items() if value is not None and not value >= low]


def between(low: float, high: float, **values: float | None) -> list[str]:
    """Name the options, given by name and value, that lie outside [low, high]; None is nothing to check."""
    return [
        f"--{name} {value}: must be from {low:g} to {high:g}"
        for name, value in values.items()
        if value is not None and not low <= value <= high
    ]


def above_zero(**values: float | None) -> list[str]:
    """Name the options, given by name and value, that are not positive numbers; None is nothing to check."""
    return [
        f"--{name} {value}: must be positive" for name, value in values.items() if value is not None and not value > 0
    ]
