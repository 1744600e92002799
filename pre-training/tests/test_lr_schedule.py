import golden
import pytest

from hivit_mae.run.lr_schedule import learning_rate


def test_agrees_with_the_published_formula():
    arrays, facts = golden.load("pretrain")
    found = [learning_rate(epoch, **facts["lr_args"]) for epoch in arrays["lr_at"].values]
    assert found == pytest.approx(arrays["lr"].values.tolist(), rel=golden.TOLERANCE, abs=1e-12)


def test_begins_at_zero_peaks_and_ends_at_the_minimum():
    facts = {"lr": 2.0, "min_lr": 0.5, "warmup_epochs": 4, "epochs": 10}
    assert [learning_rate(e, **facts) for e in (0, 2, 4)] == [0, 1, 2]
    assert learning_rate(7, **facts) == pytest.approx(1.25)
    assert learning_rate(10, **facts) == pytest.approx(0.5)
    assert learning_rate(0, **facts | {"warmup_epochs": 0}) == 2.0
