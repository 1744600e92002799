"""Wrong calls of the benchmarks and examples: one sentence, exit code 2, nothing written; `--help` is exit code 0."""

import contextlib
import io
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parents[1]
HUGE = "1" + "0" * 25
SCRIPTS = {  # and the words without which none of them does anything; {there} is an empty folder
    "benchmarks/fewshot.py": ["{there}/a.pth", "{there}"],
    "benchmarks/cpu_inference.py": ["{there}", "{there}"],
    "benchmarks/loader.py": [],
    "benchmarks/loss_curves.py": ["{there}"],
    "benchmarks/memory.py": [],
    "benchmarks/partial_labels.py": ["{there}/new"],
    "benchmarks/pretrain.py": [],
    "benchmarks/reconstruction.py": ["{there}/a.pth", "{there}"],
    "benchmarks/scaling.py": [],
    "benchmarks/shared_cores.py": [],
    "benchmarks/shipped_weights.py": ["{there}", "{there}/new"],
    "benchmarks/speckle_drift.py": ["{there}"],
    "benchmarks/survival.py": [],
    "benchmarks/targets.py": ["{there}", "{there}/new"],
    "benchmarks/turned_set.py": ["{there}/a.pth", "{there}", "{there}/new"],
    "example/simulate.py": ["--output_dir", "{there}/new"],
    "example/fig_found.py": [
        "--truth",
        "{there}/a.pth",
        "--images",
        "{there}",
        "--found",
        "{there}",
        "--names",
        "a",
        "--output",
        "{there}/new.png",
    ],
    "example/fig_radarmap.py": ["--output", "{there}/new.png"],
    "example/report.py": ["{there}"],
}
WRONG = [  # script, words, and a part of the sentence
    ("benchmarks/fewshot.py", "{there}/none.pth {there}", "none.pth: no such file"),
    ("benchmarks/fewshot.py", "{there}/a.pth {there}/none", "none: no such folder"),
    ("benchmarks/fewshot.py", "{there}/a.pth {there} --cfg vit_x", "--cfg vit_x: there is no"),
    ("benchmarks/fewshot.py", "{there}/a.pth {there} --seeds 0-99999999999", "--seeds 0-99999999999: too many"),
    ("benchmarks/fewshot.py", "{there}/a.pth {there} --plain_epochs 1", "--plain_epochs: invalid choice"),
    ("benchmarks/fewshot.py", "", "the following arguments are required"),
    ("benchmarks/turned_set.py", "{there}/none.json {there} {there}/new", "none.json cannot be read"),
    ("benchmarks/turned_set.py", "{there}/a.pth {there} {there}/new", "a.pth"),
    ("benchmarks/cpu_inference.py", "{there} {there}", "is no folder of saratrx.export"),
    ("benchmarks/cpu_inference.py", "{there} {there} --rounds 0", "--rounds 0: must be from 1"),
    ("benchmarks/loader.py", "--data_path {there}/none", "none: no such folder"),
    ("benchmarks/loader.py", "--data_path {there} --rounds 1", "no image in it"),
    ("benchmarks/loader.py", "--input_size 50", "--input_size 50: must be a multiple of 16"),
    ("benchmarks/loader.py", "--num_workers -1", "--num_workers -1: must be from 0 to 256"),
    ("benchmarks/loader.py", "--batch_size 0", "--batch_size 0: must be from 1"),
    ("benchmarks/loader.py", f"--chips {HUGE}", "--chips 1000000000"),
    ("benchmarks/loader.py", "--device gpu", "--device gpu: no such kind of device"),
    ("benchmarks/loader.py", "--json {there}", "is a folder; name a file"),
    ("benchmarks/loader.py", "--json {there}/a.pth/b.json", "--json"),
    ("benchmarks/loss_curves.py", "{there} --lr nan", "--lr nan: must be a positive number"),
    ("benchmarks/loss_curves.py", "{there} --lr inf", "--lr inf: must be a positive number"),
    ("benchmarks/loss_curves.py", "{there} --lr -1", "--lr -1.0: must be a positive number"),
    ("benchmarks/loss_curves.py", f"{{there}} --seed {HUGE}", "--seed 1000000000"),
    ("benchmarks/loss_curves.py", "{there} --steps -5", "--steps -5: must be from 1"),
    ("benchmarks/loss_curves.py", "{there} --figure {there}/a.pth/x.png", "--figure"),
    ("benchmarks/loss_curves.py", "{there} --model x", "--model: invalid choice"),
    ("benchmarks/targets.py", "{there} {there}/new", "no folder TRAIN in it"),
    ("benchmarks/targets.py", "{there}/none {there}/new", "none: no such folder"),
    ("benchmarks/shipped_weights.py", "{there}/none {there}/new", "none: no such folder"),
    ("benchmarks/shipped_weights.py", "{there} {there}/new", "MSTAR_SOC/TRAIN: no such folder"),
    ("benchmarks/targets.py", "{there} {there}/new --targets x", "--targets: invalid choice"),
    ("benchmarks/targets.py", "{there} {there}/new --draws 11", "--draws 11: must be from 1 to 10"),
    ("benchmarks/memory.py", "--steps 0", "--steps 0: must be from 1"),
    ("benchmarks/memory.py", "--chips many", "--chips: invalid int value"),
    ("benchmarks/partial_labels.py", "{there}/new --strips 0 1", "--strips 0: must be from 1"),
    ("benchmarks/partial_labels.py", "{there}/a.pth/new", "cannot be written"),
    ("benchmarks/pretrain.py", "--batch_size 8 1000000", "--batch_size 1000000: must be from 1 to 16384"),
    ("benchmarks/pretrain.py", "--rounds 0", "--rounds 0: must be from 1"),
    ("benchmarks/pretrain.py", "--size huge", "--size: invalid choice"),
    ("benchmarks/pretrain.py", "--forms fp8", "--forms: invalid choice"),
    ("benchmarks/reconstruction.py", "{there}/a.pth {there}", "is torn or not a checkpoint"),
    ("benchmarks/reconstruction.py", "{there}/a.pth {there} --images 0", "--images 0: must be from 1"),
    ("benchmarks/scaling.py", "--processes 0", "--processes 0: must be from 1 to 256"),
    ("benchmarks/scaling.py", "--bucket_mb nan", "--bucket_mb nan: must be a positive number"),
    ("benchmarks/shared_cores.py", "--seconds 0", "--seconds 0.0: must be a positive number"),
    ("benchmarks/shared_cores.py", "--seconds nan", "--seconds nan: must be a positive number"),
    ("benchmarks/shared_cores.py", "--json {there}", "is a folder; name a file"),
    ("benchmarks/scaling.py", "--amp fp8", "--amp: invalid choice"),
    ("benchmarks/speckle_drift.py", "", "the following arguments are required"),
    ("benchmarks/speckle_drift.py", "{there}/none", "none: no such folder"),
    ("benchmarks/speckle_drift.py", "{there}", "no image in it"),
    ("benchmarks/speckle_drift.py", "{there} --sigma 0.1 nan", "--sigma nan: must be a positive number"),
    ("benchmarks/speckle_drift.py", "{there} --images 0", "--images 0: must be from 1"),
    ("benchmarks/speckle_drift.py", "{there} --input_size 50", "--input_size 50: must be a multiple of 16"),
    ("benchmarks/speckle_drift.py", "{there} --checkpoint {there}/none.pth", "none.pth: no such file"),
    ("benchmarks/survival.py", "--trials 0", "--trials 0: must be from 1"),
    ("benchmarks/survival.py", "--seed -1", "--seed -1: must not be negative"),
    ("benchmarks/survival.py", "--stages sleeping", "--stages: invalid choice"),
    ("benchmarks/survival.py", "--processes 3", "--processes: invalid choice"),
    ("example/simulate.py", "", "required: --output_dir"),
    ("example/simulate.py", "--output_dir {there}/new --looks 1000000000000", "--looks 1000000000000: must be from 1"),
    ("example/simulate.py", "--output_dir {there}/new --looks 0", "--looks 0: must be from 1"),
    ("example/simulate.py", "--output_dir {there}/new --looks nan", "--looks: invalid int value"),
    ("example/simulate.py", "--output_dir {there}/new --looks inf", "--looks: invalid int value"),
    ("example/simulate.py", "--output_dir {there}/new --chips 4", "--chips: expected 2 arguments"),
    ("example/simulate.py", "--output_dir {there}/new --chips 4 -1", "--chips -1: must be from 0"),
    ("example/simulate.py", f"--output_dir {{there}}/new --scenes {HUGE} 1", "--scenes 1000000000"),
    ("example/simulate.py", f"--output_dir {{there}}/new --seed {HUGE}", "--seed 1000000000"),
    ("example/report.py", "{there}/none", "none: no such folder"),
    ("example/report.py", "{there}", "table.tsv cannot be read as a table"),
    ("example/simulate.py", "--output_dir {there}/a.pth", "a file of that name is there"),
    ("example/simulate.py", "--output_dir {there}/a.pth/x", "cannot be made"),
    ("example/simulate.py", "--output_dir /proc", "--output_dir /proc cannot be written to"),
]


