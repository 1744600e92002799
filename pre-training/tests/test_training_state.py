from argparse import Namespace

import pytest
import torch

from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError
from util import training_state
from util.run_log import drop_lines_after


def state():
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(torch.ones(2)).sum().backward()
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
