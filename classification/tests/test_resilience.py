"""Full disks, interrupts, lost processes and second runs: one sentence, and nothing that was finished is lost."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_sets import STAGE, options, vehicles

import parse_test_res
import train
from hivit_cls import feature_bank
from hivit_cls.results import read_metric
from saratrx.errors import InputError
from saratrx.files import WholeFile

FLAGS = ["--seeds", "0", "--shots", "2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return vehicles(tmp_path_factory.mktemp("data"), train=5, test=3)


def arguments(root, output, checkpoint, *opts, flags=FLAGS):
    return options(root, output, "MODEL.INIT_WEIGHTS", checkpoint, *opts, flags=flags)


def fill_disk_at(monkeypatch, number):
    """Let the disk be full when the `number`-th file is written (from 0); gives the list of those written before."""
    written, write = [], WholeFile.write

    def limited(self, data):
        if self.file.name not in written:
            if len(written) == number:
                self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise self.error
            written.append(self.file.name)
        return write(self, data)

    monkeypatch.setattr(WholeFile, "write", limited)
    return written


def test_a_disk_that_is_full_at_any_file(root, tmp_path, checkpoint, monkeypatch, capsys):
    """What is there is whole; the run counts as finished only where all is written, and is else done again."""
    train.main(arguments(root, tmp_path / "whole", checkpoint))
    folder = "MSTAR_EOC1/MIM_linear/vit_t16_2shots/seed0"
    exact = read_metric(tmp_path / "whole" / folder)
    number, seen = 0, set()
    while True:
        output = tmp_path / str(number)
        with monkeypatch.context() as patch:
            written = fill_disk_at(patch, number)
            try:
                train.main(arguments(root, output, checkpoint))
                break
            except InputError as error:
                assert "cannot be written: No space left on device" in str(error)
                seen.add(Path(str(error).partition(" cannot be written")[0]).name)
        assert len(written) == number
        assert not list(output.rglob("*.tmp"))
        is_finished = read_metric(output / folder) is not None
        assert is_finished == ("MIM_linear_accuracy.png" in seen)  # the table's picture comes when all runs are done
        train.main(arguments(root, output, checkpoint))
        assert read_metric(output / folder) == exact
        number += 1
    names = {"settings.yaml", "recipe.json", "results.json", "confusion.png", "mistakes.png", "features.png"}
    assert names | {"model.pth.tar-3", "MIM_linear_accuracy.png"} <= seen
    assert any(len(name) == 64 + len(".safetensors") for name in seen)  # the bank's


def test_a_log_that_cannot_be_written(root, tmp_path, checkpoint, undrawn):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"log.txt cannot be written: No space left on device"):
        train.main(arguments(root, tmp_path, checkpoint, flags=["--seed", 0]))
    assert read_metric(tmp_path) is None


def test_tables_on_a_full_disk(root, tmp_path, checkpoint, monkeypatch, undrawn):
    train.main(arguments(root, tmp_path, checkpoint))
    experiment = tmp_path / "MSTAR_EOC1/MIM_linear/vit_t16_2shots"
    (tmp_path / "t.md").write_text("old")
    fill_disk_at(monkeypatch, 0)
    for option in ("--markdown", "--csv"):
        with pytest.raises(InputError, match=r"t.md cannot be written: No space left on device"):
            parse_test_res.main([str(experiment), option, str(tmp_path / "t.md")])
    assert (tmp_path / "t.md").read_text() == "old"


def test_tensorboard_on_a_full_disk(root, tmp_path, checkpoint, monkeypatch, undrawn):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    with pytest.raises(InputError, match=r"seed0 cannot be written: No space left on device"):
        train.main(arguments(root, tmp_path, checkpoint))


def test_folders_that_are_read_only(root, tmp_path, checkpoint, undrawn):
    """Noticed before anything is computed, by a file that stands where a folder should (root may write anywhere)."""
    (tmp_path / "out").touch()
    for flags in (["--seed", 0], FLAGS):
        with pytest.raises(InputError, match=r"--output-dir .*out.* cannot be (made|written to)"):
            train.main(arguments(root, tmp_path / "out", checkpoint, flags=flags))
    with pytest.raises(InputError, match=r"out.* cannot be made"):
        train.main(arguments(root, tmp_path / "o", checkpoint, "FEATURE_BANK_DIR", tmp_path / "out"))


def start(root, output, checkpoint, *opts, flags=FLAGS):
    command = [sys.executable, str(STAGE / "train.py"), *arguments(root, output, checkpoint, *opts, flags=flags)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def wait_for(has_come):
    for _ in range(600):
        if has_come():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come")


def test_an_interrupted_table_and_a_second_one_in_its_folder(root, tmp_path, checkpoint, capsys):
    """Ctrl-C in the middle of training: one line, exit code 130; meanwhile the folder is not another's."""
    run = start(root, tmp_path, checkpoint, "OPTIM.MAX_EPOCH", 100000)
    folder = tmp_path / "MSTAR_EOC1/MIM_linear/vit_t16_2shots/seed0"
    wait_for((folder / "tensorboard").exists)
    with pytest.raises(InputError, match=r"--output-dir .*seed0 is in use by process \d+ on"):
        train.main(arguments(root, tmp_path, checkpoint, "OPTIM.MAX_EPOCH", 100000))
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, "interrupted: what was finished is kept\n")
    assert "Traceback" not in out
    assert read_metric(folder) is None


