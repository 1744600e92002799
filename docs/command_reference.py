"""Print the page of all commands, made of their scripts' texts and of the options' declarations.

    python docs/command_reference.py > commands.md

Each script is run up to the point where it would read its command line: nothing is computed, and no GPU is needed.
"""

import argparse
import ast
import inspect
import runpy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from saratrx import command_line
from saratrx.command_line import Option, default_text, without_none
from saratrx.console import COMMANDS, TOP

BELOW = {"data": ("list", "build", "audit")}  # commands of a command
FILES = {"DIR": "folder", "FILE": "file", "PATH": "path"}
KINDS = {int: "whole number", float: "number", str: "text", Path: "path", bool: "switch"}
CHECKS = {"between": "{} to {}", "at_least": "at least {}", "above_zero": "above 0"}
INTRODUCTION = """# Commands

Made of the options' declarations. Every command also has `--help` and `--version`. What a value must be beyond what
stands here, an error says in one sentence, before anything is computed.
"""


@dataclass
class Declared(BaseException):  # which no script catches
    """What a script declares of its command line."""

    classes: Sequence[type[Any]]
    hyphens: bool


def path_of(script: str) -> Path:
    """Find the file of a command: a path below the top of the project, or a module."""
    return TOP / (script if script.endswith(".py") else f"{script.replace('.', '/')}.py")


def declared(script: Path, *words: str) -> Declared:
    """Run a script with words until it reads its command line."""
    sys.argv = [str(script), *words]
    sys.path.insert(0, str(script.parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Declared as what:
        return what
    finally:
        del sys.path[0]
    raise AssertionError(f"{script} reads no command line")


def parse(classes: Sequence[type[Any]], _: str, __: object = None, *, hyphens: bool = False) -> NoReturn:
    """Stand in for command_line.parse."""
    raise Declared(classes, hyphens)


def parse_args(_: command_line.Parser) -> NoReturn:
    """Stand in for a parser without options of its own."""
    raise Declared((), hyphens=False)


def ranges(cls: type[Any]) -> dict[str, str]:
    """Say in which range the numbers of a class must lie, as its calls of command_line's checks do."""
    post_init = vars(cls).get("__post_init__")
    if post_init is None:
        return {}
    said: dict[str, str] = {}
    for call in ast.walk(ast.parse(dedent(inspect.getsource(post_init)))):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CHECKS):
            continue
        text = CHECKS[call.func.id].format(*(bound(each, post_init.__globals__) for each in call.args))
        names = [str(each.arg) for each in call.keywords]
        said = said | dict.fromkeys(names, text) if len(call.args) > 1 else dict.fromkeys(names, text) | said
    return said


def bound(expression: ast.expr, names: dict[str, Any]) -> str:
    """Give the value of a bound, or how it follows from other options."""
    text = ast.unparse(expression)
    return text.replace("self.", "") if "self" in text else f"{eval(text, names):,}"  # of the project's own code


def row(each: Field[Any], hint: Any, separator: str, span: str | None) -> list[str]:
    """Give the cells of an option: name, values, default, help."""
    about: Option = each.metadata["option"]
    kind = without_none(hint)
    many = get_origin(kind) is tuple
    parts = get_args(kind)
    one = parts[0] if many else kind
    if get_origin(one) is Literal:
        values = ", ".join(f"`{value}`" for value in get_args(one))
    else:
        values = FILES.get(about.metavar or "", KINDS[one]) + (f", {span}" if span else "")
    if many:
        values += "; several" if parts[1] is Ellipsis else f"; {len(parts)} of them"
    name = each.name.replace("_", separator)
    names = [about.metavar or each.name] if about.positional else [f"--{name}", *about.names]
    if kind is bool and (about.off or each.default is not False or kind is not hint):
        names.append(about.off or f"--no-{name}")
    if about.default_text is not None:
        default = about.default_text
    elif each.default is MISSING:
        default = "**must be given**"
    else:
        default = "off" if each.default is False else default_text(each.default)
    return [", ".join(f"`{name}`" for name in names), values, default, about.help]


def section(cls: type[Any], separator: str) -> Iterator[str]:
    """Set the options of a class as a table."""
    hints, spans = get_type_hints(cls), ranges(cls)
    yield f"\n**{(cls.__doc__ or cls.__name__).splitlines()[0].rstrip('.')}**\n"
    yield "| option | value | default | what for |"
    yield "|---|---|---|---|"
    for each in fields(cls):
        cells = row(each, hints[each.name], separator, spans.get(each.name))
        if cells[-1] != argparse.SUPPRESS:
            yield "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


def page() -> Iterator[str]:
    """Give the lines of the page."""
    yield INTRODUCTION
    for name, command in COMMANDS.items():
        script = path_of(command.script)
        text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        first, _, rest = text.partition("\n")
        yield f"\n## saratrx {name}\n\n{first}\n\n```text\n{dedent(rest.strip(chr(10)))}\n```"
        for below in BELOW.get(name, ("",)):
            if below:
                yield f"\n### saratrx {name} {below}"
            found = declared(script, *below.split())
            for cls in found.classes:
                yield from section(cls, "-" if found.hyphens else "_")


if __name__ == "__main__":
    command_line.parse = parse  # type: ignore[assignment]  # before any script imports it
    command_line.Parser.parse_args = parse_args  # type: ignore[method-assign, assignment]
    print("\n".join(page()))
