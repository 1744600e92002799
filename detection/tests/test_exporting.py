"""Detectors as ONNX files."""

import json

import pytest
import torch
from detection_tools import MICRO, STAGE, run_here
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope

from hivit_det.running import open_config

SIDE = 64


@pytest.fixture
def trained(tmp_path):
    """A config of a small GFL, and a checkpoint of random weights that find things everywhere."""
    backbone = {key.removeprefix("model.backbone."): value for key, value in MICRO.items() if "backbone" in key}
    config = tmp_path / "small.py"
    config.write_text(f"""
_base_ = "{STAGE / "configs/_hivit_/hivit_nano_simulated_gfl.py"}"
model = dict(
    backbone={backbone}, neck=dict(in_channels={MICRO["model.neck.in_channels"]}),
    data_preprocessor=dict(mean=[40.0, 50.0, 60.0], std=[90.0, 100.0, 110.0]),
)
""")
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(open_config(config).model)
    model.init_weights()
    for parameter in model.bbox_head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.bbox_head.gfl_cls.bias.data += 2
    torch.save(
        {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": ("vehicle", "ship")}}},
        tmp_path / "w.pth",
    )
    return config, tmp_path / "w.pth", model.eval()


def test_an_exported_detector_finds_the_same(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install -e .[onnx]")
    config, weights, model = trained
    done = run_here("tools/export_detector.py", config, weights, tmp_path / "out", "--size", SIDE)
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "out/detector.json").read_text())
    assert (about["classes"], about["input"]) == (["vehicle", "ship"], ["images", 1, SIDE, SIDE])
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    grey = torch.randint(0, 256, (3, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    all_boxes, all_scores = map(torch.from_numpy, session.run(None, {"images": (grey / 255).float().numpy()}))
    meta = {"img_shape": (SIDE, SIDE), "ori_shape": (SIDE, SIDE), "scale_factor": (1.0, 1.0)}
    samples = [DetDataSample(metainfo=meta) for _ in grey]
    images = [image.expand(3, -1, -1).to(torch.uint8) for image in grey]
    with torch.no_grad():
        expected = model.test_step({"inputs": images, "data_samples": samples})
    for boxes, scores, sample in zip(all_boxes, all_scores, expected, strict=True):
        found = sample.pred_instances
        assert len(found) > 5
        assert found.scores.min() > about["score_threshold"]
        # each of them is among the candidates; which of two that overlap wins can depend on the last bit
        is_near = (found.bboxes[:, None] - boxes).abs().amax(dim=2) < 0.01
        is_alike = (found.scores[:, None] - scores[:, found.labels].T).abs() < 1e-4
        assert (is_near & is_alike).any(dim=1).all()
    assert about["nms"] == {"type": "nms", "iou_threshold": 0.3}


def test_what_cannot_be_exported_is_said(trained, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install -e .[onnx]")
    config, weights, _ = trained
    for words, reason in (
        ([config, weights, tmp_path / "out", "--size", "100"], "--size 100: must be a multiple of 32"),
        ([config, weights, tmp_path / "out", "--size", "0"], "--size 0: must be from 1 to 4096"),
        ([config, tmp_path / "none.pth", tmp_path / "out"], "none.pth: no such file"),
        ([config, weights, config], f"FOLDER {config}"),
    ):
        done = run_here("tools/export_detector.py", *words)
        assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    two_stages = tmp_path / "two.py"
    two_stages.write_text(f"_base_ = '{STAGE}/configs/_hivit_/hivit_nano_simulated.py'\n")
    model = MODELS.build(open_config(two_stages).model)
    meta = {"dataset_meta": {"classes": ("vehicle", "ship")}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "two.pth")
    done = run_here("tools/export_detector.py", two_stages, tmp_path / "two.pth", tmp_path / "out")
    assert (done.returncode, "two.py: only detectors with a GFLHead" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "out").exists()
