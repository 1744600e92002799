"""Training of a part of the backbone: what learns, what stays, and what becomes of the checkpoints."""

import json
import re

import numpy as np
import pytest
import torch
from detection_tools import STAGE, run_here
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from PIL import Image
from small_detector import write_small_detector
from torch import nn
from torch.nn.utils import parametrize

from hivit_det import HiViTBackbone
from hivit_det.weights import load_detector, read_detector
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier, PatchMerge
from saratrx.tuning import count, linears

MICRO = SIZES["micro"] | {"depths": (1, 1, 3), "img_size": 64}
LEVELS = {"out_indices": ("H", "M", 2, 2), "global_indices": (1,), "window_size": 3}
PYRAMID = {f"fpn{i}" for i in (1, 2, 3, 4)}


def micro(**kwargs):
    torch.manual_seed(0)
    model = HiViTBackbone(**MICRO | LEVELS | kwargs)
    torch.manual_seed(0)  # low-rank changes have drawn some numbers
    nn.init.normal_(model.absolute_pos_embed)
    return model


def learn(model):
    """Take two steps, since in the first the factor `up` is 0, and say which parameters have changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        sum((level * torch.randn_like(level)).mean() for level in model(torch.rand(1, 3, 64, 64))).backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize(
    ("options", "blocks"),
    [({"tune": "head"}, ()), ({"tune": "last_k"}, (8,)), ({"tune": "last_k", "last_k": 2}, (7, 8))],
)
def test_what_is_named_is_trained(options, blocks):
    changed = {".".join(name.split(".")[:2]) for name in learn(micro(**options))}
    assert {name.partition(".")[0] for name in changed} - {"blocks"} == PYRAMID
    assert {int(name.partition(".")[2]) for name in changed if name.startswith("blocks")} == set(blocks)


@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_low_rank_changes_and_the_pyramid_are_trained_alone(use_checkpoint):
    model = micro(tune="lora", lora_rank=2, use_checkpoint=use_checkpoint)
    changed = learn(model)
    factors = {name for name in changed if name.endswith((".0.up", ".0.down"))}
    assert {name.partition(".")[0] for name in changed - factors} == PYRAMID
    assert len(factors) == 2 * len(list(linears(micro(), ["qkv", "proj", "mlp"]))) == 2 * (3 * 4 + 4 * 2)
    some = micro(tune="lora", lora_targets=["proj"])
    names = [name for name, part in some.named_modules() if parametrize.is_parametrized(part)]
    assert names == [f"blocks.{i}.attn.proj" for i in (6, 7, 8)]


def test_low_rank_changes_begin_as_the_frozen_backbone_and_are_what_their_merge_is():
    model, images = micro(tune="lora", lora_rank=2, lora_alpha=3.0).eval(), torch.rand(1, 3, 64, 96)
    plain = micro().eval()
    for found, expected in zip(model(images), plain(images), strict=True):
        assert torch.equal(found, expected)
    torch.manual_seed(1)
    weights = plain.state_dict()
    for name, part in model.named_modules():
        if parametrize.is_parametrized(part):
            change = part.parametrizations.weight[0]
            nn.init.normal_(change.up)
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + 3.0 / 2 * torch.einsum(
                "or,ri->oi", change.up.detach(), change.down.detach()
            )
    before = plain(images)
    plain.load_state_dict(weights)
    for found, expected, old in zip(model(images), plain(images), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert (found - old).abs().max() > 0.1


def test_frozen_blocks_drop_nothing():
    assert [block.training for block in micro(tune="last_k", last_k=2).train().blocks] == [False] * 7 + [True] * 2
    assert not any(block.training for block in micro(tune="head").train().blocks)
    with_changes = micro(tune="lora", frozen_stages=0).train().blocks
    assert all(block.training for block in with_changes if not isinstance(block, PatchMerge))
    assert micro(tune="head").train().training
    dropping, images = micro(tune="head", drop_path_rate=0.9).train(), torch.rand(4, 3, 64, 64)
    assert torch.equal(dropping(images)[2], dropping.eval()(images)[2])


def test_pretrained_weights_lie_below_the_changes(tmp_path):
    torch.manual_seed(3)
    weights = {k: v for k, v in HiViTClassifier(**MICRO).state_dict().items() if not k.startswith(("fc_norm", "head"))}
    save_checkpoint(tmp_path / "encoder.pth", model=weights)
    model = micro(tune="lora", init_cfg={"type": "Pretrained", "checkpoint": str(tmp_path / "encoder.pth")})
    model.init_weights()
    plain = micro(init_cfg=model.init_cfg)
    plain.init_weights()
    images = torch.rand(1, 3, 64, 64)
    for found, expected in zip(model.eval()(images), plain.eval()(images), strict=True):
        assert torch.equal(found, expected)


def test_rates_of_what_is_trained():
    for tune, layers in (("head", {4}), ("last_k", {3, 4}), ("lora", {0, 1, 2, 3, 4})):
        model = nn.Module()
        model.backbone = micro(tune=tune)
        wrapper = build_optim_wrapper(
            model,
            {
                "optimizer": {"type": "AdamW", "lr": 1.0, "weight_decay": 0.05},
                "constructor": "mmdet.HiViTLayerDecayOptimizerConstructor",
                "paramwise_cfg": {"num_layers": 3, "layer_decay_rate": 0.5},
            },
        )
        groups = wrapper.optimizer.param_groups
        assert {group["lr"] for group in groups} == {0.5 ** (4 - layer) for layer in layers}
        given = {id(p) for group in groups for p in group["params"]}
        assert given == {id(p) for p in model.parameters() if p.requires_grad}


WRONG = {
    "tune": ("some", "model.backbone.tune some: unknown; choose one of all, head, last_k, lora"),
    "last_k": (4, "model.backbone.last_k 4: the encoder has 3 attention blocks"),
    "lora_rank": (99, r"model.backbone.lora_rank 99: blocks.0.mlp.fc1 has 24x8 weights"),
    "lora_alpha": (0, "model.backbone.lora_alpha 0: must be a finite number above 0"),
    "lora_targets": ([], r"model.backbone.lora_targets \[\]: choose one or more of qkv, proj, mlp, as a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_gets_one_sentence(name):
    value, said = WRONG[name]
    with pytest.raises(InputError, match=said):
        micro(**{"tune": "last_k" if name == "last_k" else "lora"} | {name: value})
    for kind, wrong in (("last_k", 0), ("last_k", 1.0), ("lora_rank", True), ("lora_targets", "qkv")):
        with pytest.raises(InputError, match=f"model.backbone.{kind} {wrong}: "):
            micro(**{kind: wrong})


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A detector with low-rank changes, and the weights of an encoder to begin with."""
    init_default_scope("mmdet")
    root = tmp_path_factory.mktemp("lora")
    path = write_small_detector(root, images=4)
    torch.manual_seed(1)
    save_checkpoint(root / "weights.pth", model=HiViTClassifier(img_size=64, **SIZES["micro"]).state_dict())
    text = path.read_text().replace("num_workers=1", "num_workers=0, persistent_workers=False")
    path.write_text(text.replace("max_epochs=2, val_interval=2", "max_epochs=2, val_interval=9"))
    changed = root / "lora.py"
    changed.write_text(
        f'_base_ = "{path}"\nmodel = dict(backbone=dict(tune="lora", lora_rank=2, drop_path_rate=0.2))\n'
    )
    return changed


