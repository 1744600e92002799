import errno
import json
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hivit_mae.cluster.distributed import Processes
from hivit_mae.run import training_state
from hivit_mae.run.run_log import RunLog, drop_lines_after
from hivit_mae.run.training_state import Checkpoints, Progress, TrainingState
from saratrx.checkpoint import load_checkpoint, save_checkpoint
from saratrx.errors import InputError

ALONE = Processes(0, 1, torch.device("cpu"))


def new_state(epoch=0, step=0):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(torch.rand(2)).sum().backward()  # other moments each time
    optimizer.step()
    progress = Progress(epoch, step, images_a_step=8, loss_sums=[[1.5, 3.0]] if step else [])
    return TrainingState(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), progress)


def save(folder, *places, keep=0):
    for epoch, step in places:
        Checkpoints(folder, keep, epochs=20).save(new_state(epoch, step))


def names(folder):
    return [path.stem.removeprefix("checkpoint-") for path in Checkpoints(folder).existing()]


def test_the_newest_epochs_are_kept_by_number(tmp_path):
    save(tmp_path, (8, 0), (9, 0), (10, 0), (11, 0), keep=2)
    (tmp_path / "checkpoint-best.pth").touch()
    assert names(tmp_path) == ["11", "10"]
    hashes = sorted(path.name for path in tmp_path.glob("*.sha256"))
    assert hashes == ["checkpoint-10.pth.sha256", "checkpoint-11.pth.sha256"]
    state = new_state()
    assert Checkpoints(tmp_path).restore("auto", state, ALONE).name == "checkpoint-11.pth"
    assert state.progress == Progress(11, 0, 8)


def test_of_the_middle_of_an_epoch_two_are_kept_until_the_run_is_done(tmp_path):
    save(tmp_path, (2, 0), (2, 5), (2, 10), (2, 100))
    assert names(tmp_path) == ["2-100", "2-10", "2"]
    save(tmp_path, (3, 0))
    assert names(tmp_path) == ["3", "2-100", "2-10", "2"]
    save(tmp_path, (3, 5), keep=1)
    assert names(tmp_path) == ["3-5", "3", "2-100"]
    save(tmp_path, (20, 0))
    assert names(tmp_path) == ["20", "3"]


@pytest.mark.parametrize("fault", ["cut", "one byte", "weights only", "another model", "another optimizer", "no zip"])
def test_a_torn_or_foreign_file_is_skipped_for_the_one_before(tmp_path, capsys, fault):
    save(tmp_path, (1, 0), (1, 7), (2, 0))
    newest = tmp_path / "checkpoint-2.pth"
    content = load_checkpoint(newest)
    if fault == "cut":
        newest.write_bytes(newest.read_bytes()[:100])
    elif fault == "one byte":
        changed = bytearray(newest.read_bytes())
        changed[len(changed) // 2] ^= 1
        newest.write_bytes(changed)
    elif fault == "weights only":
        save_checkpoint(newest, model=content["model"])
    elif fault == "another model":
        save_checkpoint(newest, **content | {"model": torch.nn.Linear(3, 2).state_dict()})
    elif fault == "another optimizer":
        other = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(other.parameters())
        other(torch.rand(3)).sum().backward()
        optimizer.step()
        save_checkpoint(newest, **content | {"optimizer": optimizer.state_dict()})
    else:
        (tmp_path / "checkpoint-2.pth.sha256").unlink()
        newest.write_text("hello")
    state = new_state()
    assert Checkpoints(tmp_path).restore("auto", state, ALONE).name == "checkpoint-1-7.pth"
    assert state.progress == Progress(1, 7, 8, [[1.5, 3.0]])
    assert "checkpoint-2.pth" in capsys.readouterr().out


def test_auto_without_a_checkpoint_is_a_new_run(tmp_path):
    assert Checkpoints(tmp_path).restore("auto", new_state(), ALONE) is None
    assert Checkpoints(tmp_path).restore("", new_state(), ALONE) is None


def test_a_new_run_does_not_mix_with_an_old_one(tmp_path):
    save(tmp_path, (3, 0))
    with pytest.raises(InputError, match=r"checkpoint-3.pth is there already: continue that run with --resume auto"):
        Checkpoints(tmp_path).restore("", new_state(), ALONE)


def test_everything_is_restored(tmp_path):
    saved, fresh = new_state(3, 4), new_state()
    saved.progress.lr_factor, saved.progress.skipped = 0.5, 7
    Checkpoints(tmp_path, epochs=20).save(saved)
    Checkpoints(tmp_path).restore("auto", fresh, ALONE)
    assert fresh.progress == saved.progress
    for key, value in saved.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[key])
    for old, new in zip(saved.optimizer.state.values(), fresh.optimizer.state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_a_file_that_does_not_say_how_adamw_ran_goes_on_fused(tmp_path):
    state = new_state()
    Checkpoints(tmp_path, epochs=20).save(state)
    content = load_checkpoint(tmp_path / "checkpoint-0.pth")
    for group in content["optimizer"]["param_groups"]:
        del group["fused"]
    for moments in content["optimizer"]["state"].values():
        moments["step"] = int(moments["step"])
    training_state.restore(tmp_path / "checkpoint-0.pth", content, state)
    assert all(group["fused"] for group in state.optimizer.param_groups)
    assert all(moments["step"].device == state.model.weight.device for moments in state.optimizer.state.values())


def test_a_step_of_another_size_repeats_images_rather_than_leave_some_out():
    progress = Progress(2, 7, images_a_step=8)
    progress.count_in(8)
    assert (progress.step, progress.images_a_step) == (7, 8)
    progress.count_in(16)
    assert (progress.step, progress.images_a_step) == (3, 16)
    progress.count_in(4)
    assert progress.step == 12


def test_a_full_disk_does_not_tear_the_log(tmp_path, capsys, monkeypatch):
    """Epochs that could not be written are, with the next one that can."""
    log = RunLog(tmp_path, tmp_path, ALONE, epochs=4, steps=1, images_per_step=1)
    log.end_epoch(0, 0.1, 1.0)
    whole = type(log.file).open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, text):
            self.file.write(text[:10])
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(log.file), "open", lambda path, *a, **k: Full(whole(path, *a, **k)))
    log.end_epoch(1, 0.1, 2.0)
    monkeypatch.undo()
    assert "log.txt cannot be written: No space left on device; training goes on" in capsys.readouterr().out
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [1]
    log.end_epoch(2, 0.1, 3.0)
    log.close()
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [1, 2, 3]


def test_tensorboard_forgets_what_a_run_that_was_cut_off_logged(tmp_path):
    for start_epoch, epochs, loss in ((0, (0, 1, 2), 1.0), (1, (1,), 5.0)):
        run_log = RunLog(tmp_path, tmp_path, ALONE, epochs=3, steps=1, images_per_step=1, start_epoch=start_epoch)
        for epoch in epochs:
            run_log.end_epoch(epoch, 0.1, loss + epoch)
        run_log.close()
        time.sleep(1.1)  # TensorBoard orders the files of one second by a number that it compares as text
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train_loss")] == [(1000, 1.0), (2000, 6.0)]
    assert [json.loads(line)["train_loss"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [1.0, 6.0]


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n{"epo')
    drop_lines_after(log, 2)
    assert log.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    drop_lines_after(tmp_path / "absent.txt", 2)
