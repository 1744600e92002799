"""The engine's parts by themselves."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.config import get_cfg_default
from dassl.data import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    Registry,
    check_isfile,
    collect_env_info,
    count_num_param,
    listdir_nohidden,
    load_checkpoint,
    load_pretrained_weights,
    read_image,
    resume_from_checkpoint,
    save_checkpoint,
    set_random_seed,
    setup_logger,
)
from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError


def test_registry():
    registry = Registry("ANIMAL")
    with pytest.raises(InputError, match='ANIMAL "cat": unknown; choose one of none, since nothing is registered'):
        registry.get("cat")

    @registry.register()
    class Cat:
        pass

    assert registry.get("Cat") is Cat
    with pytest.raises(KeyError, match="registered as ANIMAL already"):
        registry.register(Cat)
    registry.register(Cat, force=True)
    registry.register(type("Dog", (), {}))
    assert registry.registered_names() == ["Cat", "Dog"]


def test_evaluator_against_plain_counts(tmp_path, capsys):
    cfg = get_cfg_default()
    cfg.TEST.PER_CLASS_RESULT = cfg.TEST.COMPUTE_CMAT = True
    cfg.OUTPUT_DIR = str(tmp_path)
    rng = np.random.default_rng(0)
    true, scores = rng.integers(0, 3, 1234), rng.normal(size=(1234, 4))  # nothing is of class 3, but it is predicted
    scores[np.arange(1234), true] += 1
    evaluator = build_evaluator(cfg, lab2cname={0: "a", 1: "b", 2: "c"})
    for _ in range(2):  # a reset forgets
        evaluator.reset()
        for part in np.array_split(np.arange(1234), 7):
            evaluator.process(torch.from_numpy(scores[part]), torch.from_numpy(true[part]))
        results = evaluator.evaluate()
    pred = scores.argmax(axis=1)
    f1, recalls = [], []
    for label in range(3):
        hits = ((pred == label) & (true == label)).sum()
        recalls.append(hits / (true == label).sum())
        precision = hits / (pred == label).sum()
        f1.append(2 * precision * recalls[-1] / (precision + recalls[-1]))
    accuracy = 100 * (pred == true).mean()
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    expected = [accuracy, 100 - accuracy, 100 * np.mean(f1), 100 * np.mean(recalls)]
    assert list(results.values()) == pytest.approx(expected)
    block = (
        f"=> result\n* total: 1,234\n* correct: {(pred == true).sum():,}\n* accuracy: {accuracy:.1f}%\n"
        f"* error: {100 - accuracy:.1f}%\n* macro_f1: {100 * np.mean(f1):.1f}%\n=> per-class result\n* class: 0 (a)\t"
    )
    assert block in capsys.readouterr().out
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert matrix.shape == (4, 4)
    assert matrix.diagonal()[:3].tolist() == pytest.approx(recalls)


def test_accuracy():
    scores = torch.tensor([[3.0, 2, 1], [1, 2, 3], [2, 3, 1], [1, 3, 2]])
    labels = torch.tensor([0, 1, 2, 1])
    first, second, all_ = compute_accuracy((scores, None), labels, topk=(1, 2, 5))
    assert [first.item(), second.item(), all_.item()] == [50.0, 75.0, 100.0]
    assert first.shape == (1,)


def test_meters():
    meter = AverageMeter()
    meter.update(torch.tensor(4.0), n=3)
    meter.update(8.0)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (8.0, 5.0, 20.0, 4)
    smooth = AverageMeter(ema=True)
    for value in (1.0, 2.0):
        smooth.update(value)
    assert smooth.avg == pytest.approx(1.1)
    meters = MetricMeter(delimiter=", ")
    meters.update({"loss": 1.0, "acc": torch.tensor(50.0)})
    meters.update({"loss": 2.0})
    meters.update(None)
    assert str(meters) == "loss 2.0000 (1.5000), acc 50.0000 (50.0000)"
    with pytest.raises(TypeError, match="must return a dict of numbers, not a float"):
        meters.update(1.0)


def test_logger_writes_both_and_moves_on(tmp_path, monkeypatch):
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    setup_logger(str(tmp_path / "a"))
    print("one")
    setup_logger(str(tmp_path / "b.log"))
    print("two")
    sys.stdout.close()
    assert sys.stdout is console
    assert console.getvalue() == "one\ntwo\n"
    assert (tmp_path / "a/log.txt").read_text() == "one\n"
    assert (tmp_path / "b.log").read_text() == "two\n"
    setup_logger(None)
    assert sys.stdout is console


def test_files_and_seeds(tmp_path, capsys):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).touch()
    assert listdir_nohidden(tmp_path) == ["a", "b"]
    assert check_isfile(tmp_path / "a")
    assert not check_isfile(tmp_path / "c")
    assert f'no file at "{tmp_path / "c"}"' in capsys.readouterr().out
    set_random_seed(0)
    first = torch.rand(2), np.random.rand()
    set_random_seed(0)
    assert torch.equal(torch.rand(2), first[0])
    assert np.random.rand() == first[1]
    assert torch.__version__ in collect_env_info()
    model = torch.nn.Linear(3, 2)
    assert count_num_param(model) == count_num_param(params=model.parameters()) == 8
    assert count_num_param(params=[{"params": [model.weight]}]) == 6


def test_images_are_grey(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "c.png")
    image = read_image(tmp_path / "c.png")
    assert (image.mode, image.size) == ("L", (7, 9))
    np.testing.assert_array_equal(image, Image.fromarray(colours).convert("L"))


def test_several_views_of_an_image(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    cfg = get_cfg_default()
    cfg.INPUT.SIZE, cfg.INPUT.TRANSFORMS = (16, 16), ["random_resized_crop"]
    cfg.DATALOADER.K_TRANSFORMS = 3
    source = [Datum(str(tmp_path / "a.png"), 2, 1, "x")]
    item = DatasetWrapper(cfg, source, build_transform(cfg), is_train=True)[0]
    assert (item["label"], item["domain"], item["impath"], item["index"]) == (2, 1, source[0].impath, 0)
    assert not torch.equal(item["img"], item["img2"])
    assert not torch.equal(item["img2"], item["img3"])
    weak, strong = (lambda image: 1), (lambda image: 2)
    item = DatasetWrapper(cfg, source, [weak, strong], is_train=True)[0]
    assert (item["img"], item["img2"]) == (1, 2)
    assert "img2" not in DatasetWrapper(cfg, source, weak)[0]
    with pytest.raises(InputError, match=r"INPUT.NO_TRANSFORM leaves none"):
        DatasetWrapper(cfg, source, None, is_train=True)
    cfg.DATALOADER.RETURN_IMG0 = True
    with pytest.raises(InputError, match="RETURN_IMG0 True: there is no untransformed image"):
        DatasetWrapper(cfg, source, weak)


def test_checkpoints_come_back(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"state_dict": torch.nn.DataParallel(model).state_dict(), "epoch": 4, "optimizer": optimizer.state_dict()}
    save_checkpoint(state, tmp_path)
    save_checkpoint(state | {"epoch": 5}, tmp_path, model_name="model-best.pth.tar")  # not taken for the newest
    fresh = torch.nn.Linear(3, 2)
    other = torch.optim.AdamW(fresh.parameters(), lr=0.5)
    assert resume_from_checkpoint(tmp_path, fresh, other) == 4
    assert torch.equal(fresh.weight, model.weight)
    assert other.param_groups[0]["lr"] == 0.1
    assert torch.equal(other.state[fresh.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])
    with pytest.raises(CheckpointError, match=r"model.pth.tar-4 does not fit this model"):
        resume_from_checkpoint(tmp_path, torch.nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="holds nothing to resume"):
        resume_from_checkpoint(tmp_path / "none", fresh)


def test_a_changed_byte_is_refused(tmp_path):
    model = torch.nn.Linear(30, 20)
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 1}, tmp_path)
    path = tmp_path / "model.pth.tar-1"
    content = bytearray(path.read_bytes())
    place = content.find(model.weight.detach().numpy().tobytes())
    content[place + 100] ^= 1  # in the middle of the weights, where nothing but the hash can tell
    path.write_bytes(content)
    for read in (load_checkpoint, lambda path: resume_from_checkpoint(path.parent, torch.nn.Linear(30, 20))):
        with pytest.raises(CheckpointError, match=r"model.pth.tar-1 is torn or was changed"):
            read(path)
    (tmp_path / "model.pth.tar-1.sha256").unlink()  # such as Dassl's own have none
    assert load_checkpoint(path)["epoch"] == 1


def test_the_best_model_has_its_own_hash(tmp_path):
    model = torch.nn.Linear(3, 2)
    for epoch in (1, 2):  # the second stands where the first and its hash stood
        torch.nn.init.constant_(model.bias, epoch)
        save_checkpoint({"state_dict": model.state_dict(), "epoch": epoch}, tmp_path, is_best=True)
        best = load_checkpoint(tmp_path / "model-best.pth.tar")
        assert best["epoch"] == epoch
        assert (best["state_dict"]["bias"] == epoch).all()
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 3}, tmp_path, model_name="model-best.pth.tar")
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 4}, tmp_path, is_best=True)
    assert load_checkpoint(tmp_path / "model-best.pth.tar")["epoch"] == 4


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"state_dict": {}, "epoch": Evil()}, tmp_path / "evil")
    with pytest.raises(CheckpointError, match="which can run code, so it was not opened"):
        load_checkpoint(tmp_path / "evil")
    torch.save([1], tmp_path / "list")
    with pytest.raises(CheckpointError, match="has no state_dict"):
        load_checkpoint(tmp_path / "list")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none")


def test_pretrained_weights_are_reported(tmp_path, capsys):
    source, model = torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5))
    weights = {f"0.{key}": value for key, value in source.state_dict().items()}
    torch.save(weights | {"1.weight": torch.zeros(7, 2), "2.bias": torch.zeros(1)}, tmp_path / "w.pth")
    load_pretrained_weights(model, tmp_path / "w.pth")
    assert torch.equal(model[0].weight, source.weight)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == ["  loaded  0 (2)", "  new     1 (2)", "  ignored 1 (1), 2 (1)"]
    with pytest.raises(CheckpointError, match="no name and shape agree"):
        load_pretrained_weights(torch.nn.Conv2d(1, 1, 1), tmp_path / "w.pth")