@pytest.fixture(scope="module")
def trained(config):
    """The folder of a training of two epochs, and what it said."""
    done = run_here("tools/train.py", config, "--work-dir", config.parent / "whole")
    assert done.returncode == 0, done.stderr
    return config.parent / "whole", done.stdout + done.stderr


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(config, trained, tmp_path):
    """Matrices and changes are saved apart: nothing is rounded."""
    whole, said = trained
    (tmp_path / "half").mkdir()
    for name in ("epoch_1.pth", "epoch_1.pth.sha256"):
        (tmp_path / "half" / name).write_bytes((whole / name).read_bytes())
    done = run_here("tools/train.py", config, "--work-dir", tmp_path / "half", "--resume")
    assert done.returncode == 0, done.stderr
    assert "resumed epoch: 1" in done.stdout
    paths = (whole / "epoch_2.pth", tmp_path / "half/epoch_2.pth", whole / "epoch_1.pth")
    first, second, begun = (read_detector(path)["model"] for path in paths)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    moved = {key for key, value in first.items() if not torch.equal(value, begun[key])}
    in_encoder = {key for key in moved if key.startswith("backbone.") and not key.startswith("backbone.fpn")}
    assert in_encoder and all(key.endswith((".0.up", ".0.down")) for key in in_encoder)
    encoder = read_detector(config.parent / "weights.pth")["model"]
    matrix = first["backbone.blocks.6.attn.qkv.parametrizations.weight.original"]
    assert torch.equal(matrix, encoder["blocks.6.attn.qkv.weight"])
    model = MODELS.build(Config.fromfile(config).model)
    assert "tune lora: {:,} of {:,} parameters are trained".format(*count(model)) in said
    assert re.search(r"peak memory: \d\.\d\d GB", said)


