import hashlib
import os
import pathlib
import pickle
import random
import warnings
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from yacs.config import CfgNode

from saratrx import checkpoint
from saratrx.checkpoint import CheckpointError, load_all, load_checkpoint, load_encoder, save_checkpoint
from saratrx.hivit import SIZES, HiViTClassifier

HEAD = ("fc_norm.", "head.")


def micro(**kwargs):
    return HiViTClassifier(
        **{"img_size": 64, "num_classes": 3, "embed_dim": 32, "depths": (1, 1, 2), "num_heads": 2, "rpe": False}
        | kwargs
    )


def encoder_weights(model):
    return {k: v for k, v in model.state_dict().items() if not k.startswith(HEAD)}


def published(path, model, prefix="module."):
    """A pre-training checkpoint in the published form."""
    weights = encoder_weights(model) | {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pred.weight": torch.zeros(8, 8),
        "norm.weight": torch.ones(224),
        "sarfeature1.weight_x1": torch.ones(1, 1, 19, 19),
    }
    content = {
        "model": {prefix + k: v for k, v in weights.items()},
        "epoch": 200,
        "scaler": {},
        "args": Namespace(batch_size=100, blr=1.5e-4, data_path="somewhere", distributed=True),
    }
    torch.save(content, path)


class Evil:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return (os.mkdir, (str(self.victim),))


def test_what_is_saved_is_loaded(tmp_path):
    model = micro()
    save_checkpoint(tmp_path / "a.pth", model=model.state_dict(), epoch=3, args={"lr": 0.1})
    content = load_checkpoint(tmp_path / "a.pth")
    assert (content["epoch"], content["args"]) == (3, {"lr": 0.1})
    assert all(torch.equal(v, content["model"][k]) for k, v in model.state_dict().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "a.pth.sha256"]


def test_a_reader_sees_the_old_file_or_the_new_one_whole(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model={"w": torch.ones(2)})
    with (tmp_path / "a.pth").open("rb") as old:
        save_checkpoint(tmp_path / "a.pth", model={"w": torch.zeros(2)})
        assert torch.load(old, weights_only=True)["model"]["w"].tolist() == [1, 1]
    assert load_checkpoint(tmp_path / "a.pth")["model"]["w"].tolist() == [0, 0]


def test_the_hash_is_that_of_sha256sum_and_finds_a_changed_byte(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint(path, model={"w": torch.ones(100)})
    hashed = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / "a.pth.sha256").read_text() == f"{hashed}  a.pth\n"
    content = path.read_bytes()
    path.write_bytes(content.replace(torch.ones(1).numpy().tobytes(), torch.full((1,), 2.0).numpy().tobytes(), 1))
    with pytest.raises(CheckpointError, match=r"a.pth is torn or was changed: a.pth.sha256 names another content"):
        load_checkpoint(path)
    (tmp_path / "a.pth.sha256").unlink()
    load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.pth", model={"w": torch.ones(2)})

    def fail(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path / "a.pth", model={"w": torch.zeros(2)})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "a.pth")["model"]["w"].tolist() == [1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "a.pth.sha256"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_form(tmp_path, prefix, capsys):
    source, target = micro(), micro(num_classes=7)
    published(tmp_path / "checkpoint-200.pth", source, prefix)
    content = load_checkpoint(tmp_path / "checkpoint-200.pth")
    assert content["args"]["batch_size"] == 100
    assert content["epoch"] == 200
    report = load_encoder(target, tmp_path / "checkpoint-200.pth", missing_ok=HEAD)
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in encoder_weights(source).items())
    assert sorted(report.loaded) == sorted(encoder_weights(source))
    assert sorted(report.new) == ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    assert sorted(report.ignored) == ["decoder_pred.weight", "mask_token", "norm.weight", "sarfeature1.weight_x1"]
    printed = capsys.readouterr().out
    assert "checkpoint-200.pth" in printed
    assert "new     fc_norm (2), head (2)" in printed
    assert "ignored mask_token (1), decoder_pred (1), norm (1), sarfeature1 (1)" in printed


def test_every_container_is_accepted(tmp_path):
    weights = micro().state_dict()
    torch.save(weights, tmp_path / "raw.pth")
    torch.save({"state_dict": weights, "epoch": 1}, tmp_path / "state_dict.pth")
    torch.save({"model": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "ddp.pth")
    save_file(weights, tmp_path / "weights.safetensors")
    for path in tmp_path.iterdir():
        model = micro()
        load_encoder(model, path)
        assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items()), path.name