def test_an_interrupt_at_the_start(root, tmp_path, checkpoint):
    """While PyTorch is imported, which takes most of the time of a short run."""
    run = start(root, tmp_path, checkpoint)
    wait_for(lambda: "libtorch" in Path(f"/proc/{run.pid}/maps").read_text())
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, "interrupted: what was finished is kept\n")


def test_a_loader_process_that_dies(root, tmp_path, checkpoint, monkeypatch, undrawn):
    killer = os.getpid()

    def die(*_):
        if os.getpid() != killer:
            os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("read in the main process")

    monkeypatch.setattr("dassl.data.data_manager.read_image", die)
    opts = ("FEATURE_BANK", False, "DATALOADER.NUM_WORKERS", 1)
    with pytest.raises(
        InputError, match=r"a loader process was lost .*/dev/shm .*--shm-size 2g.*NUM_WORKERS 0"
    ) as caught:
        train.main(arguments(root, tmp_path, checkpoint, *opts, flags=["--seed", 0]))
    assert "\n" not in str(caught.value)


def test_features_that_are_not_finite_end_the_run(root, tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("hivit_cls.encoder.Classifier.pool", lambda self, images: images.flatten(1)[:, :32] / 0)
    with pytest.raises(FloatingPointError, match="features are not finite"):
        train.main(options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, trainer="kNN", flags=["--seed", 0]))
    assert read_metric(tmp_path) is None


def test_progress_is_short_on_the_terminal_and_whole_in_the_log(
    root, tmp_path, checkpoint, capsys, monkeypatch, undrawn
):
    train.main(arguments(root, tmp_path / "a", checkpoint, "OPTIM.MAX_EPOCH", 30, flags=["--seed", 0]))
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("epoch")] == ["[30/30]"]
    assert (tmp_path / "a/log.txt").read_text().count("epoch [") == 30
    assert out.endswith(f"wrote {tmp_path}/a/results.json; next: python parse_test_res.py {tmp_path}\n")
    monkeypatch.setattr("dassl.utils.progress.SECONDS", 0.0)
    monkeypatch.setattr(feature_bank, "WORTH_WORKERS", 10**9)
    opts = ("DATALOADER.TEST.BATCH_SIZE", 5, "OPTIM.MAX_EPOCH", 2)
    train.main(arguments(root, tmp_path / "b", checkpoint, *opts))
    out = capsys.readouterr().out
    assert "features: 42% of 12 images, " in out or "features: 33% of 12 images, " in out
    table = tmp_path / "b/MSTAR_EOC1/MIM_linear"
    assert out.endswith(f"wrote {table}; next: python parse_test_res.py {table} --multi-exp --markdown table.md\n")


def test_a_run_is_tested_with_its_own_settings(root, tmp_path, checkpoint, capsys, undrawn):
    """Of a command line there need be no more than the folder; what is given besides and differs is told."""
    opts = ("OPTIM.LR", 0.01, "DATASET.NUM_SHOTS", 3)
    train.main(arguments(root, tmp_path / "a", checkpoint, *opts, flags=["--seed", 5]))
    words = [
        "--eval-only",
        "--model-dir",
        str(tmp_path / "a"),
        "--output-dir",
        str(tmp_path / "b"),
        "USE_CUDA",
        "False",
    ]
    capsys.readouterr()
    train.main(words)
    assert "trained with other settings" not in capsys.readouterr().out
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    assert first["confusion"] == second["confusion"]
    assert first["settings"] == second["settings"]
    train.main([*words, "DATASET.NUM_SHOTS", "2"])
    out = capsys.readouterr().out
    assert f"warning: the model in {tmp_path}/a was trained with other settings: DATASET.NUM_SHOTS 3 (now 2)\n" in out


def test_a_test_without_a_model_goes_on_with_a_note(root, tmp_path, checkpoint, capsys, undrawn):
    """Trainers of vision-language models are tested that way, as they are built."""
    train.main(arguments(root, tmp_path, checkpoint, flags=["--seed", 0, "--eval-only"]))
    assert "note: no --model-dir was given: the model is tested as it was built" in capsys.readouterr().out
    assert not json.loads((tmp_path / "results.json").read_text())["trained"]
    assert read_metric(tmp_path) is None
