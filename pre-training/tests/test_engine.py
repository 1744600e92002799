import golden
import pytest
import torch
from timm.optim import param_groups_weight_decay

from hivit_mae import engine_pretrain
from hivit_mae.cluster.distributed import Processes
from hivit_mae.cluster.preemption import Preempted, Preemption
from hivit_mae.cluster.watchdog import Watchdog
from hivit_mae.data.loading import Batch
from hivit_mae.engine_pretrain import Run, train_one_epoch
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run import run_log
from hivit_mae.run.nonfinite import NonFiniteGuard, NonFiniteLossError
from hivit_mae.run.options import OptimisationOptions
from hivit_mae.run.run_log import RunLog
from hivit_mae.run.training_state import Checkpoints, Progress, TrainingState
from saratrx.errors import InputError

CPU = torch.device("cpu")
IMAGES = golden.image("engine", (16, 1, 48, 48))
NOISE = torch.rand(16, 9, generator=torch.Generator().manual_seed(0))


class Fixed:
    """Deals out images in order; stands in for BatchLoader and its source."""

    def __init__(self, batch_size, images=IMAGES):
        self.batch_size, self.images = batch_size, images
        self.batches_per_epoch, self.seconds_waited, self.source = len(images) // batch_size, 0.0, self

    def batches(self, epoch, first=0):
        for number in range(first, self.batches_per_epoch):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            yield Batch(torch.arange(len(self.images))[part], self.images[part])

    def name(self, index):
        return f"image {index}"

    def check_bad(self):
        pass


def new_run(tmp_path, loader, accum_iter=1, optimizer=None, preemption=None, **options):
    optimisation = {"batch_size": loader.batch_size, "accum_iter": accum_iter, "epochs": 4, "warmup_epochs": 0}
    processes = Processes(0, 1, CPU)
    torch.manual_seed(0)
    model = micro(img_size=48)
    optimizer = optimizer(model) if optimizer else torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    images_per_step = loader.batch_size * accum_iter
    return Run(
        network=model,
        state=TrainingState(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), Progress()),
        loader=loader,
        optimisation=OptimisationOptions(**optimisation | {"max_nonfinite": 3} | options),
        lr=0.1,
        amp="off",
        mask_ratio=0.75,
        patches=9,
        images_per_step=images_per_step,
        checkpoints=Checkpoints(tmp_path, epochs=4),
        save_minutes=0,
        log=RunLog(
            tmp_path, tmp_path, processes, epochs=4, steps=loader.batches_per_epoch // accum_iter,
            images_per_step=images_per_step,
        ),
        processes=processes,
        guard=NonFiniteGuard(CPU, uses_scaler=False),
        watchdog=Watchdog(None, 0, 1, 0),
        preemption=preemption or Preemption(),
    )  # fmt: skip


def adamw(model):
    return torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=0.1, fused=True)


@pytest.fixture
def noise_of_images(monkeypatch):
    """Masks that belong to the images, whatever their batch."""
    rows = lambda seed, epoch, number, size, *_: NOISE[number * size : (number + 1) * size]  # noqa: E731
    monkeypatch.setattr(engine_pretrain, "masking_noise", rows)


@pytest.mark.usefixtures("noise_of_images")
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    results = []
    for batch_size, accum_iter in ((8, 1), (2, 4)):
        run = new_run(tmp_path, Fixed(batch_size), accum_iter)
        results.append((train_one_epoch(run), run.state.model.state_dict()))
    ((loss, lr), whole), ((loss_of_parts, lr_of_parts), parts) = results
    torch.manual_seed(0)
    start = micro(img_size=48).state_dict()
    moved = {key: (whole[key] - start[key]).abs().max() for key in whole}
    assert moved["decoder_pred.weight"] > 1e-4
    assert all((whole[key] - parts[key]).abs().max() <= 1e-6 + 1e-3 * moved[key] for key in whole)
    assert (loss_of_parts, lr_of_parts) == pytest.approx((loss, lr), rel=1e-5)


def test_the_rate_follows_the_place_in_the_epoch(tmp_path):
    _, lr = train_one_epoch(new_run(tmp_path, Fixed(4)))
    assert lr == pytest.approx(0.1 * 0.5 * (1 + torch.tensor(torch.pi * 0.75 / 4).cos().item()))


