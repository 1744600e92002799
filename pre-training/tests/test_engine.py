from argparse import Namespace

import golden
import pytest
import torch
from micro_pretrain import micro
from torch.utils.data import DataLoader, Dataset

import engine_pretrain
from util.distributed import Processes
from util.run_log import RunLog

IMAGES = golden.image("engine", (16, 1, 48, 48))
NOISE = torch.rand(16, 9, generator=torch.Generator().manual_seed(0))


class Fixed(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return IMAGES[index]

    def report_bad(self):
        pass


def trained(tmp_path, monkeypatch, batch_size, accum_iter):
    """A model after an epoch of plain gradient descent, with masks that belong to the images, and its loss and rate."""
    rows = lambda seed, epoch, number, size, *_: NOISE[number * size : (number + 1) * size]  # noqa: E731
    monkeypatch.setattr(engine_pretrain, "masking_noise", rows)
    args = Namespace(
        batch_size=batch_size, accum_iter=accum_iter, epochs=4, lr=0.1, min_lr=0.0, warmup_epochs=0, mask_ratio=0.75,
        amp="off", clip_grad=None, seed=0, input_size=48, output_dir=tmp_path, log_dir=tmp_path,
    )  # fmt: skip
    processes = Processes(0, 1, torch.device("cpu"))
    loader = DataLoader(Fixed(), batch_size=batch_size)
    torch.manual_seed(0)
    model = micro(img_size=48)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    run_log = RunLog(args, processes, len(loader) // accum_iter, 0)
    result = engine_pretrain.train_one_epoch(model, loader, optimizer, scaler, 0, run_log, processes, args)
    run_log.close()
    return model.state_dict(), result


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    whole, (loss, lr) = trained(tmp_path, monkeypatch, batch_size=8, accum_iter=1)
    parts, (loss_of_parts, lr_of_parts) = trained(tmp_path, monkeypatch, batch_size=2, accum_iter=4)
    torch.manual_seed(0)
    start = micro(img_size=48).state_dict()
    moved = {key: (whole[key] - start[key]).abs().max() for key in whole}
    assert moved["decoder_pred.weight"] > 1e-4
    assert all((whole[key] - parts[key]).abs().max() <= 1e-6 + 1e-3 * moved[key] for key in whole)
    assert (loss_of_parts, lr_of_parts) == pytest.approx((loss, lr), rel=1e-5)


def test_the_rate_follows_the_place_in_the_epoch(tmp_path, monkeypatch):
    _, (_, lr) = trained(tmp_path, monkeypatch, batch_size=4, accum_iter=1)
    assert lr == pytest.approx(0.1 * 0.5 * (1 + torch.tensor(torch.pi * 0.75 / 4).cos().item()))


def test_gradients_are_clipped_to_the_norm():
    weights = [
        torch.nn.Parameter(torch.zeros(3)),
        torch.nn.Parameter(torch.zeros(4)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    for weight, value in zip(weights[:2], (3.0, 4.0), strict=True):
        weight.grad = torch.zeros_like(weight)
        weight.grad[0] = value
    assert engine_pretrain.clip_gradients(weights, None) == pytest.approx(5.0)
    assert weights[1].grad[0] == 4
    assert engine_pretrain.clip_gradients(weights, 1.0) == pytest.approx(5.0)
    assert weights[0].grad[0] == pytest.approx(0.6)
    assert weights[1].grad[0] == pytest.approx(0.8)