def test_it_is_tested_with_its_own_config_and_with_a_plain_one(config, trained, tmp_path):
    checkpoint, figures = trained[0] / "epoch_2.pth", []
    for name in ("lora.py", "small.py"):
        done = run_here("tools/test.py", config.parent / name, checkpoint, "--work-dir", tmp_path / name)
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / name / "results.json").read_text())
        figures.append(results["figures"])
        model = MODELS.build(Config.fromfile(config).model)
        assert [results["training"][key] for key in ("trained_parameters", "parameters")] == list(count(model))
        assert 0.1 < results["training"]["peak_memory"] < 64
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    image, outputs = torch.rand(1, 3, 64, 64), []
    for name in ("lora.py", "small.py"):
        model = MODELS.build(Config.fromfile(config.parent / name).model).eval()
        load_detector(model, checkpoint)
        outputs.append(model.backbone(image))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_it_finds_targets_in_scenes_as_the_merged_one(config, trained, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "scene.png")
    found = []
    for name in ("lora.py", "small.py"):
        options = ["--output_dir", tmp_path / name, "--window", "64", "--score", "0.05", "--device", "cpu"]
        words = [config.parent / name, trained[0] / "epoch_2.pth", tmp_path / "scene.png", *options]
        done = run_here("huge_image_infer.py", *words)
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / name / "scene_targets.json").read_text())["annotations"])
    assert found[0] and len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.01)


def test_it_is_a_start_for_all_and_a_plain_one_is_a_start_for_it(config, trained, tmp_path):
    """`--init-weights` of a detector, in both directions, at a rate of 0."""
    plain = config.parent / "small.py"
    stop = ["--cfg-options", "train_cfg.max_epochs=1", "optim_wrapper.optimizer.lr=0.0"]
    start = trained[0] / "epoch_2.pth"
    weights = []
    for number, path in enumerate((plain, config)):
        words = [path, "--init-weights", start, "--work-dir", tmp_path / str(number), *stop]
        done = run_here("tools/train.py", *words)
        assert done.returncode == 0, done.stderr
        start = tmp_path / str(number) / "epoch_1.pth"
        weights.append(read_detector(start)["model"])
    key = "backbone.blocks.6.attn.qkv"
    factors = read_detector(trained[0] / "epoch_2.pth")["model"]
    apart = [factors[f"{key}.parametrizations.weight.{part}"] for part in ("original", "0.scale", "0.up", "0.down")]
    torch.testing.assert_close(weights[0][f"{key}.weight"], apart[0] + 8.0 * apart[2] @ apart[3])
    assert apart[1] == 8
    assert torch.equal(weights[1][f"{key}.parametrizations.weight.original"], weights[0][f"{key}.weight"])
    assert not weights[1][f"{key}.parametrizations.weight.0.up"].any()


@pytest.mark.parametrize("name", ["base_SSDD_lora", "nano_MSTAR_DET_lora"])
def test_configs_differ_from_their_base_in_the_backbone_alone(name):
    changed, base = (
        Config.fromfile(STAGE / f"configs/_hivit_/hivit_{each}.py") for each in (name, name.removesuffix("_lora"))
    )
    assert changed.model.backbone == base.model.backbone | {"tune": "lora", "lora_rank": 8}
    changed.model.backbone = base.model.backbone
    assert changed.to_dict() == base.to_dict()
