"""An encoder in the layout of timm and Hugging Face."""

import json
import os
import runpy
import sys

import pytest
import timm
import torch

from saratrx.checkpoint import load_checkpoint, load_encoder, save_checkpoint
from saratrx.errors import InputError
from saratrx.export import export, export_onnx, main
from saratrx.hivit import SIZES, HiViTClassifier
from saratrx.onnx_file import write_onnx


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    model = HiViTClassifier(**SIZES["micro"], img_size=64, num_classes=0)
    weights = model.state_dict() | {"mask_token": torch.zeros(1, 1, 32), "decoder_embed.bias": torch.ones(8)}
    del weights["fc_norm.weight"], weights["fc_norm.bias"]
    save_checkpoint(tmp_path / "checkpoint-3.pth", model=weights, epoch=3)
    return tmp_path / "checkpoint-3.pth"


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float16, 5e-3)])
def test_timm_opens_it(tmp_path, checkpoint, dtype, error):
    config = export(checkpoint, tmp_path / "new/folder", dtype)
    assert json.loads(json.dumps(config)) == json.loads((tmp_path / "new/folder/config.json").read_text())
    found = timm.create_model(f"local-dir:{tmp_path / 'new/folder'}", pretrained=True).eval()
    ours = HiViTClassifier(**SIZES["micro"], img_size=64, num_classes=0).eval()
    load_encoder(ours, checkpoint, missing_ok=("fc_norm.",))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found(images), ours(images), rtol=0, atol=error)
    again = HiViTClassifier(**SIZES["micro"], img_size=96, num_classes=0)
    report = load_encoder(again, tmp_path / "new/folder/model.safetensors")  # as any checkpoint
    assert report.resized == ["absolute_pos_embed"]


def test_what_is_no_whole_encoder_is_refused(tmp_path, checkpoint):
    weights = load_checkpoint(checkpoint)["model"]
    too_large = {"patch_embed.norm.weight": torch.full((8,), 1e6)}
    for changed, sentence in (
        ({"absolute_pos_embed": torch.zeros(1, 16, 48)}, "is of no known size of HiViT"),
        ({"blocks.2.norm.bias": None}, "lacks blocks.2.norm.bias"),
        (too_large, "not finite"),
    ):
        merged = {key: value for key, value in (weights | changed).items() if value is not None}
        save_checkpoint(tmp_path / "bad.pth", model=merged)
        with pytest.raises(InputError, match=sentence):
            export(tmp_path / "bad.pth", tmp_path / "out", torch.float16)
        assert not (tmp_path / "out").exists()


def test_command(tmp_path, checkpoint, monkeypatch, capsys):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")  # need be no Unicode
    monkeypatch.setattr(sys, "argv", ["export", str(checkpoint), folder, "--half"])
    monkeypatch.delitem(sys.modules, "saratrx.export")
    runpy.run_module("saratrx.export", run_name="__main__")
    assert "hivit_micro_patch16_224, 64 px" in capsys.readouterr().out


def test_a_refusal_writes_nothing(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(sys, "argv", ["export", str(checkpoint), str(tmp_path / "out"), "--onnx"])
    with pytest.raises(InputError, match="ONNX needs more packages"):
        main()
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"FOLDER .* a file of that name is there"):
        export(checkpoint, checkpoint, torch.float32)
    (tmp_path / "out/config.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"config.json cannot be written"):
        export(checkpoint, tmp_path / "out", torch.float32)


def test_half_precision_never_replaces_what_it_is_made_from(tmp_path, checkpoint):
    export(checkpoint, tmp_path, torch.float32)
    own = tmp_path / "model.safetensors"
    before = own.read_bytes()
    with pytest.raises(InputError, match="which would lose digits"):
        export(own, tmp_path, torch.float16)
    assert own.read_bytes() == before


def test_an_onnx_file_computes_the_same_at_other_sizes(tmp_path, checkpoint):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    config = export(checkpoint, tmp_path, torch.float32)
    export_onnx(tmp_path, config)
    model = HiViTClassifier(**SIZES["micro"], img_size=64, num_classes=0).eval()
    load_encoder(model, tmp_path / "model.safetensors")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(5, 1, 96, 48)
    tokens, pooled = session.run(["tokens", "pooled"], {"images": images.numpy()})
    with torch.no_grad():
        right = model.forward_features(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(torch.from_numpy(tokens), right, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(pooled), right.mean(dim=1), rtol=0, atol=1e-4)


class Shifted(torch.nn.Module):
    """Adds what differs from call to call."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return images + self.calls


def test_an_onnx_file_that_computes_something_else_is_not_written(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    with pytest.raises(InputError, match="computes differs from PyTorch"):
        write_onnx(Shifted(), tmp_path / "a.onnx", [torch.ones(1, 2)], ["shifted"], free=())
    assert not list(tmp_path.iterdir())


def test_without_its_packages_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"ONNX needs more packages .*pip install -e .\[onnx\]"):
        write_onnx(torch.nn.Identity(), tmp_path / "a.onnx", [torch.ones(1, 2)], ["same"], free=())
