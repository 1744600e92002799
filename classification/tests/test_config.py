"""The config and the learning rates are Dassl's."""

import json
import math

import golden
import pytest
import torch
from small_sets import STAGE

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from hivit_cls.configuration import extended_defaults, merge_file
from hivit_cls.settings import flatten
from saratrx.errors import InputError


def golden_dassl():
    path = golden.SHARED / "golden" / "dassl.json"
    if not path.is_file():
        pytest.skip(f"no golden values in {path.parent}: set SARATRX_SHARED to the folder that holds golden/")
    return json.loads(path.read_text())


def plain(cfg):
    return {key: plain(value) if isinstance(value, dict) else value for key, value in cfg.items()}


def rates(epochs=30, **changes):
    cfg = get_cfg_default().OPTIM
    base = {
        "NAME": "adamw", "LR": 1e-3, "MAX_EPOCH": epochs, "LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 1,
        "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5, "WARMUP_RECOUNT": True,
    }  # fmt: skip
    for key, value in (base | changes).items():
        cfg[key] = value
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    for _ in range(epochs):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


def test_defaults_are_dassls():
    def as_json(value):
        return json.loads(json.dumps(plain(value)))

    assert as_json(get_cfg_default()) == golden_dassl()["config_defaults"]


def test_own_keys_change_no_default():
    own, dassl = plain(extended_defaults()), plain(get_cfg_default())
    for section, values in dassl.items():
        if isinstance(values, dict):
            assert values.items() <= own[section].items()
        else:
            assert own[section] == values
    assert own["DATASET"]["SUBSAMPLE_CLASSES"] == "all"


def merged(path):
    cfg = extended_defaults()
    merge_file(cfg, path)
    return cfg


def test_a_config_is_a_difference_from_another(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/a.yaml").write_text("OPTIM:\n  LR: 5e-4\n  MAX_EPOCH: 7\nINPUT:\n  TRANSFORMS: [random_flip]\n")
    (tmp_path / "b.yaml").write_text("_BASE_: base/a.yaml\nOPTIM:\n  MAX_EPOCH: 9\nINPUT:\n  SIZE: (32, 32)\n")
    (tmp_path / "c.yaml").write_text("_BASE_: b.yaml\nINPUT:\n  TRANSFORMS: []\n")
    cfg = merged(tmp_path / "c.yaml")
    assert (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS) == (5e-4, 9, [32, 32], [])
    assert merged(tmp_path / "b.yaml").INPUT.TRANSFORMS == ["random_flip"]
    assert "_BASE_" not in cfg


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("_BASE_: other.yaml", r"mine.yaml: _BASE_ goes round in a circle: .*mine.yaml > .*other.yaml > .*mine.yaml"),
        ("_BASE_: mine.yaml", r"mine.yaml: _BASE_ goes round in a circle"),
        (
            "_BASE_: none.yaml",
            r"none.yaml cannot be read: No such file or directory; .*mine.yaml names it as its _BASE_",
        ),
        ("_BASE_: bad.yaml", r"bad.yaml: OPTIM.RATE: no such key; did you mean"),
        ("OPTIM: !!python/object/apply:os.getcwd []", r"mine.yaml: no YAML, could not determine a constructor"),
        ("- 1", r"mine.yaml: no config: it must hold keys and values"),
    ],
)
def test_a_base_that_does_not_fit_gets_a_sentence(tmp_path, text, sentence):
    (tmp_path / "other.yaml").write_text("_BASE_: mine.yaml")
    (tmp_path / "bad.yaml").write_text("OPTIM:\n  RATE: 1")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=sentence) as caught:
        merged(tmp_path / "mine.yaml")
    assert "\n" not in str(caught.value)


def test_the_tiny_configs_differ_in_size_alone():
    for trainer in ("MIM_linear", "MIM_finetune", "kNN"):
        base, tiny = (flatten(merged(STAGE / "configs/trainers" / trainer / f"vit_{x}16.yaml")) for x in "bt")
        differing = {key: (base[key], tiny[key]) for key in base if base[key] != tiny[key]}
        assert differing == {
            "INPUT.SIZE": ([224, 224], [128, 128]),
            "MODEL.BACKBONE.NAME": ("hivit_base", "hivit_tiny"),
        }


def test_rates_are_dassls():
    for name, entry in golden_dassl()["lr"].items():
        assert list(rates(**entry["options"])) == pytest.approx(entry["lr_per_epoch"], rel=1e-9), name


