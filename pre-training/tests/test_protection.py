"""A run keeps what it has, keeps others out of its folder, and never calls itself done where it is not."""

import runpy
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from processes import Run
from small_runs import SCRIPT, losses, options, run_here

from hivit_mae.data.loading import check_shared_memory
from hivit_mae.run.run_log import drop_lines_after
from saratrx.errors import InputError


def as_script(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["main_pretrain.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return ended.value.code


def test_ctrl_c_saves_the_state_and_a_second_run_waits_its_turn(images, started, tmp_path):
    arguments = options(images, tmp_path / "out", epochs=2000, num_workers=0)
    first = started(Run(arguments, {}))
    first.wait_for("epoch 1/2000 done")
    with pytest.raises(InputError, match=rf"--output_dir .*out is in use by process {first.pid} on "):
        run_here(arguments)
    first.send_signal(signal.SIGINT)
    assert first.ended() == 130
    assert first.text.splitlines()[-1].startswith("SIGINT came: stopped after step ")
    assert "Traceback" not in first.text
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert any(name.endswith(".pth") for name in names)
    assert ".run.lock" not in names


@pytest.mark.parametrize("seconds", [0.5, 1.2])
def test_ctrl_c_while_libraries_are_imported_is_one_line(images, tmp_path, seconds):
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *options(images, tmp_path / "out")], stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "interrupted: what was finished is kept\n")


def test_a_run_that_skipped_most_of_its_steps_does_not_end_well(images, tmp_path, monkeypatch, capsys):
    changes = {"lr": 1e30, "warmup_epochs": 0, "max_nonfinite": 100}
    assert as_script(monkeypatch, options(images, tmp_path / "out", **changes)) == 1
    assert "of 10 steps were skipped, since their loss was not finite" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_written(images, tmp_path, monkeypatch, capsys):
    step = torch.optim.AdamW.step

    def spoil(self, closure=None):
        result = step(self, closure)
        self.param_groups[0]["params"][0].data.fill_(float("nan"))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    assert as_script(monkeypatch, options(images, tmp_path / "out", epochs=1, max_nonfinite=100)) == 1
    assert "the weights are not finite any more" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.pth"))


def test_a_log_folder_that_cannot_be_written_to_is_told_before_training(images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--log_dir .*file cannot be made: a file of that name is there"):
        run_here(options(images, tmp_path / "out", log_dir=tmp_path / "file"))


def test_a_run_goes_on_with_the_same_images_wherever_they_are(images, tmp_path):
    shutil.copytree(images, tmp_path / "a")
    run_here(options(tmp_path / "a", tmp_path / "out", epochs=1))
    (tmp_path / "a").rename(tmp_path / "b")
    run_here(options(tmp_path / "b", tmp_path / "out", epochs=2, resume="auto"))
    assert list(losses(tmp_path / "out")) == [1, 2]
    (tmp_path / "b" / "class0" / "00.png").rename(tmp_path / "b" / "class0" / "other.png")
    with pytest.raises(InputError, match=r"checkpoint-2.pth is of a run with another list of images"):
        run_here(options(tmp_path / "b", tmp_path / "out", epochs=3, resume="auto"))


def test_a_bad_byte_in_the_log_does_not_stop_a_run(tmp_path):
    whole = b'{"epoch": 1, "train_loss": 2.0}\n'
    (tmp_path / "log.txt").write_bytes(whole + b'{"epoch": 2, "train\xff\n' + b"[" * 100_000 + b"\n")
    drop_lines_after(tmp_path / "log.txt", 2)
    assert (tmp_path / "log.txt").read_bytes() == whole


def test_too_little_shared_memory_is_told_before_workers_die_of_it(tmp_path):
    check_shared_memory(0, str(tmp_path))
    check_shared_memory(1000, str(tmp_path))
    with pytest.raises(InputError, match=r"MB free, and .* need 1000000000000.0 MB: .*--shm-size.*--num_workers 0"):
        check_shared_memory(10**18, str(tmp_path))


def test_a_missing_package_is_named(tmp_path):
    code = f"import runpy, sys; sys.argv[1:] = {options(tmp_path, tmp_path / 'out')!r}\n"
    code += f"sys.modules['torch'] = None; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: torch is not installed: pip install -r requirements_pretrain.txt")
