"""predict.py says of images what the test of the run said of them."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import options
from torchvision.transforms.v2.functional import center_crop

import export_classifier
import predict
import train
from hivit_cls.neighbours import nearest
from saratrx.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


def rows_of(folder):
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("trainer", "keys"),
    [("MIM_linear", ("OPTIM.MAX_EPOCH", 20)), ("kNN", ()), ("MIM_finetune", ("OPTIM.MAX_EPOCH", 8))],
)
def test_the_classes_are_those_of_the_runs_own_test(trainer, keys, root, checkpoint, tmp_path):
    run, asked = tmp_path / "run", tmp_path / "predicted"
    train.main(options(root, run, *keys, "MODEL.INIT_WEIGHTS", checkpoint, trainer=trainer, flags=["--seed", 0]))
    results = json.loads((run / "results.json").read_text())
    predict.main([str(run), str(root / "MSTAR_EOC1/TEST"), "--output-dir", str(asked)])
    rows = rows_of(asked)
    assert len(rows) == results["images"]
    correct = {each["name"]: each["correct"] for each in results["classes"]}
    found = dict.fromkeys(correct, 0)
    for row in rows:
        found[row["class"]] += row["class"].startswith(Path(row["image"]).parent.name)
    assert found == correct


@pytest.mark.parametrize("trainer", ["MIM_linear", "MIM_finetune"])
def test_an_onnx_file_gives_the_same_probabilities(trainer, root, checkpoint, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    run, image = tmp_path / "run", root / "MSTAR_EOC1/TEST/T72/001.jpeg"
    train.main(options(root, run, "MODEL.INIT_WEIGHTS", checkpoint, trainer=trainer, flags=["--seed", 0]))
    export_classifier.main([str(run), str(tmp_path / "exported")])
    predict.main([str(run), str(image), "--output-dir", str(tmp_path / "predicted")])
    about = json.loads((tmp_path / "exported/classifier.json").read_text())
    session = runtime.InferenceSession(tmp_path / "exported/model.onnx", providers=["CPUExecutionProvider"])
    cut = center_crop(Image.open(image), 128)  # as all MSTAR's, though these are smaller
    seen = np.asarray(cut.resize((48, 48), Image.Resampling.BICUBIC), np.float32)[None, None] / 255
    assert about["input"][1:] == list(seen.shape[1:])
    (found,) = session.run(None, {"images": np.repeat(seen, 4, axis=0)})
    (right,) = json.loads((tmp_path / "predicted/predictions.json").read_text())["images"]
    assert found[3] == pytest.approx([right["probabilities"][name] for name in about["classes"]], abs=1e-4)


def test_a_training_image_is_its_own_nearest_neighbour(finished, root, tmp_path, capsys):
    predict.main([str(finished), str(root / "MSTAR_EOC1/TRAIN"), "--output-dir", str(tmp_path / "out")])
    own = [row for row in rows_of(tmp_path / "out") if row["nearest_1"] == row["image"]]
    assert len(own) == 16  # the other 4 are for validation
    assert [float(row["nearest_1_similarity"]) for row in own] == pytest.approx([1] * 16, abs=1e-4)
    known = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    for image in known:
        probabilities = list(image["probabilities"].values())
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert Image.open(tmp_path / "out/predictions.png").size[0] > 100
    assert "wrote" in capsys.readouterr().out


def test_images_that_cannot_be_read_are_named_and_lose_nothing(finished, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)).save(good)
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(InputError, match=r"1 of 2 images cannot be read, see predictions.csv: .*bad.png"):
        predict.main([str(finished), str(bad), str(good), "--output-dir", str(tmp_path / "out")])
    rows = {row["image"]: row for row in rows_of(tmp_path / "out")}
    assert rows[str(good)]["class"]
    assert not rows[str(good)]["error"]
    assert not rows[str(bad)]["class"]
    assert "bad.png" in rows[str(bad)]["error"]
    with pytest.raises(InputError, match="none of 1 images can be read"):
        predict.main([str(finished), str(bad), "--output-dir", str(tmp_path / "other")])


def test_wrong_calls(finished, root, tmp_path, monkeypatch):
    out = ["--output-dir", str(tmp_path / "out")]
    for words, sentence in (
        ([str(tmp_path / "none"), str(root)], "no such folder; name one that train.py wrote"),
        ([str(root), str(root)], "has no settings.yaml"),
        ([str(finished), str(tmp_path / "none.png")], "none.png: no such file or folder"),
    ):
        with pytest.raises(InputError, match=sentence):
            predict.main([*words, *out])
    with pytest.raises(InputError, match="no folder of a run"):
        export_classifier.main([str(root), str(tmp_path / "exported")])
    with pytest.raises(InputError, match="holds MSTAR_EOC1"):
        export_classifier.main([str(finished), str(tmp_path / "exported"), "--root", str(tmp_path)])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="ONNX needs more packages"):
        export_classifier.main([str(finished), str(tmp_path / "exported")])
    assert not (tmp_path / "exported").exists()


def test_another_encoder_is_refused(finished, root, checkpoint, tmp_path):
    other = tmp_path / "other.pth"
    content = torch.load(checkpoint, weights_only=True)
    content["model"]["patch_embed.proj.bias"] = content["model"]["patch_embed.proj.bias"] + 1
    torch.save(content, other)
    words = [str(finished), str(root), "--output-dir", str(tmp_path / "out")]
    with pytest.raises(InputError, match="is not the encoder that"):
        predict.main([*words, "--init-weights", str(other)])
    assert not (tmp_path / "out").exists()
    moved = tmp_path / "moved.pth"
    shutil.copy(checkpoint, moved)
    predict.main([*words, "--init-weights", str(moved)])


def test_a_data_set_with_other_classes_is_refused(finished, root, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    results = json.loads((run / "results.json").read_text())
    results["classes"][2]["name"] = "renamed since"
    damaged = results | {"classes": [{"label": []}]}
    for content, sentence in (
        (results, "names class 2 renamed since; the data set has changed"),
        (damaged, "is damaged"),
    ):
        (run / "results.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=sentence):
            predict.main([str(run), str(root), "--output-dir", str(tmp_path / "out")])


def test_nearest_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    memory, asked = torch.randn(7, 5, generator=generator), torch.randn(3, 5, generator=generator)
    similarity, places = nearest(memory, asked, 2)
    mean, deviation = memory.numpy().mean(0), memory.numpy().std(0)
    for row, vector in enumerate(asked.numpy()):
        a = (vector - mean) / deviation
        cosines = []
        for other in memory.numpy():
            b = (other - mean) / deviation
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        order = np.argsort(cosines)[::-1][:2]
        assert places[row].tolist() == order.tolist()
        assert np.allclose(similarity[row], np.array(cosines)[order], atol=1e-4)
