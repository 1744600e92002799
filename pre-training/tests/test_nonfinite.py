import torch

from hivit_mae.run.nonfinite import NonFiniteGuard

BAD, GOOD = torch.tensor(float("nan")), torch.tensor(1.0)


def weights_and_optimizer():
    weight = torch.nn.Parameter(torch.ones(3))
    return weight, torch.optim.AdamW([weight], lr=0.1, fused=True)


def test_the_optimizer_skips_bad_steps_and_is_then_as_if_they_had_not_been():
    results = []
    for with_bad_steps in (False, True):
        weight, optimizer = weights_and_optimizer()
        guard = NonFiniteGuard(torch.device("cpu"), uses_scaler=False)
        for step, gradient in enumerate((0.5, float("nan"), float("inf"), -0.2)):
            weight.grad = torch.full((3,), gradient)
            norm = weight.grad.norm()
            if not with_bad_steps and not norm.isfinite():
                continue
            guard.judge(step, GOOD, norm, optimizer)
            optimizer.step()
        results.append((weight.detach().clone(), *optimizer.state[weight].values()))
        assert guard.read()[:2] == ((2, 2) if with_bad_steps else (0, 0))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert results[0][0][0] != 1


def test_rows_go_on_over_readings_and_end_with_a_good_step():
    _, optimizer = weights_and_optimizer()
    guard = NonFiniteGuard(torch.device("cpu"), uses_scaler=False)
    found = []
    for step, norm in enumerate((BAD, BAD, GOOD, BAD, BAD, BAD)):
        guard.judge(step, norm, norm, optimizer)
        if step in (3, 5):
            found.append(guard.read()[:2])
    assert found == [(2, 3), (3, 5)]


def test_the_images_are_those_of_the_last_step_whose_loss_was_bad():
    _, optimizer = weights_and_optimizer()
    guard = NonFiniteGuard(torch.device("cpu"), uses_scaler=False)
    for step, loss in enumerate((GOOD, BAD, GOOD)):
        for half in (0, 1):
            guard.note_images(step, torch.tensor([10 * step + half]))
        guard.judge(step, loss, BAD, optimizer)
    assert guard.read() == (3, 3, [10, 11])
    guard.note_images(3, torch.tensor([7]))
    guard.judge(3, GOOD, BAD, optimizer)
    assert guard.read() == (4, 4, [7])


def test_the_scaler_of_float16_may_skip_steps_while_the_loss_is_good():
    _, optimizer = weights_and_optimizer()
    guard = NonFiniteGuard(torch.device("cpu"), uses_scaler=True)
    guard.judge(0, GOOD, BAD, optimizer)
    assert not hasattr(optimizer, "found_inf")
    guard.judge(1, BAD, BAD, optimizer)
    assert guard.read()[:2] == (1, 1)
