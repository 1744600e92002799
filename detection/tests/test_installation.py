"""An installation whose parts do not fit is explained in one sentence."""

import pkgutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from detection_tools import run_here

import coco_annotations.installation
from coco_annotations.installation import InstallationError
from hivit_det import installation

STAGE = Path(__file__).parents[1]
CONFIG = STAGE / "configs/_hivit_/hivit_tiny_simulated.py"
INSTALL = f"pip install -r {STAGE.parent / 'requirements_detection.txt'}"


def test_this_installation_is_fine():
    installation.check_packages()
    coco_annotations.installation.check_imports("mmdet.models")


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(
        coco_annotations.installation, "find_spec", lambda name: None if name in ("mmcv", "mmdet") else name
    )
    with pytest.raises(InstallationError) as raised:
        installation.check_packages()
    assert str(raised.value) == f"mmcv, mmdet not installed: {INSTALL}"


def test_packages_that_overwrite_each_other(monkeypatch):
    installed = packages_distributions() | {"mmcv": ["onedl-mmcv", "mmcv"]}
    monkeypatch.setattr(installation, "packages_distributions", lambda: installed)
    sentence = r"^mmcv and onedl-mmcv are both installed.*: pip uninstall -y mmcv onedl-mmcv, then pip install -r "
    with pytest.raises(InstallationError, match=sentence):
        installation.check_packages()


@pytest.mark.parametrize("requirement", ["torch (==2.13.0)", "torch==2.13.0", 'torch ==2.13.0; python_version > "3"'])
def test_torchvision_of_another_torch(monkeypatch, requirement):
    monkeypatch.setattr(installation, "requires", lambda name: ["numpy", requirement, "torch-other==1"])
    with pytest.raises(InstallationError, match=r"needs torch 2.13.0, and torch 2\S+ is installed: pip install -r"):
        installation.check_packages()


def test_a_tool_says_what_does_not_import(tmp_path):
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet/__init__.py").write_text("assert False, 'MMCV==1.0 is used but incompatible.\\nMore.'")
    command = [sys.executable, STAGE / "tools/train.py", CONFIG]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: mmdet.models cannot be imported (MMCV==1.0 is used but incompatible); "
        f"its packages do not fit together: {INSTALL}"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("hivit_det", ["tools/train.py", CONFIG]),
        ("hivit_det", ["tools/test.py", CONFIG, CONFIG]),
        ("hivit_det", ["huge_image_infer.py", CONFIG, CONFIG, CONFIG]),
        ("coco_annotations", ["huge_image_infer.py", "--help"]),
        ("coco_annotations", ["tools/train.py", "--help"]),
        ("coco_annotations", ["tools/test.py", "--help"]),
        ("coco_annotations", ["tools/check_coco.py", "--help"]),
        ("coco_annotations", ["tools/voc2coco.py", "--help"]),
    ],
)
def test_a_tool_says_how_to_install_the_project(monkeypatch, package, command):
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as after an update, before it is installed again
    done = run_here(*command)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {package} is not installed: pip install -r requirements_detection.txt, from the top of the project\n"
    )


def test_what_looks_at_annotations_needs_no_pytorch():
    names = [f"coco_annotations.{module.name}" for module in pkgutil.iter_modules(coco_annotations.__path__)]
    assert {"coco_annotations.hold_out", "coco_annotations.voc", "coco_annotations.coco_check"} <= set(names)
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "timm", "mmengine", "mmcv", "mmdet", "hivit_det"}
