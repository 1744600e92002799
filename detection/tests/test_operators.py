"""The stand-in for MMCV's compiled operators against plain forms."""

import subprocess
import sys
from importlib.machinery import PathFinder

import pytest
import torch
from mmcv.ops import RoIAlign, nms, roi_pool

import mmcv_stand_in.__main__ as command
from mmcv_stand_in import NAME, StandIn
from mmcv_stand_in.operators import Operators


def plain_nms(boxes, scores, threshold, offset):
    """Keep the best box, drop what overlaps it by more, and so on."""
    kept, left = [], scores.argsort(descending=True).tolist()
    while left:
        best, *others = left
        kept.append(best)
        left = []
        for other in others:
            a, b = boxes[best], boxes[other]
            width, height = ((min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset).clamp(0) for i in (0, 1))
            area = sum((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)) - width * height
            if width * height / area <= threshold:
                left.append(other)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_suppression_by_a_loop(offset, threshold):
    torch.manual_seed(0)
    corner = 20 * torch.rand(60, 2)
    boxes, scores = torch.cat([corner, corner + 1 + 8 * torch.rand(60, 2)], dim=1), torch.rand(60)
    kept, indices = nms(boxes, scores, threshold, offset=offset)
    expected = plain_nms(boxes, scores, threshold, offset)
    assert indices.tolist() == expected
    assert 5 < len(expected) < 60 or threshold == 0.9
    assert torch.equal(kept, torch.cat([boxes, scores[:, None]], dim=1)[expected])


def test_the_offset_matters():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 1, 2, 3]])  # overlap 1/3 without offset, 6/12 with it
    scores = torch.tensor([0.9, 0.8])
    assert [len(nms(boxes, scores, 0.4, offset=offset)[1]) for offset in (0, 1)] == [2, 1]


def test_align_by_a_loop():
    """Mean of 2 x 2 bilinear samples a cell, pixel centres at halves."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 12, 15)
    box = torch.tensor([2.3, 1.2, 11.9, 9.6])
    found = RoIAlign((3, 4), sampling_ratio=2, aligned=True, use_torchvision=True)(
        image, torch.cat([torch.zeros(1), box])[None]
    )
    expected = torch.zeros(3, 3, 4)
    height, width = (box[3] - box[1]) / 3, (box[2] - box[0]) / 4
    for row in range(3):
        for column in range(4):
            for i in (0.25, 0.75):
                for j in (0.25, 0.75):
                    y, x = box[1] + (row + i) * height - 0.5, box[0] + (column + j) * width - 0.5
                    top, left = int(y), int(x)
                    down, right = y - top, x - left
                    for dy, dx, weight in (
                        (0, 0, (1 - down) * (1 - right)),
                        (0, 1, (1 - down) * right),
                        (1, 0, down * (1 - right)),
                        (1, 1, down * right),
                    ):
                        expected[:, row, column] += weight * image[0, :, top + dy, left + dx] / 4
    torch.testing.assert_close(found[0], expected)


def test_other_operators_say_how_to_get_them():
    if not isinstance(sys.modules["mmcv._ext"], Operators):
        pytest.skip("MMCV has its compiled operators here")
    with pytest.raises(
        NotImplementedError, match="roi_pool_forward is a compiled operator of MMCV, which is not installed"
    ):
        roi_pool(torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]), 2)


def test_real_operators_come_first():
    (stand_in,) = [finder for finder in sys.meta_path if isinstance(finder, StandIn)]
    assert sys.meta_path.index(stand_in) > sys.meta_path.index(PathFinder)  # which finds MMCV's own
    assert stand_in.find_spec("mmcv._other", None) is None


def test_whatever_is_imported_first(tmp_path, capsys):
    """MMDetection's own tools import it before they read a config."""
    command.main(tmp_path)
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path}/mmcv_stand_in.pth; ")
    code = f"""import site, sys
sys.meta_path = [finder for finder in sys.meta_path if type(finder).__name__ != "StandIn"]
sys.modules.pop("mmcv_stand_in", None)
site.addsitedir({str(tmp_path)!r})
assert {NAME!r} not in sys.modules and "torch" not in sys.modules, "a start of Python takes no longer"
import mmdet.models
print(sys.modules[{NAME!r}].nms.__qualname__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "Operators.nms"


def test_the_line_of_the_environment_does_nothing_without_the_project(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", command.LINE], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
