"""Whole runs of main_pretrain.py with a model that trains in a second."""

import re
import runpy
import shutil
import signal
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import Run
from small_runs import SCRIPT, free_port, losses, options, run, run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run.options import parse_options
from saratrx.checkpoint import load_checkpoint, save_checkpoint
from saratrx.errors import exit_on_input_error


def test_a_run_learns_and_leaves_its_files(plain_run):
    output, printed = plain_run
    found = losses(output)
    assert list(found) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found[8] < 0.97 * found[1]
    files = sorted(p.name for p in output.iterdir() if not p.name.startswith("events"))
    saved = ["checkpoint-4.pth", "checkpoint-4.pth.sha256", "checkpoint-8.pth", "checkpoint-8.pth.sha256"]
    assert files == [*saved, "log.txt", "reconstruction-6.png", "reconstruction-8.png"]
    line = r"epoch 2/8  step 5/5  loss \d\.\d+  lr \S+  grad norm \d\S+  [\d.]+ images/s  "
    line += r"waiting for data \d+%  memory [\d.]+ GB  left \d+:\d+:\d+"
    assert re.search(line, printed)
    with Image.open(output / "reconstruction-8.png") as panel:
        assert panel.size[0] > 1000


def test_a_run_writes_tensorboard(plain_run):
    output, _ = plain_run
    events = EventAccumulator(str(output)).Reload()
    assert events.Tags()["scalars"] == ["train_loss", "lr"]
    assert [e.step for e in events.Scalars("train_loss")] == list(range(1000, 9000, 1000))
    assert [e.value for e in events.Scalars("train_loss")] == pytest.approx(list(losses(output).values()))
    assert [e.step for e in events.Images("reconstruction")] == [6000, 8000]


def test_a_checkpoint_is_plain_data_and_complete(plain_run):
    output, _ = plain_run
    content = load_checkpoint(output / "checkpoint-8.pth")
    assert content.keys() == {"model", "optimizer", "epoch", "scaler", "args", "progress"}
    assert content["epoch"] == 8
    assert content["args"]["model"] == "mae_hivit_micro_dec32d1b"
    assert list(content["model"]) == list(micro(img_size=48).state_dict())


def test_killed_and_resumed_run_ends_as_if_it_had_never_stopped(images, plain_run, started, tmp_path):
    output, _ = plain_run
    arguments = options(images, tmp_path, epochs=8, save_every=1, keep=2, image_every=0, resume="auto")
    killed = started(Run(arguments, {}))
    killed.wait_for("epoch 2/8 done")
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint-2.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)  # in the third epoch, or a little later
    assert killed.ended() == -signal.SIGKILL
    assert not (tmp_path / "checkpoint-8.pth").exists()
    printed = run_here(arguments)
    assert re.search(r"continuing \S*checkpoint-\d\.pth after epoch [2-7]", printed)
    assert losses(tmp_path) == losses(output)  # to the last bit
    undisturbed, resumed = (load_checkpoint(p / "checkpoint-8.pth")["model"] for p in (output, tmp_path))
    assert all(torch.equal(value, resumed[key]) for key, value in undisturbed.items())
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["checkpoint-7.pth", "checkpoint-8.pth"]


def test_two_processes_are_one_with_the_doubled_batch(images, plain_run, tmp_path):
    """By the published command; torchrun is in test_many_processes.py."""
    output, _ = plain_run
    start = ["-m", "torch.distributed.launch", "--use_env", "--nproc_per_node", "2", "--master_port", free_port()]
    done = run(options(images, tmp_path, epochs=8, batch_size=4), start)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 8/8 done") == 1
    assert losses(tmp_path) == pytest.approx(losses(output), rel=1e-4)
    one, two = (load_checkpoint(p / "checkpoint-8.pth")["model"] for p in (output, tmp_path))
    assert list(one) == list(two)
    # Adam's first steps amplify rounding, so weights agree less closely than losses
    assert max((one[k].float() - two[k].float()).abs().max().item() for k in one) < 1e-3


def test_starts_from_an_encoder_alone(images, tmp_path):
    encoder = {k: v for k, v in micro(img_size=224).state_dict().items() if k.startswith(("patch", "blocks", "abs"))}
    torch.save(encoder, tmp_path / "imagenet.pth")
    printed = run_here(options(images, tmp_path / "out", epochs=1, init_weights=tmp_path / "imagenet.pth"))
    assert "resized absolute_pos_embed (1)" in printed
    assert re.search(r"new .*decoder_blocks", printed)