def test_a_pickled_object_is_refused_and_not_run(tmp_path):
    victim = tmp_path / "victim"
    torch.save({"model": micro().state_dict(), "args": Evil(victim)}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth pickles .*mkdir, which can run code"):
        load_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil(victim)))
    with pytest.raises(CheckpointError, match=r"plain\.pth"):
        load_checkpoint(tmp_path / "plain.pth")
    assert not victim.exists()


def test_a_namespace_cannot_smuggle_anything(tmp_path):
    victim = tmp_path / "victim"
    torch.save({"model": micro().state_dict(), "args": Namespace(device=Evil(victim))}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "evil.pth")
    assert not victim.exists()


def test_files_that_are_no_checkpoints(tmp_path):
    whole = tmp_path / "whole.pth"
    save_checkpoint(whole, model=micro().state_dict())
    (tmp_path / "torn.pth").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "no_weights.pth")
    for path in [*tmp_path.iterdir(), tmp_path / "absent.pth", tmp_path]:
        if path != whole:
            with pytest.raises(CheckpointError, match=path.name):
                load_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_raise_nothing_else(tmp_path, zipped):
    whole, damaged = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    torch.save({"model": {"a.weight": torch.rand(3, 3)}, "epoch": 3}, whole, _use_new_zipfile_serialization=zipped)
    content, rng, refused = whole.read_bytes(), random.Random(0), 0
    for _ in range(300):
        changed = bytearray(content[: rng.randrange(1, len(content) + 1)])
        for _ in range(rng.choice([0, 1, 20])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        damaged.write_bytes(changed)
        try:
            load_checkpoint(damaged)
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_another_size_is_named_and_loads_nothing(tmp_path):
    save_checkpoint(tmp_path / "wide.pth", model=micro(embed_dim=64).state_dict())
    model = micro()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"patch_embed.proj.weight \[16, 3, 4, 4\] \(the model's is \[8, 3, 4, 4\]\)"
    ):
        load_encoder(model, tmp_path / "wide.pth", missing_ok=HEAD)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_missing_and_unknown_keys_are_named(tmp_path):
    weights = micro().state_dict()
    del weights["blocks.0.mlp.fc1.weight"]
    weights["blocks.9.mlp.fc1.weight"] = torch.zeros(1)
    save_checkpoint(tmp_path / "a.pth", model=weights)
    with pytest.raises(
        CheckpointError, match=r"lacks blocks.0.mlp.fc1.weight; it has the unknown blocks.9.mlp.fc1.weight"
    ):
        load_encoder(micro(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"lacks blocks.0.mlp.fc1.weight; it has the unknown"):
        load_all(micro(), weights, "a.pth")


def test_a_head_is_required_unless_it_may_be_missing(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model=encoder_weights(micro()))
    with pytest.raises(CheckpointError, match=r"lacks fc_norm.weight, fc_norm.bias, head.weight, head.bias$"):
        load_encoder(micro(), tmp_path / "a.pth")


def test_a_head_of_other_classes_stays_new(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model=micro(num_classes=5).state_dict())
    model = micro()
    head = model.head.weight.clone()
    report = load_encoder(model, tmp_path / "a.pth", missing_ok=("head.",))
    assert report.new == report.ignored == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head)


def test_bias_tables_are_required_of_a_model_that_has_them(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model=micro().state_dict())
    with pytest.raises(CheckpointError, match=r"lacks blocks.6.attn.relative_position_bias_table"):
        load_encoder(micro(rpe=True), tmp_path / "a.pth")


