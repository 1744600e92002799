"""What clients of Dassl import and rely on, beside what `test_user_code` uses."""

import io
import sys

import pytest
import torch
from PIL import Image
from small_sets import CLASSES, options, vehicles
from torch.nn import functional as F

import train
from dassl.config import clean_cfg, get_cfg_default
from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerXU
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.evaluation.evaluator import Classification, EvaluatorBase
from dassl.modeling import NETWORK_REGISTRY, Backbone, build_network
from dassl.modeling.ops import ReverseGrad, cross_entropy, mixup
from dassl.modeling.ops.utils import create_onehot, ema_model_update, linear_rampup, sharpen_prob, sigmoid_rampup
from dassl.utils import Logger, init_network_weights, open_all_layers, open_specified_layers, tolist_if_not
from hivit_cls.configuration import extended_defaults
from hivit_cls.plugins import import_plugins
from saratrx.errors import InputError


@pytest.fixture(autouse=True)
def _nothing_stays():
    registries = (DATASET_REGISTRY, TRAINER_REGISTRY, EVALUATOR_REGISTRY, NETWORK_REGISTRY)
    registered = [(registry, dict(registry.objects)) for registry in registries]
    yield
    for registry, objects in registered:
        registry.objects = objects
    for name in [name for name in sys.modules if name.startswith(("user_datasets", "user_trainers"))]:
        del sys.modules[name]


def test_small_tools(tmp_path, monkeypatch):
    assert (tolist_if_not(3), tolist_if_not([3])) == ([3], [3])
    cfg = get_cfg_default()
    clean_cfg(cfg, "mme")
    assert list(cfg.TRAINER) == ["NAME", "MME"]
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    with Logger():  # to the terminal alone
        print("one")
    with Logger(tmp_path / "a.txt"):
        print("two")
    assert (console.getvalue(), (tmp_path / "a.txt").read_text()) == ("one\ntwo\n", "two\n")


def test_samplers():
    cfg = get_cfg_default()
    items = [Datum(str(number)) for number in range(20)]
    assert list(build_sampler("SequentialSampler", cfg, items, batch_size=4, n_domain=0, n_ins=2)) == list(range(20))
    drawn = list(build_sampler("RandomSampler", data_source=items))
    assert sorted(drawn) == list(range(20)) != drawn
    with pytest.raises(InputError, match="DATALOADER sampler RandomDomainSampler: unknown; choose one of"):
        build_sampler("RandomDomainSampler", cfg, items)


def test_layers_are_opened_and_closed():
    model = torch.nn.Sequential()
    model.add_module("body", torch.nn.Linear(2, 2))
    model.add_module("head", torch.nn.Linear(2, 2))
    open_specified_layers(model, "head")
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert (model.body.training, model.head.training) == (False, True)
    open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters())
    assert model.body.training
    with pytest.raises(InputError, match="layers tail: the model has only body, head"):
        open_specified_layers(model, ["head", "tail"])


@pytest.mark.parametrize("kind", ["normal", "xavier", "kaiming", "orthogonal"])
def test_weights_are_drawn_anew(kind):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 5), torch.nn.BatchNorm2d(64), torch.nn.Linear(64, 64))
    init_network_weights(model, kind, gain=0.02)
    assert all(not layer.bias.any() for layer in model)
    expected = {"normal": 0.02, "xavier": 0.02 * (2 / 128) ** 0.5, "kaiming": (2 / 64) ** 0.5, "orthogonal": 0.02 / 8}
    assert model[2].weight.std().item() == pytest.approx(expected[kind], rel=0.1)
    assert model[1].weight.mean().item() == pytest.approx(1, abs=0.02)
    with pytest.raises(InputError, match="init_type uniform: unknown"):
        init_network_weights(model, "uniform")


