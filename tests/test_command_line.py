"""Options from dataclasses: every type, every spelling, and all mistakes told together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from saratrx.command_line import above_zero, at_least, option, parse
from saratrx.errors import InputError, exit_on_input_error, raise_problems


@dataclass(frozen=True)
class Data:
    """Data."""

    images: tuple[str, ...] = option(help="folders", metavar="DIR")
    mode: Literal["fast", "slow"] = option("fast", help="how")
    pin: bool = option(True, help="pin memory", off="--no_pin")
    norm: bool = option(True, help="normalise")
    quick: bool = option(False, help="100 % speed")
    build: bool | None = option(None, help="compile", default_text="on a GPU")
    hidden: int = option(3, help=None)


@dataclass(frozen=True)
class Training:
    """Training and output. More is not shown."""

    lr: float | None = option(None, help="rate")
    epochs: int = option(5, help="passes", names=("--rounds",))
    out_dir: Path = option(Path("out"), help="where to")
    shape: tuple[int, int] = option((4, 5), help="size")
    resume: str | None = option(None, help="go on", alone="auto")

    def __post_init__(self) -> None:
        raise_problems(at_least(1, epochs=self.epochs) + at_least(0, lr=self.lr) + above_zero(height=self.shape[0]))


@dataclass(frozen=True)
class Places:
    """Arguments."""

    config: Path = option(help="config", positional=True)
    rest: tuple[str, ...] = option((), help="the rest", positional=True, metavar="KEY VALUE")


def test_defaults():
    data, training = parse([Data, Training], "Test.", ["--images", "a", "b"])
    assert data == Data(("a", "b"))
    assert (data.pin, data.norm, data.quick, data.build, data.hidden) == (True, True, False, None, 3)
    assert training == Training(None, 5, Path("out"), (4, 5), None)


def test_every_kind_of_value():
    words = ["--images", "a", "--mode", "slow", "--no_pin", "--no-norm", "--quick", "--no-build", "--hidden", "4"]
    words += ["--lr", "1e-3", "--rounds", "2", "--out_dir", "x/y", "--shape", "1", "2"]
    data, training = parse([Data, Training], "Test.", words)
    assert data == Data(("a",), "slow", False, False, True, False, 4)
    assert training == Training(1e-3, 2, Path("x/y"), (1, 2))
    assert parse([Training], "Test.", ["--resume", "--epochs", "2"])[0].resume == "auto"
    assert parse([Training], "Test.", ["--resume", "x.pth"])[0].resume == "x.pth"
    [training] = parse([Training], "Test.", ["--out-dir", "z"], hyphens=True)
    assert training.out_dir == Path("z")


def test_positional_arguments_and_the_rest():
    [places] = parse([Places], "Test.", ["c.py", "A.B", "--1", "x"])
    assert places == Places(Path("c.py"), ("A.B", "--1", "x"))
    assert parse([Places], "Test.", ["c.py"]) == (Places(Path("c.py"), ()),)


def test_all_mistakes_are_told_together(capsys):
    with pytest.raises(SystemExit) as ended, exit_on_input_error():
        parse([Data, Training], "Test.", ["--images", "a", "--lr", "-1", "--epochs", "0", "--shape", "0", "1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --epochs 0: must be at least 1",
        "error: --lr -1.0: must not be negative",
        "error: --height 0: must be positive",
    ]


@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(InputError, match="--lr"):
        parse([Training], "Test.", [f"--lr={value}"])


@pytest.mark.parametrize("words", [[], ["--images", "a", "--mode", "odd"], ["--images", "a", "--hidden", "x"]])
def test_the_parser_refuses_the_rest_with_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([Data], "Test.", words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_shows_defaults_but_nothing_of_none(capsys):
    with pytest.raises(SystemExit):
        parse([Data, Training], "Test.", ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "None" not in shown
    assert "hidden" not in shown
    for text in ("how (default: fast)", "compile (default: on a GPU)", "pin memory (default: on)", "100 % speed",
                 "size (default: 4 5)", "training and output. more", "--no_pin", "--norm, --no-norm"):  # fmt: skip
        assert text in shown
