"""The radar chart of example/: what is shown of the figures, and files that it must refuse."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fig_radarmap
from saratrx.errors import InputError

SHIPPED = Path(fig_radarmap.__file__).with_name("radarmap.json")


def figure_of(value, protocol="plain"):
    return {"value": value, "source": "a paper", "protocol": protocol}


@pytest.fixture
def content():
    """Two models on four axes: one is not measured on b, and on c by another protocol; of the other only a is known."""
    return {
        "axes": [{"name": name, "protocol": "plain"} for name in "abcd"],
        "series": [
            {
                "name": "first model", "short": "first",
                "figures": {"a": figure_of(10), "b": None, "c": figure_of(30.5, "odd"), "d": figure_of(100)},
            },
            {"name": "second model", "short": "second", "figures": {"a": figure_of(0)} | dict.fromkeys("bcd")},
        ],
    }  # fmt: skip


def written(folder, content):
    path = folder / "figures.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_what_is_not_measured_stays_open_and_another_protocol_hollow(tmp_path, content):
    figure = fig_radarmap.draw(fig_radarmap.read(written(tmp_path, content)))
    [chart] = figure.axes
    first, second = (line.get_ydata() for line in chart.lines[::2])
    np.testing.assert_array_equal(first, [10, np.nan, 30.5, 100, 10])
    np.testing.assert_array_equal(second, [0, np.nan, np.nan, np.nan, 0])
    faces = chart.collections[0].get_facecolors()
    assert faces[2].tolist() == [1, 1, 1, 1]
    assert faces[0].tolist() == faces[3].tolist() == chart.collections[0].get_edgecolors()[0].tolist()
    told = {text.get_text(): text for text in chart.texts}
    assert {"a", "b", "c", "d", "not measured: first, second", "not measured: second"} == told.keys()
    assert told["not measured: second"].get_color() == "0.45"


def test_the_legend_and_the_names_lie_beside_the_data(tmp_path):
    figure = fig_radarmap.draw(fig_radarmap.read(SHIPPED))
    figure.savefig(tmp_path / "chart.png")
    [chart] = figure.axes
    circle = chart.patch.get_window_extent()
    [legend] = figure.legends
    boxes = [text.get_window_extent() for text in chart.texts]
    assert not any(box.overlaps(legend.get_window_extent()) for box in [circle, *boxes])
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height for box in boxes)
    assert not any(one.overlaps(other) for one in boxes for other in boxes if one is not other)


def test_the_shipped_figures_are_drawn_wherever_the_script_is_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fig_radarmap.py", "--output", "chart.png"])
    runpy.run_path(fig_radarmap.__file__, run_name="__main__")
    assert capsys.readouterr().out == "wrote chart.png\n"
    with Image.open(tmp_path / "chart.png") as image:
        assert min(image.size) > 900
        assert len(np.unique(np.asarray(image.convert("L")))) > 50
    series = json.loads(SHIPPED.read_text())["series"]
    assert [one["name"] for one in series][::3] == ["SARATR-X (published)", "this code, shipped weights"]
    assert fig_radarmap.Options().output == SHIPPED.with_name("fig_radarmap.png")
    assert fig_radarmap.Options().data == SHIPPED


def damaged(content, *place, value):
    """The content as JSON with another value at a place."""
    content = json.loads(json.dumps(content))
    found = content
    for key in place[:-1]:
        found = found[key]
    found[place[-1]] = value
    return json.dumps(content)


def test_a_bad_file_gets_a_sentence(tmp_path, content):
    figures = ("series", 0, "figures")
    wrong = {
        "no JSON": ("{", "figures.json cannot be read as JSON"),
        "deep": ("[" * 200_000, "figures.json cannot be read as JSON"),
        "a list": ("[]", 'needs "axes", a list of objects'),
        "no series": (damaged(content, "series", value=[]), "needs 3 axes or more, and 1 to 6 series"),
        "series of text": (damaged(content, "series", value=["x"]), 'needs "series", a list of objects'),
        "no protocol": (damaged(content, "axes", 0, "protocol", value=""), "each of the axes needs name and protocol"),
        "no short name": (damaged(content, "series", 1, "short", value=3), "each of the series needs name and short"),
        "twice": (damaged(content, "axes", 1, "name", value="a"), "two of the axes have one name"),
        "an axis less": (
            damaged(content, *figures, value={"a": None}),
            "first model needs a figure, or null, for each",
        ),
        "a bare number": (damaged(content, *figures, "a", value=50), "first model, a: needs a value from 0 to 100"),
        "too large": (damaged(content, *figures, "d", "value", value=101), "first model, d: needs a value from 0"),
        "NaN": (damaged(content, *figures, "d", "value", value=float("nan")), "first model, d: needs a value from 0"),
        "true": (damaged(content, *figures, "a", "value", value=True), "first model, a: needs a value from 0 to 100"),
        "no source": (damaged(content, *figures, "a", "source", value=None), "first model, a: needs its source, in"),
    }
    for name, (text, sentence) in wrong.items():
        with pytest.raises(InputError, match=sentence):
            fig_radarmap.read(written(tmp_path, text))
            pytest.fail(name)
    with pytest.raises(InputError, match=r"none.json cannot be read as JSON: No such file"):
        fig_radarmap.read(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bytes.json cannot be read as JSON"):
        fig_radarmap.read(tmp_path / "bytes.json")


def test_a_bad_call_writes_nothing_and_ends_with_code_2(tmp_path, content, monkeypatch, capsys):
    good, out = written(tmp_path, content), tmp_path / "chart.png"
    for words, sentence in (
        (["--data", str(tmp_path / "none.json"), "--output", str(out)], "none.json cannot be read as JSON"),
        (["--data", str(good), "--output", str(good / "x.png")], "x.png cannot be written: Not a directory"),
    ):
        monkeypatch.setattr(sys, "argv", ["fig_radarmap.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(fig_radarmap.__file__, run_name="__main__")
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert sentence in told
        assert told.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