def test_operations():
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    smooth = 0.9 * create_onehot(labels, 3) + 0.1 / 3
    expected = -(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(cross_entropy(logits, labels, label_smooth=0.1), expected)
    x1, x2 = torch.zeros(500, 1, 2, 2), torch.ones(500, 1, 2, 2)
    y1, y2 = create_onehot(torch.zeros(500, dtype=torch.long), 2), create_onehot(torch.ones(500, dtype=torch.long), 2)
    mixed, soft = mixup(x1, x2, y1, y2, beta=0.5, preserve_order=True)
    assert (mixed <= 0.5).all()
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft[:, 1])
    assert mixup(x1, x2, y1, y2, beta=0.5)[0].mean().item() == pytest.approx(0.5, abs=0.1)
    x = torch.ones(3, requires_grad=True)
    (2 * ReverseGrad()(x, 0.5)).sum().backward()
    assert x.grad.tolist() == [-1.0] * 3
    torch.testing.assert_close(sharpen_prob(torch.tensor([[0.5, 0.25, 0.25]])), torch.tensor([[4 / 6, 1 / 6, 1 / 6]]))
    assert [linear_rampup(step, 10) for step in (0, 5, 20)] == [0, 0.5, 1]
    assert [sigmoid_rampup(step, 10) for step in (0, 10, 20)] == pytest.approx([2.718281828**-5, 1, 1])
    average, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    expected = 0.9 * average.weight + 0.1 * model.weight
    ema_model_update(model, average, 0.9)
    torch.testing.assert_close(average.weight, expected)


def test_bases_and_networks():
    class Mine(Backbone):
        def __init__(self):
            super().__init__()
            self.out_features = 7

    assert Mine().out_features == 7
    NETWORK_REGISTRY.register(Mine)
    assert isinstance(build_network("Mine"), Mine)
    with pytest.raises(InputError, match='network "fcn": unknown'):
        build_network("fcn")
    assert issubclass(Classification, EvaluatorBase)
    for call in (lambda base: base.reset(), lambda base: base.process(None, None), lambda base: base.evaluate()):
        with pytest.raises(NotImplementedError):
            call(EvaluatorBase(get_cfg_default()))


def test_a_trainer_of_labelled_and_unlabelled_images(tmp_path):
    seen = []

    class SemiSet(DatasetBase):
        def __init__(self, cfg):
            folder = tmp_path / "MSTAR_EOC1/TRAIN"
            items = [Datum(str(p), y, 0, c) for y, c in enumerate(CLASSES) for p in sorted((folder / c).iterdir())]
            super().__init__(train_x=items[::4], train_u=items, test=items[:8])

    class Semi(TrainerXU):
        def build_model(self):
            self.model = torch.nn.Linear(48 * 48, self.num_classes)
            self.optim = torch.optim.SGD(self.model.parameters(), lr=1e-3)
            self.register_model("model", self.model, self.optim)

        def forward_backward(self, batch_x, batch_u):
            x, label, u = self.parse_batch_train(batch_x, batch_u)
            seen.append((self.batch_idx, len(x), len(u)))
            loss = F.cross_entropy(self.model(x.flatten(1)), label) + 0 * self.model(u.flatten(1)).sum()
            self.model_backward_and_update(loss)
            return {"loss": loss.item()}

        def model_inference(self, input):  # noqa: A002
            return self.model(input.flatten(1))

    DATASET_REGISTRY.register(SemiSet)
    TRAINER_REGISTRY.register(Semi)
    vehicles(tmp_path, train=10)
    expected = {"train_x": 2, "train_u": 8, "smaller_one": 2}
    for count, batches in expected.items():
        seen.clear()
        opts = ("DATASET.NAME", "SemiSet", "DATALOADER.TRAIN_X.BATCH_SIZE", 5, "TRAIN.COUNT_ITER", count)
        flags = ["--trainer", "Semi", "--seed", 0]
        train.main(options(tmp_path, tmp_path / count, *opts, "OPTIM.MAX_EPOCH", 2, flags=flags))
        assert seen == [(k, 5, 5) for _ in range(2) for k in range(batches)]
    with pytest.raises(
        InputError, match=r"TRAIN.COUNT_ITER both: unknown; choose one of train_x, train_u, smaller_one"
    ):
        train.main(options(tmp_path, tmp_path / "x", *opts[:-1], "both", flags=flags))


PLUGIN = """
from yacs.config import CfgNode as CN
from dassl.engine import TRAINER_REGISTRY, TrainerX

def extend_cfg(cfg):
    cfg.TRAINER.COOP = CN()
    cfg.TRAINER.COOP.N_CTX = 16
    cfg.TRAINER.COOP.CTX_INIT = ""

@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    def check_cfg(self, cfg):
        raise SystemExit(f"{cfg.TRAINER.COOP.N_CTX} {cfg.TRAINER.COOP.CTX_INIT}")
"""
PUBLISHED = """
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

@DATASET_REGISTRY.register()
class MSTAR_SOC(DatasetBase):
    def __init__(self, cfg):
        items = [Datum(cfg.DATASET.ROOT + "/a.png", 0, 0, "a")]
        super().__init__(train_x=items, test=items)
"""


