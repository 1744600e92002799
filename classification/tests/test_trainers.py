"""The parts of the trainers that are numbers."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from small_sets import parse, vehicles
from torch import nn

from dassl.engine import build_trainer
from hivit_cls import encoder, pictures
from hivit_cls.configuration import setup_cfg
from hivit_cls.trainers.mim_linear import Probe
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.reading import AS_DEFAULT


def trainer_of(root, output, checkpoint, trainer, *opts):
    arguments = parse(root, output, "MODEL.INIT_WEIGHTS", checkpoint, *opts, trainer=trainer, flags=["--seed", 0])
    return build_trainer(setup_cfg(arguments))


def test_the_probe_against_plain_formulas():
    torch.manual_seed(0)
    probe = Probe(8, 3)
    nn.init.normal_(probe.fc_norm.weight)
    nn.init.normal_(probe.fc_norm.bias)
    x = torch.randn(50, 8) * 3 + 1
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    normed = normed * probe.fc_norm.weight + probe.fc_norm.bias
    standard = (normed - normed.mean(0)) / (normed.var(0, correction=0) + 1e-6).sqrt()
    expected = standard @ probe.head[1].weight.T + probe.head[1].bias
    torch.testing.assert_close(probe.train()(x), expected)
    assert list(probe.state_dict())[:5] == [
        "fc_norm.weight", "fc_norm.bias", "head.0.running_mean", "head.0.running_var", "head.0.num_batches_tracked"
    ]  # fmt: skip
    assert (probe.fc_norm.eps, probe.head[0].eps) == (1e-6, 1e-6)
    fresh = Probe(4096, 10).head[1]
    assert fresh.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not fresh.bias.any()


def test_only_the_probe_is_trained(tmp_path, checkpoint):
    trainer = trainer_of(vehicles(tmp_path), tmp_path / "out", checkpoint, "MIM_linear", "FEATURE_BANK", False)
    before = {key: value.clone() for key, value in trainer.encoder.encoder().state_dict().items()}
    trainer.train()
    assert all(torch.equal(value, before[key]) for key, value in trainer.encoder.encoder().state_dict().items())
    with torch.no_grad():  # the test used what BatchNorm has learnt, not the statistics of its batches
        expected = trainer.probe.eval()(torch.cat(trainer.tested["pooled"]))
    torch.testing.assert_close(torch.cat(trainer.tested["score"]), expected)
    trained = {id(p) for group in trainer.optim.param_groups for p in group["params"]}
    assert trained == {id(p) for p in trainer.probe.parameters()}
    assert [p.shape for p in trainer.probe.parameters()] == [(32,), (32,), (4, 32), (4,)]
    group = trainer.optim.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["eps"]) == ((0.9, 0.95), 1e-4, 1e-8)


def test_random_weights_are_the_same_for_every_seed(tmp_path):
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        arguments = parse(tmp_path, tmp_path, "MODEL.RANDOM_INIT", True)
        found.append(encoder.build_encoder(setup_cfg(arguments)).state_dict())
        assert torch.initial_seed() == seed
        assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(seed))  # nothing was drawn
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
    assert found[0]["patch_embed.proj.weight"].std() > 0


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_neighbours_against_scikit_learn(tmp_path, checkpoint, k):
    root = vehicles(tmp_path, train=20, test=10)
    temperature = 0.5
    opts = ("TRAINER.KNN.K", k, "TRAINER.KNN.TEMPERATURE", temperature)
    trainer = trainer_of(root, tmp_path / "out", checkpoint, "kNN", *opts)
    trainer.train()
    memory, labels = (part.numpy() for part in trainer.neighbours)
    pooled = torch.cat(trainer.tested["pooled"]).numpy()
    assert (len(memory), len(pooled)) == (64, 40)
    mean, std = memory.mean(0), memory.std(0) + 1e-6
    reference = KNeighborsClassifier(
        min(k, 64), metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    ).fit((memory - mean) / std, labels)
    expected = reference.predict_proba((pooled - mean) / std)
    found = torch.cat(trainer.tested["score"]).exp().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_neighbours_need_sensible_numbers(tmp_path, checkpoint):
    root = vehicles(tmp_path)
    for opts in (("TRAINER.KNN.K", 0), ("TRAINER.KNN.TEMPERATURE", 0.0)):
        with pytest.raises(InputError, match=r"TRAINER.KNN.(K 0: must be from 1|TEMPERATURE 0.0: must be above 0)"):
            trainer_of(root, tmp_path / "out", checkpoint, "kNN", *opts)


def test_rates_decay_towards_the_image(tmp_path, checkpoint):
    opts = ("OPTIM.LR", 1.0, "OPTIM.WEIGHT_DECAY", 0.05, "TRAINER.MIM_FINETUNE.LAYER_DECAY", 0.5)
    trainer = trainer_of(vehicles(tmp_path), tmp_path / "out", checkpoint, "MIM_finetune", *opts)
    model, groups = trainer.model, trainer.optim.param_groups  # 2 attention blocks, from blocks.6
    rate = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    found = {name: rate[id(p)] for name, p in model.named_parameters()}
    assert len(found) == len(list(model.parameters()))
    expected = {
        "patch_embed.proj.weight": (0.125, 0.05),
        "patch_embed.proj.bias": (0.125, 0.0),
        "absolute_pos_embed": (0.125, 0.05),
        "blocks.0.mlp.fc1.weight": (0.125, 0.05),
        "blocks.5.reduction.weight": (0.125, 0.05),
        "blocks.6.attn.qkv.weight": (0.25, 0.05),
        "blocks.7.norm1.weight": (0.5, 0.0),
        "fc_norm.weight": (1.0, 0.0),
        "head.weight": (1.0, 0.05),
        "head.bias": (1.0, 0.0),
    }
    assert {name: found[name] for name in expected} == expected


def test_the_surest_mistakes_are_shown(tmp_path, checkpoint, monkeypatch):
    shown = []
    draw = pictures.mistakes
    monkeypatch.setattr(pictures, "mistakes", lambda *args: shown.append(args) or draw(*args))
    monkeypatch.setattr(pictures, "MISTAKES", 5)
    trainer = trainer_of(vehicles(tmp_path, test=12), tmp_path / "out", checkpoint, "MIM_linear")
    trainer.train()
    surest, wrong, total, crop, reading = shown[0]
    probabilities = torch.cat(trainer.tested["score"]).softmax(dim=1)
    labels = torch.cat(trainer.tested["label"])
    mistaken = probabilities.argmax(dim=1) != labels
    assert (wrong, total, crop, reading) == (mistaken.sum(), 48, 128, AS_DEFAULT)
    expected = probabilities.amax(dim=1)[mistaken].sort(descending=True).values[:5]
    assert [mistake.probability for mistake in surest] == pytest.approx(expected.tolist())
    for mistake in surest:
        place = trainer.tested["impath"].index(mistake.path)
        assert mistake.true.split(",")[0] == mistake.path.split("/")[-2]
        assert mistake.predicted == trainer.lab2cname[int(probabilities[place].argmax())]


def test_smoothing_is_in_the_loss(tmp_path, checkpoint):
    opts = ("TRAINER.MIM_FINETUNE.LABEL_SMOOTHING", 0.4, "TRAINER.MIM_FINETUNE.DROP_PATH", 0.0)
    trainer = trainer_of(vehicles(tmp_path), tmp_path / "out", checkpoint, "MIM_finetune", *opts)
    nn.init.normal_(trainer.model.head.weight)
    batch = next(iter(trainer.train_loader_x))
    trainer.batch_idx, trainer.num_batches = 0, 2
    with torch.no_grad():
        logs = trainer.model(batch["img"]).log_softmax(dim=1)
    right = logs.gather(1, batch["label"][:, None]).mean()
    expected = -(0.6 * right + 0.4 * logs.mean())
    assert trainer.forward_backward(batch)["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_stochastic_depth_is_on(tmp_path, checkpoint):
    opts = ("TRAINER.MIM_FINETUNE.DROP_PATH", 0.5, "MODEL.PRECISION", "bf16")
    trainer = trainer_of(vehicles(tmp_path), tmp_path / "out", checkpoint, "MIM_finetune", *opts)
    image = torch.rand(2, 1, 48, 48)
    trainer.set_model_mode("train")
    assert not torch.equal(trainer.pool(image), trainer.pool(image))
    trainer.set_model_mode("eval")
    assert torch.equal(trainer.pool(image), trainer.pool(image))
    assert trainer.pool(image).dtype == torch.float32


def test_a_trained_head_is_taken_over(tmp_path, checkpoint):
    """Fine-tuning can begin from a classifier of the same classes; a probe begins anew."""
    model = encoder.backbone("micro", num_classes=4, img_size=48, verbose=False)
    nn.init.constant_(model.head.bias, 3.0)
    path = tmp_path / "classifier.pth"
    save_checkpoint(path, model=model.state_dict())
    root = vehicles(tmp_path)
    assert (trainer_of(root, tmp_path / "a", path, "MIM_finetune").model.head.bias == 3).all()
    assert not trainer_of(root, tmp_path / "b", path, "MIM_linear").probe.head[1].bias.any()