def test_an_error_names_a_few_keys_only(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model={"conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError) as caught:
        load_encoder(micro(), tmp_path / "a.pth")
    assert f"and {len(micro().state_dict()) - checkpoint.NAMED_AT_MOST} more" in str(caught.value)


def test_what_other_tools_pickle_beside_weights_is_read_as_plain_values(tmp_path):
    node = CfgNode({"a": 1, "b": {"c": 2}})
    torch.save(
        {"model": micro().state_dict(), "cfg": node, "path": pathlib.PosixPath("/a/b"), "best": np.float64(0.5)},
        tmp_path / "a.pth",
    )
    content = load_checkpoint(tmp_path / "a.pth")
    assert (content["cfg"], str(content["path"]), content["best"]) == ({"a": 1, "b": {"c": 2}}, "/a/b", 0.5)
    assert type(content["cfg"]) is not CfgNode


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "backbone.", "module._orig_mod.", "model.backbone."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    source, target = micro(), micro()
    torch.save({"state_dict": {prefix + k: v for k, v in source.state_dict().items()}}, tmp_path / "a.pth")
    load_encoder(target, tmp_path / "a.pth")
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())


def test_weights_that_are_not_finite_are_refused_unless_asked_for(tmp_path, monkeypatch):
    weights = micro().state_dict()
    weights["patch_embed.proj.bias"][1] = torch.nan
    torch.save(weights, tmp_path / "a.pth")
    for load in (lambda: load_encoder(micro(), tmp_path / "a.pth"), lambda: load_all(micro(), weights, "a.pth")):
        with pytest.raises(CheckpointError, match=r"a\.pth has values that are not finite in 1 of .*patch_embed"):
            load()
        monkeypatch.setenv("SARATRX_ALLOW_NONFINITE", "1")
        load()
        monkeypatch.delenv("SARATRX_ALLOW_NONFINITE")


def test_a_checkpoint_of_another_size_is_named(tmp_path):
    torch.save(micro().state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="it is of a HiViT-micro, and this model is a HiViT-tiny"):
        load_encoder(HiViTClassifier(**SIZES["tiny"], img_size=64, num_classes=3), tmp_path / "a.pth")


def test_a_hash_that_is_no_text_is_no_hash(tmp_path):
    save_checkpoint(tmp_path / "a.pth", model={"w": torch.ones(2)})
    (tmp_path / "a.pth.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="is torn or was changed"):
        load_checkpoint(tmp_path / "a.pth")


def test_the_encoder_of_a_detector_is_taken_and_the_rest_named(tmp_path):
    source, target = micro(), micro()
    weights = {f"backbone.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": weights | {"neck.a": torch.zeros(1), "roi_head.b": torch.zeros(1)}}, tmp_path / "a.pth")
    report = load_encoder(target, tmp_path / "a.pth")
    assert report.ignored == ["neck.a", "roi_head.b"]
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (torch.zeros(1).expand(10**12), r"holds a tensor of \[1000000000000\], more than its [\d,]+ bytes"),
        (torch.zeros(3).to_sparse(), "sparse, quantised or empty tensor"),
        (torch.zeros(3, device="meta"), "sparse, quantised or empty tensor"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "sparse, quantised or empty tensor"),
        (torch.zeros(3, dtype=torch.uint8).view(torch.float8_e4m3fn), r"empty tensor \(torch.float8_e4m3fn\)"),
    ],
)
def test_tensors_that_are_no_plain_arrays_of_the_file_are_refused(tmp_path, odd, reason):
    for place in ({"norm.weight": odd}, {"epoch": [1, {"moments": odd}]}):
        torch.save({"model": {"w": torch.zeros(2)} | place} | place, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=reason):
            load_checkpoint(tmp_path / "a.pth")


def test_a_packed_archive_is_refused(tmp_path):
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.pth")
    packed = zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    load_checkpoint(tmp_path / "plain.pth")
    with pytest.raises(CheckpointError, match=r"is a packed archive, which torch\.save does not write"):
        load_checkpoint(tmp_path / "a.pth")


def test_a_file_that_asks_for_all_memory_is_refused(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    (tmp_path / "a.pth").write_bytes(b"a")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=r"a\.pth is torn or not a checkpoint"):
        load_checkpoint(tmp_path / "a.pth")


def test_whole_numbers_are_no_weights(tmp_path):
    model = micro()
    key = "absolute_pos_embed"
    whole = model.state_dict() | {key: model.state_dict()[key].int()}
    torch.save(whole, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"disagrees in {key} torch.int32 \(the model's is torch.float32\)"):
        load_encoder(model, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=rf"disagrees in {key} torch.int32"):
        load_all(model, whole, "a.pth")
    load_all(model, {name: value.half() for name, value in model.state_dict().items()}, "a.pth")


def test_what_pytorch_warns_of_damaged_files_is_not_shown(tmp_path):
    content = pickle.dumps({"w": 1}, protocol=2).replace(b"\x80\x02", b"\x80\x05")
    (tmp_path / "a.pth").write_bytes(content)
    with warnings.catch_warnings(), pytest.raises(CheckpointError):
        warnings.simplefilter("error")
        load_checkpoint(tmp_path / "a.pth")
