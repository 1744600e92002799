"""Every wrong call of pre-training: one sentence that names what is wrong, exit code 2, before PyTorch is loaded."""

import subprocess
import sys

import pytest
from small_runs import SCRIPT, options

from hivit_mae.models.models_hivit_mae import MODELS
from hivit_mae.run.options import MODEL_NAMES, parse_options
from saratrx.errors import exit_on_input_error

WRONG = {
    "model": ["mae_vit", ""],
    "input_size": [0, -16, 50, 16, 1_600_000, 10**23, "large"],
    "target": ["mfg", ""],
    "mask_ratio": [0, 1, -0.5, 1.5, "nan", "inf"],
    "init_weights": ["absent.pth"],
    "data_path": ["absent"],
    "max_bad": [-0.1, 1.5, "nan", "inf"],
    "num_workers": [-1, 1.5, 10**30],
    "augment": ["gpu"],
    "batch_size": [0, -4, "many", 10**25],
    "accum_iter": [0],
    "epochs": [0, -3, 1e3],
    "warmup_epochs": [-1, "nan"],
    "blr": [-1e-4, "inf"],
    "lr": [-1, "inf", "-inf", "nan"],
    "min_lr": [-1, "nan"],
    "weight_decay": [-1, "inf"],
    "clip_grad": [0, -1, "nan"],
    "seed": [-1, 10**23, "one"],
    "max_nonfinite": [0],
    "save_every": [0],
    "save_minutes": [-1, "inf"],
    "keep": [-1],
    "image_every": [-1],
    "resume": ["absent.pth"],
    "start_epoch": [-1, 3],
    "eval_data": ["absent"],
    "eval_every": [0, 1.5],
    "eval_shots": [0, -5],
    "eval_crop": [-1, 10**6],
    "amp": ["fp8"],
    "compile_mode": ["fast"],
    "grad_reduce": ["fp16"],
    "bucket_mb": [0, "inf"],
    "hang_seconds": [-1, "nan"],
    "nothing_like_it": [1],
}
CALLS = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CALLS)
def test_a_wrong_value_gets_a_sentence_that_names_the_option(tmp_path, name, value, capsys):
    words = options(tmp_path, tmp_path / "out")
    words += [f"--{name}={value}"]
    with pytest.raises(SystemExit) as ended, exit_on_input_error():
        parse_options(words)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert name in line
    assert not (tmp_path / "out").exists()


def test_a_wrong_option_is_told_without_pytorch(tmp_path):
    code = f"import runpy, sys; sys.argv[1:] = {options(tmp_path, tmp_path / 'out', lr='inf')!r}\n"
    code += f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    code += "finally: print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "False\n")
    assert ended.stderr == "error: --lr inf: must be a finite number\n"


def test_the_named_models_are_those_that_there_are():
    assert tuple(MODELS) == MODEL_NAMES