@pytest.fixture
def there(tmp_path):
    (tmp_path / "a.pth").touch()
    return tmp_path


def run_here(script, words, monkeypatch):
    """Run a script in this process; gives its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with (
        patch.object(sys, "argv", [script, *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return ended.value.code, out.getvalue(), err.getvalue()


def refused(code, err, reason=""):
    return code == 2 and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 500 and reason in err


@pytest.mark.parametrize(("script", "words", "reason"), WRONG)
def test_a_wrong_call_is_told_in_a_sentence(script, words, reason, there, monkeypatch):
    before = sorted(there.rglob("*"))
    code, out, err = run_here(script, [word.replace("{there}", str(there)) for word in words.split()], monkeypatch)
    assert refused(code, err, reason), err
    assert out == ""
    assert sorted(there.rglob("*")) == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_options_and_help(script, there, monkeypatch):
    needed = [word.replace("{there}", str(there)) for word in SCRIPTS[script]]
    code, _, err = run_here(script, [*needed, "--no_such_option", "5"], monkeypatch)
    assert refused(code, err, "--no_such_option"), err
    code, out, err = run_here(script, ["--help"], monkeypatch)
    assert code == 0
    assert out.startswith("usage: ")
    assert err == ""


@pytest.mark.parametrize(
    "script",
    ["example/quickstart.sh", "example/setup.sh", "benchmarks/gpu_suite.sh", "benchmarks/gpu_train.sh"],
)
def test_shell_scripts(script, tmp_path):
    def run(*words):
        command = [shutil.which("bash"), str(ROOT / script), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)

    for word in ("--help", "-h"):
        done = run(word)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: bash {script}")
    wrong = [["--no-such-option"]]
    if "quickstart" in script:
        (tmp_path / "file").touch()
        wrong += [["a", "b"], ["--fast", "a", "b"], ["file"], ["file/below"], ["/proc/new"]]
    if "train" in script:
        wrong += [[], ["only_images"]]
    for words in wrong:
        done = run(*words)
        assert refused(done.returncode, done.stderr), done.stderr
        assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == (["file"] if "quickstart" in script else [])


def test_all_scripts_are_tried():
    paths = [path for folder in ("benchmarks", "example") for path in (ROOT / folder).glob("*.py")]
    modules = {"benchmarks/machine.py", "benchmarks/supervised.py", "example/radar.py", "example/scatterers.py"}
    modules |= {"example/demo.py", "example/demo_sections.py"}  # which are in test_demo.py
    # large_scene.py takes its options as all benchmarks do, but brings MMDetection
    assert {str(path.relative_to(ROOT)) for path in paths} - modules - {"benchmarks/large_scene.py"} == SCRIPTS.keys()
