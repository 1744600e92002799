"""An installation whose parts do not fit is explained in one sentence."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from hivit_det import installation
from saratrx.errors import InputError

STAGE = Path(__file__).parents[1]
INSTALL = f"pip install -r {STAGE.parent / 'requirements_detection.txt'}"


def test_this_installation_is_fine():
    installation.check_packages()
    installation.check_imports("mmdet.models")


def test_missing_and_doubled_packages(monkeypatch):
    installed = dict(metadata.packages_distributions())
    monkeypatch.setattr(installation, "packages_distributions", lambda: installed)
    installed["mmcv"] = ["onedl-mmcv", "mmcv"]
    with pytest.raises(
        InputError, match=r"^mmcv and onedl-mmcv are both installed.*pip uninstall -y mmcv onedl-mmcv, then"
    ):
        installation.check_packages()
    del installed["mmcv"], installed["mmdet"]
    with pytest.raises(InputError) as raised:
        installation.check_packages()
    assert str(raised.value) == f"mmcv, mmdet not installed: {INSTALL}"


def test_torchvision_of_another_torch(monkeypatch):
    monkeypatch.setattr(installation, "requires", lambda name: ["numpy", "torch (==2.13.0)"])
    with pytest.raises(InputError, match=r"needs torch==2.13.0, and torch 2\S+ is installed: pip install -r"):
        installation.check_packages()


def test_a_tool_says_what_does_not_import(tmp_path):
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet/__init__.py").write_text("assert False, 'MMCV==1.0 is used but incompatible.\\nMore.'")
    command = [sys.executable, STAGE / "tools/train.py", "config.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: mmdet.models cannot be imported (MMCV==1.0 is used but incompatible); "
        f"its packages do not fit together: {INSTALL}"
    )
    assert "Traceback" not in done.stderr
