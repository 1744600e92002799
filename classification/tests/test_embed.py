"""embed.py keeps what the trainers compute; similar.py finds an image among itself and others."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sets import STAGE

import embed
import similar
from hivit_cls import embedding
from hivit_cls.encoder import FrozenEncoder
from saratrx import sar_image
from saratrx.errors import InputError

KEYS = ("MODEL.BACKBONE.NAME", "hivit_micro", "INPUT.SIZE", "(48, 48)", "USE_CUDA", "False")


def words(images, output, checkpoint, *keys):
    config = STAGE / "configs/trainers/kNN/vit_t16.yaml"
    given = [*KEYS, "MODEL.INIT_WEIGHTS", str(checkpoint), *keys]
    return ["--images", str(images), "--output-dir", str(output), "--config-file", str(config), *given]


@pytest.fixture(scope="module")
def embedded(root, checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    embed.main(words(root / "MSTAR_EOC1/TRAIN", folder, checkpoint))
    return folder


def test_a_row_is_the_encoders_feature_of_its_image(embedded, root, checkpoint):
    paths, features = embedding.read(embedded)
    assert paths == sorted(map(str, (root / "MSTAR_EOC1/TRAIN").rglob("*.jpeg")))
    cfg = embed.setup_cfg(embed.ConfigOptions(opts=(*KEYS, "MODEL.INIT_WEIGHTS", str(checkpoint))))
    encoder = FrozenEncoder(cfg, torch.device("cpu"))
    image = torch.from_numpy(sar_image.read(paths[7])).float()[None, None] / 255  # 48 px, as the encoder's input
    assert features[7] == pytest.approx(encoder(image)[0].numpy(), abs=1e-4)


def test_what_is_similar_is_found_by_the_same_encoder(embedded, root, tmp_path):
    asked = root / "MSTAR_EOC1/TRAIN/T72/002.jpeg"
    similar.main([str(embedded), str(asked), "--output-dir", str(tmp_path), "--top", "3"])
    with (tmp_path / "similar.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["similar"] == str(asked)
    assert float(rows[0]["cosine"]) == pytest.approx(1, abs=1e-5)
    cosines = [float(row["cosine"]) for row in rows]
    assert cosines == sorted(cosines, reverse=True)
    assert (tmp_path / "similar.png").stat().st_size > 1000


def test_the_same_command_computes_nothing_twice(embedded, root, checkpoint, monkeypatch):
    def compute(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr("hivit_cls.feature_bank.FeatureBank.compute", compute)
    embed.main(words(root / "MSTAR_EOC1/TRAIN", embedded, checkpoint))


def test_raw_pixels_need_no_weights(root, tmp_path):
    keys = ["MODEL.BACKBONE.NAME", "raw_pixels", "USE_CUDA", "False"]
    embed.main(["--images", str(root), "--output-dir", str(tmp_path), *keys])
    paths, features = embedding.read(tmp_path)
    assert features.shape == (len(paths), 1024)


def test_images_that_cannot_be_read_are_named_and_lose_nothing(root, checkpoint, tmp_path):
    good = next((root / "MSTAR_EOC1").rglob("*.jpeg"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.jpeg").write_bytes(good.read_bytes())
    (tmp_path / "in/bad.jpeg").write_bytes(good.read_bytes()[:300])
    with pytest.raises(InputError, match=r"1 of 2 images cannot be read: .*bad.jpeg"):
        embed.main(words(tmp_path / "in", tmp_path / "out", checkpoint))
    paths, features = embedding.read(tmp_path / "out")
    assert [Path(path).name for path in paths] == ["good.jpeg"]
    assert len(features) == 1


def test_names_that_are_no_unicode_are_found_again(root, tmp_path):
    named = os.fsdecode(os.fsencode(tmp_path) + b"/a,\xff\n.jpeg")
    Path(named).write_bytes(next((root / "MSTAR_EOC1").rglob("*.jpeg")).read_bytes())
    embed.main(["--images", named, "--output-dir", str(tmp_path / "out"), "MODEL.BACKBONE.NAME", "raw_pixels"])
    assert embedding.read(tmp_path / "out")[0] == [named]


def test_what_is_not_similar_for_damage_is_told_and_loses_nothing(embedded, root, tmp_path):
    folder, good, bad = tmp_path / "embedded", next((root / "MSTAR_EOC1/TEST").rglob("*.jpeg")), tmp_path / "bad.jpeg"
    shutil.copytree(embedded, folder)
    bad.write_bytes(good.read_bytes()[:300])
    paths, _ = embedding.read(folder)
    (folder / "images.csv").write_text("\n".join(["image", *[str(bad)] * len(paths)]) + "\n")  # changed since
    with pytest.raises(InputError, match=r"1 of 2 images cannot be read: .*bad.jpeg"):
        similar.main([str(folder), str(bad), str(good), "--output-dir", str(tmp_path / "out"), "--top", "99"])
    with (tmp_path / "out/similar.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [str(good)] * len(paths)
    assert (tmp_path / "out/similar.png").is_file()


def test_a_run_is_not_written_over(finished, root, checkpoint):
    before = (finished / "settings.yaml").read_bytes()
    with pytest.raises(InputError, match=r"holds a run of train.py"):
        embed.main(words(root / "MSTAR_EOC1/TRAIN", finished, checkpoint))
    assert (finished / "settings.yaml").read_bytes() == before


def test_old_features_never_stand_beside_new_settings(root, tmp_path, monkeypatch):
    call = ["--images", str(root), "--output-dir", str(tmp_path), "USE_CUDA", "False", "MODEL.BACKBONE.NAME"]
    embed.main([*call, "raw_pixels"])
    monkeypatch.setattr(embedding, "write", lambda *_: None)  # killed before
    embed.main([*call, "hog"])
    with pytest.raises(InputError, match="holds no features"):
        embedding.read(tmp_path)


def test_features_that_are_not_finite_are_told_in_a_sentence(root, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(FrozenEncoder, "pooled", lambda self, images: images.flatten(1) / 0)
    with pytest.raises(InputError, match="features are not finite"):
        embed.main(words(root / "MSTAR_EOC1/TRAIN", tmp_path / "out", checkpoint))


def test_wrong_folders(embedded, root, checkpoint, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        embed.main(words(tmp_path / "none", tmp_path / "out", checkpoint))
    with pytest.raises(InputError, match=r"none is no folder that embed.py wrote|is no folder that embed.py wrote"):
        similar.main([str(tmp_path / "none"), str(root), "--output-dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="must be at least 1"):
        similar.main([str(embedded), str(root), "--output-dir", str(tmp_path / "out"), "--top", "0"])


@pytest.mark.parametrize("name", ["images.csv", "features.npy"])
def test_a_damaged_folder_is_refused(name, embedded, root, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in embedded.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        similar.main([str(folder), str(root), "--output-dir", str(tmp_path / "out")])


HEAD = b"\x93NUMPY\x01\x00\x76\x00"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        HEAD + b"((((" + b"\n" * 114,
        HEAD + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999), }".ljust(117) + b"\n",
    ],
    ids=["empty", "archive", "head", "torn"],
)
def test_what_is_no_array_is_refused(content, tmp_path):
    (tmp_path / "images.csv").write_text("image\na.png\n")
    (tmp_path / "features.npy").write_bytes(content)
    with pytest.raises(InputError, match="holds no features"):
        embedding.read(tmp_path)


@pytest.mark.parametrize(
    ("names", "features"),
    [("image\n", np.zeros((0, 2))), ("image\na\n", np.full((1, 2), np.nan)), ("x,image\na\n", np.zeros((1, 2)))],
    ids=["nothing", "not finite", "torn row"],
)
def test_names_and_features_that_do_not_fit_are_refused(names, features, tmp_path):
    (tmp_path / "images.csv").write_text(names)
    np.save(tmp_path / "features.npy", features.astype(np.float32))
    with pytest.raises(InputError, match=r"do not fit together|holds no features"):
        embedding.read(tmp_path)


def test_features_of_another_width_are_refused(embedded, root, tmp_path):
    folder = tmp_path / "embedded"
    shutil.copytree(embedded, folder)
    np.save(folder / "features.npy", np.zeros((len(embedding.read(folder)[0]), 33), np.float32))
    with pytest.raises(InputError, match=r"settings.yaml and features.npy do not fit together"):
        similar.main([str(folder), str(next(root.rglob("*.jpeg"))), "--output-dir", str(tmp_path / "out")])


def test_pickles_are_not_read(tmp_path):
    (tmp_path / "images.csv").write_text("image\na.png\n")
    np.save(tmp_path / "features.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds no features"):
        embedding.read(tmp_path)