def test_clients_add_keys_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "__file__", str(tmp_path / "train.py"))
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers/coop.py").write_text(PLUGIN)
    config = tmp_path / "c.yaml"
    config.write_text("TRAINER:\n  COOP:\n    N_CTX: 4\n")
    words = ["--trainer", "CoOp", "--config-file", str(config), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"^4 a photo of a$"):
        train.main([*words, "TRAINER.COOP.CTX_INIT", "a photo of a"])
    with pytest.raises(InputError, match=r"TRAINER.COOP.N_CTC: no such key; did you mean TRAINER.COOP.N_CTX"):
        train.main([*words, "TRAINER.COOP.N_CTC", "3"])


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_data_set_of_the_published_fork_stands_in_and_gets_its_crop(tmp_path, order, capsys):
    """There the transform cuts the centre of the four MSTAR sets, by the name of the set."""
    import hivit_cls.datasets.published as own  # noqa: PLC0415

    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/mstar.py").write_text(PUBLISHED)
    ours = DATASET_REGISTRY.objects.pop("MSTAR_SOC")
    if order == "after":
        DATASET_REGISTRY.register(ours)
    import_plugins(tmp_path)
    if order == "before":
        DATASET_REGISTRY.register(ours)
    assert own.LAYOUTS["MSTAR_SOC"] is ours.layout
    assert DATASET_REGISTRY.get("MSTAR_SOC").__module__ == "user_datasets.mstar"
    assert order == "before" or "that of user_datasets.mstar stands in" in capsys.readouterr().out
    image = Image.new("L", (160, 160))
    image.paste(255, (16, 16, 144, 144))  # what a crop of 128 px leaves
    image.save(tmp_path / "a.png")
    cfg = extended_defaults()
    cfg.DATASET.NAME, cfg.DATASET.ROOT, cfg.INPUT.SIZE = "MSTAR_SOC", str(tmp_path), (32, 32)
    dm = DataManager(cfg)
    assert dm.centre_crop == 128
    for transform in (dm.tfm_train, dm.tfm_test, build_transform(cfg), build_transform(cfg, is_train=False)):
        assert transform(image).min() == 1
    cfg.DATASET.NAME = "Other"
    assert build_transform(cfg)(image).min() == 0


def test_random_crop_takes_the_place_of_the_resizing():
    """In Dassl a crop is cut from the image as it is, after padding, before flips."""
    cfg = get_cfg_default()
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS, cfg.INPUT.CROP_PADDING = (32, 32), ["random_crop", "random_flip"], 0
    pixels = torch.arange(256, dtype=torch.uint8).repeat(64, 1)  # each column is one value
    image = Image.fromarray(pixels.numpy())
    for _ in range(5):
        steps = build_transform(cfg)(image)[0].diff(dim=1) * 255
        assert torch.equal(steps.round().abs(), torch.ones(32, 31))  # neighbours stay neighbours: nothing was resized
    cfg.INPUT.CROP_PADDING = 4
    names = [type(step).__name__ for step in build_transform(cfg).transforms]
    assert names[:2] == ["RandomCrop", "RandomHorizontalFlip"]
    cfg.INPUT.SIZE = (96, 96)
    with pytest.raises(InputError, match=r"random_crop: an image of 64x256 px is smaller than INPUT.SIZE \(96, 96\)"):
        build_transform(cfg)(image)


def test_what_is_no_experiment_is_left_out(tmp_path, capsys):
    """Our own folders, and those of others, beside the experiments and beside the seeds."""
    import parse_test_res  # noqa: PLC0415

    for shots in (1, 2):
        for seed in (0, 1):
            folder = tmp_path / f"vit_b16_{shots}shots/seed{seed}"
            folder.mkdir(parents=True)
            (folder / "log.txt").write_text("Finish training\n=> result\n* accuracy: 50.0%\n")
    for other in ("tensorboard/run", "notes", "vit_b16_1shots/tensorboard", "vit_b16_1shots/seeds²"):
        (tmp_path / other).mkdir(parents=True)
    (tmp_path / "accuracy.png").touch()
    parse_test_res.main([str(tmp_path), "--multi-exp"])
    out = capsys.readouterr().out
    assert "Average over 2 experiments" in out
    assert "vit_b16_1shots, 2 of 2 runs" in out
    assert "tensorboard" not in out