@pytest.mark.usefixtures("noise_of_images")
def test_a_batch_whose_loss_is_not_finite_changes_nothing(tmp_path):
    """Its images come in the middle, so that the optimizer has moments that must stay as they are."""
    broken = IMAGES.clone()
    broken[9] = float("nan")
    run = new_run(tmp_path, Fixed(4, broken), optimizer=adamw)
    loss, _ = train_one_epoch(run)
    expected = new_run(tmp_path, Fixed(4), optimizer=adamw)
    good = [batch for batch in expected.loader.batches(0) if batch.indices[0] != 8]
    expected.loader.batches, expected.loader.batches_per_epoch = lambda epoch, first: iter(good), 3
    # the same rates and masks for the other three batches
    rates = iter([engine_pretrain.rate_of_step(run, 0, step) for step in (0, 1, 3, 3)])
    masks = iter([NOISE[:4], NOISE[4:8], NOISE[12:]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_pretrain, "rate_of_step", lambda *_: next(rates))
        patch.setattr(engine_pretrain, "masking_noise", lambda *_: next(masks))
        expected_loss, _ = train_one_epoch(expected)
    assert loss == expected_loss
    assert run.state.progress.skipped == 1
    ours, others = run.state.model.state_dict(), expected.state.model.state_dict()
    assert all(torch.equal(ours[key], others[key]) for key in ours)


def test_too_many_bad_steps_in_a_row_name_the_last_images_over_the_end_of_an_epoch(tmp_path):
    broken = torch.full_like(IMAGES[:8], float("nan"))
    run = new_run(tmp_path, Fixed(4, broken), optimizer=adamw)
    train_one_epoch(run)
    run.state.progress.end_epoch()
    with pytest.raises(NonFiniteLossError, match="not finite in 3 steps in a row") as raised:
        train_one_epoch(run)
    assert raised.value.images == [f"image {number}" for number in range(4, 8)]


def test_a_signal_saves_the_state_after_the_step_in_progress(tmp_path):
    preemption = Preemption()
    run = new_run(tmp_path, Fixed(4), optimizer=adamw, preemption=preemption)
    whole = run.loader.batches

    def interrupted(epoch, first=0):
        for number, batch in enumerate(whole(epoch, first)):
            preemption.received = "SIGUSR1" if number == 1 else ""
            yield batch

    run.loader.batches = interrupted
    with pytest.raises(Preempted, match="SIGUSR1 came: stopped after step 2/4 of epoch 1"):
        train_one_epoch(run)
    assert [path.name for path in Checkpoints(tmp_path).existing()] == ["checkpoint-0-2.pth"]
    assert run.state.progress.step == 2


def test_bad_images_are_looked_for_at_the_lines_of_the_log_and_before_a_state_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, "LOG_EVERY", 3)
    run = new_run(tmp_path, Fixed(2), optimizer=adamw)
    done, looked = [], []
    step = engine_pretrain.optimizer_step
    monkeypatch.setattr(engine_pretrain, "optimizer_step", lambda *args: (done.append(args[-1]), step(*args))[1])
    run.loader.check_bad = lambda: looked.append(done[-1])
    train_one_epoch(run)
    assert done == list(range(8))
    assert looked == [2, 5, 7]
    assert (run.state.progress.epoch, run.state.progress.step) == (0, 8)
    run.state.progress.end_epoch()
    assert (run.state.progress.epoch, run.state.progress.step, run.state.progress.loss_sums) == (1, 0, [])

    def too_many():
        raise InputError("at least 9 of 10 images cannot be read")

    run.loader.check_bad = too_many
    run.preemption.received = "SIGTERM"
    done.clear()
    with pytest.raises(InputError, match="cannot be read"):
        train_one_epoch(run)
    assert done == [0]
    assert not Checkpoints(tmp_path).existing()


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


def test_a_checkpoint_that_cannot_be_written_is_told_at_each_try_and_training_goes_on(tmp_path, monkeypatch, capsys):
    run = new_run(tmp_path, Fixed(4), optimizer=adamw)
    run.save()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    for _ in range(2):
        train_one_epoch(run)
        run.state.progress.end_epoch()
        run.save()
        told = capsys.readouterr().out
        assert f"warning: no checkpoint could be written to {tmp_path} (No space left on device); earlier ones" in told
    assert [path.name for path in Checkpoints(tmp_path).existing()] == ["checkpoint-0.pth"]
