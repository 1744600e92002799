"""Checkpoint files are all that ties the stages: no stage imports another, and what is light stays light."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "saratrx": {"saratrx"},
    "pre-training": {"hivit_mae"},
    "classification": {"hivit_cls", "dassl"},
    "detection": {"hivit_det", "coco_annotations", "mmcv_stand_in"},
}
HEAVY = {"torch", "torchvision", "timm", "mmdet", "mmengine", "mmcv", "hivit_det"}


def imported(path):
    """Top-level names that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def code(folder):
    """The Python files of a folder but for its tests; there are some."""
    paths = [path for path in (ROOT / folder).rglob("*.py") if "tests" not in path.relative_to(ROOT).parts]
    assert paths
    return paths


@pytest.mark.parametrize("folder", PACKAGES)
def test_no_stage_imports_another(folder):
    others = set().union(*PACKAGES.values()) - PACKAGES[folder] - {"saratrx"}
    for path in code(folder):
        assert not imported(path) & others, path


def test_the_packages_are_all_that_there_are():
    for folder, packages in PACKAGES.items():
        where = ROOT if folder == "saratrx" else ROOT / folder
        found = {path.parent.name for path in where.glob("*/__init__.py")}
        assert found == packages, folder


def test_benchmarks_import_no_tests():
    helpers = {path.stem for path in ROOT.glob("**/tests/*.py") if ".venv" not in path.parts}
    for path in code("benchmarks"):
        assert not imported(path) & (helpers | {"pytest"}), path


def test_annotation_tools_import_no_pytorch():
    for path in code("detection/coco_annotations"):
        assert not imported(path) & HEAVY, path
