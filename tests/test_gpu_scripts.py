"""Benchmarks for machines with a GPU and little else: what they need and leave behind, and how runs are chained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
# stands in for Python: says its words, is "trained" until it is told to end
echo "$@"
echo "epoch 1/9  step 20/40  loss 0.9  10.0 images/s  waiting"
echo "epoch 1/9  step 40/40  loss 0.8  30.0 images/s  waiting"
echo "epoch 2/9  step 20/40  loss 0.7  20.0 images/s  waiting"
trap 'kill $!; exit 75' TERM
[ "$CODE" = wait ] || exit "$CODE"
sleep 60 > /dev/null 2>&1 &
wait
"""


@pytest.fixture
def train(tmp_path):
    """Run gpu_train.sh with the stand-in."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.txt").write_text('{"train_loss": 0.95, "epoch": 1}\n{"train_loss": 0.85, "epoch": 2}\n')

    def run(*words, **environment):
        environment = os.environ | {"PYTHON": str(tmp_path / "python")} | environment
        command = [shutil.which("bash"), str(ROOT / "benchmarks/gpu_train.sh"), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    return run


def test_a_chained_run_is_stopped_in_time_and_says_what_to_call_next(train, tmp_path):
    done = train(tmp_path / "chips", tmp_path / "out", "--batch_size", "8", CODE="wait", DURATION="1")
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    words = (
        f"{ROOT}/pre-training/main_pretrain.py --data_path {tmp_path}/chips --output_dir {tmp_path}/out --resume auto"
    )
    assert told[0].startswith(words)
    assert told[0].endswith("--batch_size 8")  # the last word, which counts
    assert told[-3:-1] == [
        "images/s: 20.0, the median of 3 lines",
        'last whole epoch: {"train_loss": 0.85, "epoch": 2}',
    ]
    assert told[-1] == f"the state is saved; next: the same command again, with {tmp_path}/out as it is now"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 2), (1, 1), (143, 1)])
def test_the_exit_code_of_a_chained_run_says_whether_its_state_is_there(train, tmp_path, code, expected):
    done = train(tmp_path / "chips", tmp_path / "out", CODE=str(code))
    assert done.returncode == expected
    assert ("the run is done" in done.stdout) == (code == 0)
    assert ("set DURATION to more" in done.stderr) == (code == 143)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("timm", "error: No module named 'timm"), ("", "error: PyTorch sees no CUDA GPU here")],
)
def test_the_suite_looks_at_what_it_needs_before_it_measures(tmp_path, missing, sentence):
    """A Python without a package, or without a GPU; never with WebDataset, OpenCV and TensorBoard."""
    names = [name for name in ("webdataset", "cv2", "tensorboard", "rasterio", missing) if name]
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules |= dict.fromkeys({names})\n")
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"RESULTS": str(tmp_path / "results"), "DEVICE": "cuda"}
    command = [shutil.which("bash"), str(ROOT / "benchmarks/gpu_suite.sh"), "trial"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_what_was_measured_stays_where_a_part_is_cut_off(tmp_path, monkeypatch):
    """The main figure first, then the comparison, which is cut off here."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pretrain  # noqa: PLC0415 -- a script

    asked = []

    def report(work, made, batch, *_):
        asked.append((work, batch))
        if len(work) > 1:
            raise KeyboardInterrupt
        return {work[0]: {"images_per_second": 5.0}}

    monkeypatch.setattr(pretrain, "report", report)
    monkeypatch.setattr(pretrain, "matrix_rate", lambda *_: 1.0)
    monkeypatch.setattr(pretrain, "floating_point_operations", lambda size: 1)
    words = ["--device", "cpu", "--batch_size", "256", "64", "--forms", "published", "bf16", "--json"]
    monkeypatch.setattr(sys, "argv", ["pretrain.py", *words, str(tmp_path / "step.json")])
    with pytest.raises(KeyboardInterrupt):
        pretrain.main()
    assert asked == [(["bf16"], 256), (["published", "bf16"], 256)]
    assert json.loads((tmp_path / "step.json").read_text())["step of 256"] == {"bf16": {"images_per_second": 5.0}}


def test_float64_which_gpus_and_cpus_are_slow_at_is_computed_for_one_image(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pretrain  # noqa: PLC0415 -- a script

    seen = []

    class Recording(pretrain.DenseGradientFeature):
        def forward(self, images):
            seen.append(images.shape)
            return super().forward(images)

    monkeypatch.setattr(pretrain, "DenseGradientFeature", Recording)
    features = {}
    pretrain.report_errors(features, pretrain.torch.device("cpu"))
    assert seen == [(1, 1, 224, 224)] * 2  # in float64, and the published features
    assert all(0 < figures["error"] < 1e-4 for figures in features.values())
    assert "integral features" in capsys.readouterr().out
