"""Fine-tuning of a part of the encoder."""

import copy
import json
import math

import pytest
import torch
from small_sets import STAGE, options, parse, vehicles
from torch import nn
from torch.nn.utils import parametrize

import train
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from hivit_cls import encoder
from hivit_cls.configuration import setup_cfg
from hivit_cls.options import ConfigOptions
from hivit_cls.settings import flatten
from hivit_cls.trainers.mim_finetune import freeze
from saratrx import tuning
from saratrx.checkpoint import load_checkpoint
from saratrx.errors import InputError, exit_on_input_error
from saratrx.hivit import SIZES, HiViTClassifier

pytestmark = pytest.mark.usefixtures("undrawn")
KEY = "TRAINER.MIM_FINETUNE."


def trainer_of(root, output, checkpoint, *opts):
    words = ("MODEL.INIT_WEIGHTS", checkpoint, *opts)
    cfg = setup_cfg(parse(root, output, *words, trainer="MIM_finetune", flags=["--seed", 0]))
    set_random_seed(0)
    return build_trainer(cfg)


def step(trainer):
    """One step of training; the gradients stay."""
    trainer.batch_idx, trainer.num_batches = 0, 2
    trainer.set_model_mode("train")
    trainer.forward_backward(next(iter(trainer.train_loader_x)))


def lora(*opts):
    return (KEY + "TUNE", "lora", KEY + "LORA.RANK", 2, KEY + "LORA.ALPHA", 3.0, *opts)


def test_lora_begins_as_the_frozen_model(root, tmp_path, checkpoint):
    images = torch.rand(2, 1, 48, 48)
    plain, changed = (trainer_of(root, tmp_path, checkpoint, *opts).model.eval() for opts in ((), lora()))
    assert torch.equal(changed(images), plain(images))


