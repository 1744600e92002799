import json
from argparse import Namespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError
from util import training_state
from util.distributed import Processes
from util.run_log import RunLog, drop_lines_after


def state():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(torch.rand(2)).sum().backward()  # other moments each time
    optimizer.step()
    return model, optimizer, torch.amp.GradScaler("cpu", enabled=False)


def test_the_newest_are_kept_by_number(tmp_path):
    for epoch in (8, 9, 10, 11):
        training_state.save(tmp_path, epoch, *state(), Namespace(keep=2))
    (tmp_path / "checkpoint-best.pth").touch()
    assert [p.name for p in training_state.checkpoints(tmp_path)] == ["checkpoint-11.pth", "checkpoint-10.pth"]
    assert training_state.find("auto", tmp_path)[1]["epoch"] == 11


def test_a_torn_file_is_skipped_for_the_one_before(tmp_path, capsys):
    for epoch in (1, 2):
        training_state.save(tmp_path, epoch, *state(), Namespace(keep=0))
    newest = tmp_path / "checkpoint-2.pth"
    newest.write_bytes(newest.read_bytes()[:100])
    path, content = training_state.find("auto", tmp_path)
    assert (path.name, content["epoch"]) == ("checkpoint-1.pth", 1)
    assert "checkpoint-2.pth is torn" in capsys.readouterr().out


def test_auto_without_a_checkpoint_is_a_new_run(tmp_path):
    assert training_state.find("auto", tmp_path) is None
    assert training_state.find("", tmp_path) is None


def test_a_new_run_does_not_mix_with_an_old_one(tmp_path):
    training_state.save(tmp_path, 3, *state(), Namespace(keep=0))
    with pytest.raises(InputError, match=r"checkpoint-3.pth is there already: continue that run with --resume auto"):
        training_state.find("", tmp_path)


def test_everything_is_restored(tmp_path):
    saved = state()
    training_state.save(tmp_path, 3, *saved, Namespace(keep=0))
    fresh = state()
    assert training_state.restore(*training_state.find("auto", tmp_path), *fresh) == 3
    for key, value in saved[0].state_dict().items():
        assert torch.equal(value, fresh[0].state_dict()[key])
    for old, new in zip(saved[1].state.values(), fresh[1].state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_a_file_that_does_not_say_how_adamw_ran_goes_on_fused(tmp_path):
    model, optimizer, scaler = state()
    training_state.save(tmp_path, 3, model, optimizer, scaler, Namespace(keep=0))
    path, content = training_state.find("auto", tmp_path)
    for group in content["optimizer"]["param_groups"]:
        del group["fused"]
    for moments in content["optimizer"]["state"].values():
        moments["step"] = int(moments["step"])
    training_state.restore(path, content, model, optimizer, scaler)
    assert all(group["fused"] for group in optimizer.param_groups)
    assert all(moments["step"].device == model.weight.device for moments in optimizer.state.values())


def test_tensorboard_forgets_what_a_run_that_was_cut_off_logged(tmp_path):
    args = Namespace(batch_size=1, accum_iter=1, epochs=3, output_dir=tmp_path, log_dir=tmp_path)
    for start_epoch, epochs, loss in ((0, (0, 1, 2), 1.0), (1, (1,), 5.0)):
        run_log = RunLog(args, Processes(0, 1, torch.device("cpu")), 1, start_epoch)
        for epoch in epochs:
            run_log.end_epoch(epoch, 0.1, loss + epoch)
        run_log.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train_loss")] == [(1000, 1.0), (2000, 6.0)]
    assert [json.loads(line)["train_loss"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [1.0, 6.0]


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    model, optimizer, scaler = state()
    training_state.save(tmp_path, 3, model, torch.optim.AdamW([model.weight]), scaler, Namespace(keep=0))
    with pytest.raises(CheckpointError, match=r"checkpoint-3.pth holds the state of another optimizer"):
        training_state.restore(*training_state.find("auto", tmp_path), model, optimizer, scaler)


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n{"epo')
    drop_lines_after(log, 2)
    assert log.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    drop_lines_after(tmp_path / "absent.txt", 2)
