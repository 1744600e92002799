"""What is said of published sets is what the manual says, and what is there is counted."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hivit_mae.prepare import recipes
from hivit_mae.prepare.recipes import list_sets, read_recipes
from saratrx.errors import InputError

README = Path(__file__).parents[1] / "README.md"


def test_the_recipes_are_the_table_of_the_manual():
    text = README.read_text(encoding="utf-8")
    table = re.findall(r"^\| ([^|]+) \| (\d{4}) \| (classification|detection) \| ([\d,]+) \| ([^|]+) \|", text, re.M)
    found = [recipe for recipe in read_recipes().values() if recipe.images is not None]
    assert len(table) == 14
    assert sum(recipe.images for recipe in found) == 186_600
    for recipe, (name, year, task, images, size) in zip(found, table, strict=True):
        assert (recipe.name, recipe.images) == (name, int(images.replace(",", "")))
        assert recipe.about.startswith(f"{year}, {task}"), name
        assert f"{size} px" in recipe.about, name
    assert [name for name, recipe in read_recipes().items() if recipe.images is None] == [
        "atrnet-star",
        "sardet-100k",
        "fair-csar",
    ]


def test_what_is_there_is_counted(tmp_path, capsys):
    for name in ("Mstar/Train/a/0.png", "Mstar/Train/a/1.png", "Mstar/Test/a/2.png", "hrsid/images/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / name)
    list_sets(str(tmp_path))
    text = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["MSTAR"] == ["MSTAR", "14,577", "Mstar", "3", "1", "0%"]
    assert lines["HRSID"] == ["HRSID", "5,604", "hrsid", "1", "0%"]
    assert lines["SSDD"][2:] == ["not", "there"]
    assert text.count("licence: ") == 17


def test_a_recipe_with_other_keys_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("name: a\n")
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"a\.yaml: must have the keys about, "):
        read_recipes()
