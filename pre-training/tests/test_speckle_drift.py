"""The drift of targets under speckle, as `benchmarks/speckle_drift.py` measures it."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from hivit_mae.models.targets import TARGETS, make_target
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViT

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "speckle_drift.py"))


def test_drift_by_hand(benchmark):
    """Two pixels' worth of maps whose deviations are known; black images have no speckle."""
    images = torch.rand(60, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5
    first, second = (benchmark["speckled"](images, 0.15, seed) for seed in (6, 7))
    assert 0 <= first.min() <= first.max() <= 1
    logs = (first / images).log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((0, 0.15), abs=0.002)
    expected = (first - second).abs().mean().item()
    pair = torch.nn.Module()
    pair.forward = lambda batch: torch.cat([batch, 10 * batch], dim=1)
    drift, relative = benchmark["drift"](pair, images, 0.15, 3)
    assert drift == pytest.approx(5.5 * expected, rel=1e-5)
    assert relative == pytest.approx(expected / images.std().item(), rel=1e-5)
    assert benchmark["drift"](make_target("pixel"), torch.zeros(2, 1, 32, 32), 0.15, 0) == (0, 0)


def test_the_table_and_its_file(benchmark, images, tmp_path, monkeypatch, capsys):
    weights = HiViT(**SIZES["micro"], img_size=48).state_dict()
    save_checkpoint(tmp_path / "micro.pth", model=weights)
    words = [str(images), "--images", "6", "--input_size", "48", "--sigma", "0.05", "0.3"]
    words += ["--checkpoint", str(tmp_path / "micro.pth")]
    found = []
    for name in ("a.json", "b.json"):
        monkeypatch.setattr(sys, "argv", ["speckle_drift.py", *words, "--json", str(tmp_path / name)])
        benchmark["main"]()
        found.append(json.loads((tmp_path / name).read_text()))
    assert found[0] == found[1]
    assert found[0]["targets"].keys() == {*TARGETS, str(tmp_path / "micro.pth")} - {"fused_frozen"}
    for row in found[0]["targets"].values():
        assert all(0 < row["0.05"][kind] < row["0.3"][kind] for kind in ("drift", "relative drift"))
    printed = capsys.readouterr().out
    assert "6 images of 48 px" in printed
    assert f"{found[0]['targets']['mgf']['0.3']['drift']:.4f}" in printed

    save_checkpoint(tmp_path / "other.pth", model={"weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"other.pth is of no known size of HiViT"):
        benchmark["features_of"](tmp_path / "other.pth", 48)