def test_resumes_a_checkpoint_of_the_published_form(images, plain_run, tmp_path):
    """A pickled Namespace, prefixes, and an optimizer of a time when it was not fused and counted steps in integers."""
    output, _ = plain_run
    content = load_checkpoint(output / "checkpoint-4.pth")
    content["model"] = {f"module.{key}": value for key, value in content["model"].items()}
    content["args"] = Namespace(**content["args"])
    for group in content["optimizer"]["param_groups"]:
        del group["fused"], group["foreach"]
    del content["progress"]
    for moments in content["optimizer"]["state"].values():
        moments["step"] = int(moments["step"])
    torch.save(content, tmp_path / "published.pth")
    run_here(options(images, tmp_path / "out", epochs=8, resume=tmp_path / "published.pth"))
    assert losses(tmp_path / "out") == {epoch: loss for epoch, loss in losses(output).items() if epoch > 4}


def test_a_loss_that_is_not_finite_goes_back_once_and_then_ends_the_run_with_its_images(
    images, plain_run, tmp_path, monkeypatch, capsys
):
    output, _ = plain_run
    (tmp_path / "out").mkdir()
    for suffix in ("pth", "pth.sha256"):
        shutil.copy(output / f"checkpoint-4.{suffix}", tmp_path / "out")
    changes = {"lr": 1e30, "warmup_epochs": 0, "epochs": 20, "max_nonfinite": 7, "resume": "auto"}
    monkeypatch.setattr(sys, "argv", ["main_pretrain.py", *options(images, tmp_path / "out", **changes)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 1
    printed, told = capsys.readouterr()
    assert "the loss was not finite in 7 steps in a row: going back to " in printed
    assert "checkpoint-4.pth with half the learning rate" in printed
    assert re.search(r"lr 8\.\S+e\+29 .* steps skipped", printed)
    assert re.search(r"lr 4\.\S+e\+29 .* steps skipped", printed)
    message = told.strip().splitlines()[-1]
    assert message.startswith("error: the loss was not finite in 7 steps in a row, also after going back")
    listed = (tmp_path / "out" / "nonfinite-images.txt").read_text().splitlines()
    assert len(listed) == 8
    assert all(Path(path).is_file() and path in message for path in listed)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.pth")) == ["checkpoint-4.pth"]


def test_half_the_rate_may_help(images, tmp_path, monkeypatch):
    """A rate that is not too large any more after it is halved; without a checkpoint the run begins again."""
    step = torch.optim.AdamW.step

    def fragile(self, closure=None):
        if self.param_groups[0]["lr"] > 0.006:
            self.param_groups[0]["params"][0].data.fill_(float("nan"))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", fragile)
    changes = {"lr": 0.01, "warmup_epochs": 0, "max_nonfinite": 4, "epochs": 2}
    printed = run_here(options(images, tmp_path / "out", **changes))
    assert "the loss was not finite in 4 steps in a row: going back to the beginning with half" in printed
    progress = load_checkpoint(tmp_path / "out" / "checkpoint-2.pth")["progress"]
    assert (progress["lr_factor"], progress["skipped"]) == (0.5, 4)
    assert all(np.isfinite(loss) for loss in losses(tmp_path / "out").values())


def bad_inputs(images, tmp_path):
    """Each kind of bad input: its options, and what the sentence must say."""
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    for folder in (empty, broken):
        folder.mkdir()
    for number in range(20):
        (broken / f"{number}.png").write_text("no image")
    wide = tmp_path / "wide.pth"
    save_checkpoint(wide, model=micro(img_size=48, embed_dim=64).state_dict(), epoch=1, optimizer={})
    weights = tmp_path / "weights.pth"
    save_checkpoint(weights, model=micro(img_size=48).state_dict())
    (tmp_path / "torn.pth").write_bytes(weights.read_bytes()[:1000])
    ran = tmp_path / "ran"
    ran.mkdir()
    (ran / "checkpoint-7.pth").write_bytes(b"precious")
    return {
        "no folder": ({"data_path": tmp_path / "nowhere"}, "nowhere: no such folder"),
        "no image": ({"data_path": empty}, "empty: no image in it"),
        "all broken": ({"data_path": broken}, "of 20 images cannot be read, such as .*broken"),
        "input size": ({"input_size": 50}, "--input_size 50: must be a multiple of 16"),
        "model": (
            {"model": "mae_vit"},
            "--model mae_vit: unknown; choose one of mae_hivit_micro_dec32d1b, mae_hivit_nano",
        ),
        "other model": ({"resume": wide}, r"wide.pth does not fit this model: it disagrees in .*\[1, 9, 64\]"),
        "weights only": ({"resume": weights}, "weights.pth holds weights without a training state.*--init_weights"),
        "torn": ({"resume": tmp_path / "torn.pth"}, "torn.pth is torn or not a checkpoint"),
        "no checkpoint": ({"init_weights": tmp_path / "absent.pth"}, "absent.pth: no such file"),
        "batch": ({"batch_size": 41}, "--batch_size: an effective batch of 41 is larger than the 40 images"),
        "accumulation": ({"accum_iter": 6}, "an effective batch of 48 is larger than the 40 images"),
        "mask": ({"mask_ratio": 0.99}, "--mask_ratio 0.99: must leave and remove some of the 9 patches"),
        "negative": ({"epochs": 0}, "--epochs 0: must be at least 1"),
        "rate": ({"lr": -1}, "--lr -1.0: must not be negative"),
        "clipping": ({"clip_grad": 0}, "--clip_grad 0.0: must be positive"),
        "device": ({"device": "gpu"}, "--device gpu: no such kind of device"),
        "no output": ({"output_dir": weights / "out"}, "weights.pth/out cannot be made: Not a directory"),
        "launcher": ({"dist_url": "env:// --dist_on_itp"}, "OpenMPI did not start this process"),
        "used folder": ({"output_dir": ran}, "checkpoint-7.pth is there already"),
        "nothing whole": ({"output_dir": ran, "resume": "auto"}, "no checkpoint in .*ran can be continued"),
        "shards and folders": ({"data_path": f"{images} a.tar"}, "folders cannot be mixed with shards such as a.tar"),
        "bucket": ({"bucket_mb": 0}, "--bucket_mb 0.0: must be positive"),
    }


def test_bad_input_gets_a_sentence_and_exit_code_2(images, tmp_path, monkeypatch, capsys):
    for name, (changes, sentence) in bad_inputs(images, tmp_path).items():
        arguments = options(images, **{"output": tmp_path / "out"} | {"num_workers": 0} | changes)
        monkeypatch.setattr(sys, "argv", ["main_pretrain.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert ended.value.code == 2, name
        message = capsys.readouterr().err.strip().splitlines()
        assert message[-1].startswith("error: "), name
        assert re.search(sentence, message[-1]), (name, message[-1])
        assert "Traceback" not in "".join(message), name
    assert (tmp_path / "ran" / "checkpoint-7.pth").read_bytes() == b"precious"


def test_all_mistakes_of_a_command_line_are_told_together(images, tmp_path, capsys):
    changes = {"model": "mae_vit", "epochs": 0, "lr": -1, "bucket_mb": 0, "save_every": 0, "max_bad": "nan"}
    with pytest.raises(SystemExit) as ended, exit_on_input_error():
        parse_options(options(images, tmp_path, **changes))
    assert ended.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(changes)
    for line, name in zip(told, ("model", "max_bad", "epochs", "lr", "save_every", "bucket_mb"), strict=True):
        assert line.startswith(f"error: --{name} ")


def test_what_is_recorded_of_the_options_is_flat_and_plain(plain_run):
    recorded = load_checkpoint(plain_run[0] / "checkpoint-8.pth")["args"]
    assert (recorded["lr"], recorded["amp"], recorded["compile"]) == (1e-3, "off", False)
    assert recorded["log_dir"] == recorded["output_dir"] == str(plain_run[0])
    assert isinstance(recorded["data_path"], list)
    published = "batch_size epochs accum_iter model input_size mask_ratio norm_pix_loss weight_decay lr blr min_lr"
    published += " warmup_epochs data_path output_dir log_dir device seed resume start_epoch num_workers pin_mem"
    assert set(published.split()) | {"world_size", "local_rank", "dist_on_itp", "dist_url"} <= recorded.keys()


@pytest.mark.parametrize("has_bf16", [True, False])
def test_the_chip_decides_on_precision_unless_told(images, tmp_path, monkeypatch, has_bf16):
    """Both branches, on any CPU; what bf16 learns stays near float32, within a bound of its own."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16, "amx_bf16": False})
    printed = run_here(options(images, tmp_path / "auto", amp="auto"))
    run_here(options(images, tmp_path / "off"))
    found, expected = losses(tmp_path / "auto"), losses(tmp_path / "off")
    recorded = load_checkpoint(tmp_path / "auto" / "checkpoint-2.pth")["args"]
    if has_bf16:
        assert "mixed precision bf16 (this CPU has AVX512-BF16)" in printed
        assert found == pytest.approx(expected, rel=1e-2)
        assert found != expected
    else:
        assert "mixed precision off (this CPU has neither AVX512-BF16 nor AMX-BF16)" in printed
        assert found == expected
    assert recorded["amp"] == ("bf16" if has_bf16 else "off")


def test_a_machine_that_cannot_compile_or_write_for_tensorboard_trains_all_the_same(images, tmp_path, monkeypatch):
    monkeypatch.setattr("hivit_mae.run.precision.shutil.which", lambda name: None)
    monkeypatch.setattr("hivit_mae.run.run_log.find_spec", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    printed = run_here([*options(images, tmp_path, epochs=1, image_every=1), "--compile"]).splitlines()
    reason = "there is no C++ compiler on the path: install g++"
    assert f"warning: --compile: {reason}; training goes on without compilation" in printed
    assert any(f"not compiled ({reason})" in line for line in printed)
    assert sum("TensorBoard" in line for line in printed) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if "sha256" not in path.name) == [
        "checkpoint-1.pth", "log.txt", "reconstruction-1.png",
    ]  # fmt: skip