def test_rates_in_closed_form():
    cosine = [0.5e-3 * (1 + math.cos(math.pi * k / 12)) for k in range(12)]
    assert list(rates(12)) == pytest.approx([1e-5, *cosine[:-1]])
    assert list(rates(12, WARMUP_EPOCH=-1)) == pytest.approx(cosine)
    steps = list(rates(9, LR_SCHEDULER="multi_step", STEPSIZE=[2, 5], WARMUP_EPOCH=0))
    assert steps == pytest.approx([1e-3] * 2 + [1e-4] * 3 + [1e-5] * 4)
    assert list(rates(4, LR_SCHEDULER="single_step")) == pytest.approx([1e-5, 1e-3, 1e-3, 1e-3])


def test_without_recount_the_schedule_begins_after_the_warmup():
    """The cosine then starts at its fourth epoch, from the full rate, and reaches 0 as early as it would have."""
    shape = [1 + math.cos(math.pi * k / 8) for k in range(9)]
    expected = [1e-5] * 3 + [1e-3 * shape[k] / shape[3] for k in range(3, 8)]
    assert list(rates(8, WARMUP_EPOCH=3, WARMUP_RECOUNT=False)) == pytest.approx(expected)


@pytest.mark.parametrize("options", [{}, {"WARMUP_EPOCH": 4, "WARMUP_TYPE": "linear"}, {"WARMUP_EPOCH": -1}])
def test_a_restored_schedule_goes_on(options):
    cfg = get_cfg_default().OPTIM
    for key, value in {"LR_SCHEDULER": "cosine", "WARMUP_EPOCH": 2, "MAX_EPOCH": 9, **options}.items():
        cfg[key] = value

    def fresh():
        optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], cfg)
        return optimizer, build_lr_scheduler(optimizer, cfg)

    def go_on(optimizer, scheduler, epochs):
        for _ in range(epochs):
            optimizer.step()
            scheduler.step()
            yield optimizer.param_groups[0]["lr"]

    whole = list(go_on(*fresh(), 8))
    for stop in range(1, 8):
        first = fresh()
        assert list(go_on(*first, stop)) == whole[:stop]
        second = fresh()
        states = [json.loads(json.dumps(part.state_dict())) for part in first[1:]]  # plain values only
        second[0].load_state_dict(first[0].state_dict())
        second[1].load_state_dict(states[0])
        assert list(go_on(*second, 8 - stop)) == whole[stop:]


def test_optimizers():
    cfg = get_cfg_default().OPTIM
    kinds = {"adam": "Adam", "amsgrad": "Adam", "sgd": "SGD", "rmsprop": "RMSprop", "radam": "RAdam", "adamw": "AdamW"}
    for name, kind in kinds.items():
        cfg.NAME, cfg.ADAM_BETA2 = name, 0.95
        optimizer = build_optimizer(torch.nn.Linear(2, 2), cfg)
        assert type(optimizer).__name__ == kind
        group = optimizer.param_groups[0]
        assert (group["lr"], group["weight_decay"]) == (cfg.LR, cfg.WEIGHT_DECAY)
        assert group.get("betas", (0.9, 0.95)) == (0.9, 0.95)
        assert group.get("amsgrad", False) == (name == "amsgrad")
        if kind in ("Adam", "AdamW"):
            assert group["eps"] == (1e-4 if kind == "Adam" else 1e-8)


def test_staged_rates():
    cfg = get_cfg_default().OPTIM
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 3)})
    cfg.STAGED_LR, cfg.NEW_LAYERS = True, ["head"]
    base, new = build_optimizer(model, cfg).param_groups
    assert (base["lr"], new["lr"]) == pytest.approx((cfg.LR * 0.1, cfg.LR))
    assert [p.shape for p in new["params"]] == [(3, 2), (3,)]
    assert [p.shape for p in base["params"]] == [(2, 2), (2,)]
    cfg.NEW_LAYERS = ["tail"]
    with pytest.raises(InputError, match="tail: the model has only body, head"):
        build_optimizer(model, cfg)


@pytest.mark.parametrize(("key", "value"), [("NAME", "lion"), ("LR_SCHEDULER", "wsd"), ("WARMUP_TYPE", "exponential")])
def test_unknown_names_are_refused(key, value):
    with pytest.raises(InputError, match=f"OPTIM.{key} {value}: unknown; choose one of"):
        list(rates(**{key: value}))
