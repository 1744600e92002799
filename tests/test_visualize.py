"""What an encoder makes of images, drawn: against plain forms of the same."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from saratrx import visualize
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, Attention, HiViT


def test_attention_times_values_is_what_the_layer_gives():
    torch.manual_seed(0)
    layer, x, bias = Attention(12, 3), torch.randn(2, 5, 12), torch.randn(1, 3, 5, 5)
    weights = visualize.attention_of(layer, x, bias)
    value = layer.qkv(x).reshape(2, 5, 3, 3, 4)[:, :, 2].transpose(1, 2)
    given = layer.proj((weights @ value).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(given, layer(x, bias))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5))


def test_distances_of_attention():
    even = torch.full((1, 1, 6, 6), 1 / 6)
    own = torch.eye(6)[None, None]
    places = [(16 * row, 16 * column) for row in range(2) for column in range(3)]
    mean = np.mean([np.hypot(a - c, b - d) for a, b in places for c, d in places])
    found = visualize.distances(torch.cat([even, own], dim=1), (2, 3))
    assert found.tolist() == pytest.approx([mean, 0], abs=1e-5)


@pytest.mark.parametrize("count", [1, 4])
def test_colours_are_principal_components(count):
    tokens = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 6, 8)))
    values = tokens.numpy() - tokens.numpy().mean(axis=0 if count > 1 else 1, keepdims=True)
    values = values.reshape(-1, 8)
    _, vectors = np.linalg.eigh(values.T @ values)
    found = visualize.colours(tokens).reshape(-1, 3)
    assert found.min() == 0
    assert found.max() == 1
    for place in range(3):
        inside = (found[:, place] > 0) & (found[:, place] < 1)
        assert abs(np.corrcoef(found[inside, place], (values @ vectors[:, -1 - place])[inside])[0, 1]) > 1 - 1e-9


def test_command(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "a.pth", model=HiViT(**SIZES["micro"], img_size=64).state_dict())
    (tmp_path / "in").mkdir()
    for place in range(8):
        values = np.random.default_rng(place).integers(0, 255, (70, 50), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"in/{place}.png")
    words = ["visualize", str(tmp_path / "a.pth"), str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    visualize.main()
    assert "of 6 images" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"tokens.png", "distance.png"}
    with pytest.raises(InputError, match="no such file or folder"):
        visualize.Options(tmp_path / "a.pth", (str(tmp_path / "none"),), tmp_path)
    before = (tmp_path / "out/tokens.png").stat().st_ino
    visualize.main()
    assert (tmp_path / "out/tokens.png").stat().st_ino != before  # written in one step, not over the old one
    for words[1:3] in ([str(tmp_path), str(tmp_path / "in")], [str(tmp_path / "a.pth"), str(tmp_path / "a.pth")]):
        monkeypatch.setattr(sys, "argv", [*words[:-1], str(tmp_path / "other")])
        with pytest.raises(InputError):
            visualize.main()
        assert not (tmp_path / "other").exists()
    save_checkpoint(tmp_path / "other.pth", model={"weight": torch.ones(2, 2)})
    with pytest.raises(InputError, match="is of no known size of HiViT"):
        visualize.load(tmp_path / "other.pth")