def test_lora_trains_the_factors_and_the_head_alone(root, tmp_path, checkpoint):
    trainer = trainer_of(root, tmp_path, checkpoint, *lora())
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    for _ in range(2):  # in the first, up is 0, and so is the gradient of down
        step(trainer)
    with_gradient = {name for name, p in trainer.model.named_parameters() if p.grad is not None}
    changed = {key for key, value in trainer.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == with_gradient
    factors = {name for name in with_gradient if name.endswith((".0.up", ".0.down"))}
    assert with_gradient - factors == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    linears = [name for name, _ in tuning.linears(encoder.backbone("micro", img_size=48), ["qkv", "proj", "mlp"])]
    assert len(factors) == 2 * len(linears)
    assert len(linears) == 2 * 4 + 4 * 2  # of 2 attention blocks, and of 4 with an MLP alone


def test_merged_is_unmerged(root, tmp_path, checkpoint):
    trainer = trainer_of(root, tmp_path, checkpoint, *lora())
    for part in trainer.model.modules():
        if isinstance(part, tuning.LowRank):
            nn.init.normal_(part.up, std=0.3)
    images = torch.rand(3, 1, 48, 48)
    unmerged = trainer.model.eval()(images)
    plain = encoder.backbone("micro", num_classes=4, img_size=48)
    start = copy.deepcopy(plain.state_dict())
    plain.load_state_dict(tuning.merged(trainer.model.state_dict()))
    torch.testing.assert_close(plain.eval()(images), unmerged, rtol=0, atol=1e-5)
    plain.load_state_dict(tuning.merged(trainer.model.state_dict()) | {
        "blocks.7.attn.qkv.weight": trainer.model.state_dict()["blocks.7.attn.qkv.parametrizations.weight.original"]
    })  # fmt: skip
    assert (plain(images) - unmerged).abs().max() > 1e-3
    assert list(start) == sorted(tuning.merged(trainer.model.state_dict()), key=list(start).index)


@pytest.mark.parametrize(
    ("opts", "trained"),
    [
        (("all",), None),
        (("head",), ("fc_norm.", "head.")),
        (("last_k",), ("blocks.7.", "fc_norm.", "head.")),
        (("last_k", KEY + "LAST_K", 2), ("blocks.6.", "blocks.7.", "fc_norm.", "head.")),
    ],
)
def test_what_is_named_is_trained(root, tmp_path, checkpoint, opts, trained, capsys):
    trainer = trainer_of(root, tmp_path, checkpoint, KEY + "TUNE", *opts)
    step(trainer)
    model = trainer.model
    expected = {name for name, _ in model.named_parameters() if trained is None or name.startswith(trained)}
    assert {name for name, p in model.named_parameters() if p.grad is not None} == expected
    numbers = [sum(p.numel() for name, p in model.named_parameters() if name in chosen) for chosen in (
        expected, dict(model.named_parameters())
    )]  # fmt: skip
    told = f"TUNE {opts[0]}: {numbers[0]:,} of {numbers[1]:,} parameters are trained"
    assert told in capsys.readouterr().out


def test_the_published_recipe_of_atrnet_star():
    """Blocks from 14 on, norm and head; the corrected recipe differs in the steps of the rate alone."""
    published, corrected = (
        setup_cfg(ConfigOptions(config_file=str(STAGE / f"configs/trainers/MIM_finetune/{name}.yaml")))
        for name in ("atrnet_published", "atrnet")
    )
    with torch.device("meta"):
        model = HiViTClassifier(**SIZES["base"])
    freeze(model, published.TRAINER.MIM_FINETUNE)
    trained = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert {int(name.split(".")[1]) for name in trained if name.startswith("blocks.")} == set(range(14, 30))
    assert {name for name in trained if not name.startswith("blocks.")} == {"fc_norm", "head"}
    first, second = flatten(published), flatten(corrected)
    assert {key for key in first if first[key] != second[key]} == {KEY + "LR_STEP"}
    assert (published.OPTIM.LR, published.OPTIM.WEIGHT_DECAY, published.OPTIM.MAX_EPOCH) == (5e-4, 1e-3, 50)


@pytest.mark.parametrize("every", ["batch", "epoch"])
def test_the_rate_of_each_step(root, tmp_path, checkpoint, every):
    """A cosine of 3: stepped per batch it goes down and up again every 6 batches; an epoch here has 4."""
    opts = ("OPTIM.LR", 0.1, "OPTIM.WARMUP_EPOCH", 0, KEY + "LAYER_DECAY", 1.0, KEY + "LR_STEP", every)
    trainer = trainer_of(root, tmp_path, checkpoint, *opts)
    batch, rates = next(iter(trainer.train_loader_x)), []
    trainer.num_batches = 4
    for step in range(12):
        trainer.batch_idx = step % 4
        rates += [{group["lr"] for group in trainer.optim.param_groups}]
        trainer.forward_backward(batch)
    place = range(12) if every == "batch" else [step // 4 for step in range(12)]
    expected = [0.05 * (1 + math.cos(math.pi * t / 3)) for t in place]
    assert [max(rate) for rate in rates] == pytest.approx(expected, abs=1e-9)
    assert {len(rate) for rate in rates} == {1}


def test_frozen_blocks_drop_nothing(root, tmp_path, checkpoint):
    trainer = trainer_of(root, tmp_path, checkpoint, KEY + "TUNE", "last_k", KEY + "DROP_PATH", 0.5)
    trainer.set_model_mode("train")
    assert [block.training for block in trainer.model.blocks] == [False] * 7 + [True]
    assert trainer.model.training


@pytest.mark.parametrize("tune", ["all", "head", "last_k", "lora"])
def test_results_and_a_new_start(root, tmp_path, checkpoint, tune):
    """A run that was interrupted ends as one that was not; its classifier is read in the published form."""
    opts = ("MODEL.INIT_WEIGHTS", checkpoint, KEY + "TUNE", tune, "TRAIN.CHECKPOINT_FREQ", 1)
    opts += ("OPTIM.LR", 0.01, "OPTIM.MAX_EPOCH", 2)
    for name in ("whole", "halved"):
        train.main(options(root, tmp_path / name, *opts, trainer="MIM_finetune", flags=["--seed", 0]))
    halved = tmp_path / "halved/model"
    last = load_checkpoint(halved / "model.pth.tar-2")
    for path in (halved / "model.pth.tar-2", halved / "model.pth.tar-2.sha256", tmp_path / "halved/results.json"):
        path.unlink()
    (halved / "checkpoint").write_text("model.pth.tar-1\n")
    train.main(options(root, tmp_path / "halved", *opts, trainer="MIM_finetune", flags=["--seed", 0]))
    again, found = (
        load_checkpoint(halved / "model.pth.tar-2"),
        json.loads((tmp_path / "whole/results.json").read_text()),
    )
    assert all(torch.equal(value, last["model"][key]) for key, value in again["model"].items())
    assert found["confusion"] == json.loads((tmp_path / "halved/results.json").read_text())["confusion"]
    expected = sum(
        value.numel() for key, value in last["model"].items()
        if tune == "all" or key.startswith(("fc_norm.", "head.")) or key.endswith((".0.up", ".0.down"))
        or (tune == "last_k" and key.startswith("blocks.7."))
    )  # fmt: skip
    assert found["trained_parameters"] == expected
    path = halved / ("merged.pth" if tune == "lora" else "model.pth.tar-2")
    assert (halved / "merged.pth").exists() == (tune == "lora")
    trained = trainer_of(root, tmp_path / "next", path).model
    weights = load_checkpoint(path)["model"]
    assert all(torch.equal(value, weights[key]) for key, value in trained.state_dict().items())
    words = ["--eval-only", "--model-dir", str(tmp_path / "whole")]
    train.main(options(root, tmp_path / "tested", *opts, trainer="MIM_finetune", flags=["--seed", 0, *words]))
    assert json.loads((tmp_path / "tested/results.json").read_text())["confusion"] == found["confusion"]


WRONG = {
    ("TUNE", "some"): "TRAINER.MIM_FINETUNE.TUNE some: unknown; choose one of all, head, last_k, lora",
    ("LR_STEP", "often"): "TRAINER.MIM_FINETUNE.LR_STEP often: unknown; choose one of epoch, batch",
    ("TUNE", "last_k", "LAST_K", "0"): "TRAINER.MIM_FINETUNE.LAST_K 0: must be from 1",
    ("TUNE", "last_k", "LAST_K", "3"): "TRAINER.MIM_FINETUNE.LAST_K 3: the encoder has 2 attention blocks",
    ("TUNE", "lora", "LORA.RANK", "0"): "TRAINER.MIM_FINETUNE.LORA.RANK 0: must be from 1",
    ("TUNE", "lora", "LORA.RANK", "99"): "TRAINER.MIM_FINETUNE.LORA.RANK 99: blocks.0.mlp.fc1 has 24x8 weights",
    ("TUNE", "lora", "LORA.ALPHA", "0"): "TRAINER.MIM_FINETUNE.LORA.ALPHA 0.0: must be above 0",
    ("TUNE", "lora", "LORA.TARGETS", "[query]"): "LORA.TARGETS ['query']: choose one or more of qkv, proj, mlp",
    ("TUNE", "lora", "LORA.TARGETS", "[]"): "LORA.TARGETS []: choose one or more of qkv, proj, mlp",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_gets_one_sentence(root, tmp_path, checkpoint, capsys, words):
    pairs = [word for key, value in zip(words[::2], words[1::2], strict=True) for word in (KEY + key, value)]
    argv = options(root, tmp_path, "MODEL.INIT_WEIGHTS", checkpoint, *pairs, trainer="MIM_finetune")
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        train.main(argv)
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert WRONG[words] in told
    assert told.count("\n") == 1


def test_only_our_encoders_are_fine_tuned(root, tmp_path):
    words = ("MODEL.BACKBONE.NAME", "hog")
    with pytest.raises(InputError, match=r"MIM_finetune trains hivit_\* alone, not hog; choose MIM_linear"):
        train.main(options(root, tmp_path, *words, trainer="MIM_finetune"))


def test_targets_are_chosen(root, tmp_path, checkpoint):
    trainer = trainer_of(vehicles(tmp_path), tmp_path / "out", checkpoint, *lora(KEY + "LORA.TARGETS", "[qkv]"))
    changed = [name for name, part in trainer.model.named_modules() if parametrize.is_parametrized(part)]
    assert changed == ["blocks.6.attn.qkv", "blocks.7.attn.qkv"]
