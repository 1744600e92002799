"""Checkpoint files are all that ties the stages: no stage imports another, and the shared package imports none."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("pre-training", "classification", "detection")


def own_modules(folder):
    """Top-level names that a stage puts on the path: its modules and packages."""
    return {p.stem for p in (ROOT / folder).iterdir() if (p.suffix == ".py" or p.is_dir()) and p.name != "tests"}


def imported(path):
    """Top-level names that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("folder", ["saratrx", *STAGES])
def test_no_stage_imports_another(folder):
    others = set().union(*(own_modules(stage) for stage in STAGES if stage != folder)) - own_modules(folder)
    for path in (ROOT / folder).rglob("*.py"):
        assert not imported(path) & others, path
