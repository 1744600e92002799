"""What needs no PyTorch does not import it; who needs the encoders has them all the same."""

import subprocess
import sys

import pytest

import saratrx


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_errors_files_and_command_lines_import_no_pytorch():
    modules = "saratrx.errors, saratrx.files, saratrx.command_line, saratrx.reporting, saratrx.sar_image"
    heavy = "'torch', 'timm', 'torchvision', 'mmdet', 'mmengine', 'matplotlib', 'scipy', 'sklearn'"
    assert run(f"import sys, {modules}; print([name for name in ({heavy}) if name in sys.modules])") == "[]"


@pytest.mark.parametrize("order", ["saratrx, timm", "timm, saratrx"])
def test_timm_knows_the_encoders_whichever_is_imported_first(order):
    assert (
        run(f"import {order}; print(type(timm.create_model('hivit_micro_patch16_224')).__name__)") == "HiViTClassifier"
    )


def test_the_encoders_can_be_had_from_the_package():
    assert saratrx.hivit.SIZES["base"]["embed_dim"] == 512
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        print(saratrx.nothing)
