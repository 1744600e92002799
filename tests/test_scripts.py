"""The shell scripts say in one sentence why they cannot do their work."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def run(script, folder, programs, **environment):
    """Run a script that finds no programs but those named."""
    folder.mkdir()
    for name, target in programs.items():
        (folder / name).symlink_to(target)
    environment = {"PATH": str(folder)} | environment
    command = [shutil.which("bash"), str(ROOT / script)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_apex_is_refused_without_its_needs(tmp_path):
    python, git = tmp_path / "python", shutil.which("git")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # a link would leave the virtual environment
    python.chmod(0o755)
    cases = [
        ({}, "there is no Python on the path"),
        ({"python": python}, "git is missing"),
        ({"python": python, "git": git}, "nvcc, the CUDA compiler, is not on the path"),
    ]
    if not torch.cuda.is_available():
        cases.append(({"python": python, "git": git, "nvcc": shutil.which("true")}, "PyTorch sees no CUDA GPU"))
    for number, (programs, reason) in enumerate(cases):
        done = run("install_apex.sh", tmp_path / str(number), programs)
        assert done.returncode == 1
        assert done.stderr.startswith("apex cannot be installed here: " + reason)
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("python", ["absent-python", "old-python"])
def test_setup_names_the_python_that_it_needs(tmp_path, python):
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.8.1 && exit 0\nexit 1\n")
    old.chmod(0o755)
    programs = {"dirname": shutil.which("dirname"), "sh": shutil.which("sh"), "old-python": old}
    done = run("example/setup.sh", tmp_path / "bin", programs, PYTHON=python)
    assert done.returncode == 2
    assert "Python 3.11 or newer" in done.stderr
    assert done.stderr.startswith("error: ")
