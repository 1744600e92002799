"""Tiles of one scene and copies of one image never stand on both sides of a split."""

import re

import pytest

from coco_annotations.hold_out import LONGEST_NAME, scene_of, scenes_of, split_by_scene, write_once
from saratrx.errors import InputError

TILES = {  # name -> scene
    "P0001_1200_2000_3600_4400.jpg": "P0001",  # scene, and corners: HRSID, SAHI
    "P0001_0_800_7200_8000.jpg": "P0001",
    "harbour_0_0_256_256.png": "harbour",
    "P0001__1__600___1200.png": "P0001",  # DOTA's tools: scale, left, top
    "P0001__0.5__600___1200.png": "P0001",
    "scene__1__0___0.png": "scene",
    "name_1_02.tif": "name",  # gdal_retile: row, column
    "GF3-12_0_512.png": "GF3",
    "000012_3.png": "000012",
    "scene-r3-c5.png": "scene",
    "scene_r0003_c0005.png": "scene",
    "scene_c5_r3.png": "scene",
    "scene_R3C5.png": "scene",
    "scene_x0_y512.png": "scene",
    "scene_x_0_y_512.png": "scene",
    "scene_row3_col5.png": "scene",
    "scene_tile_3.png": "scene",
    "scene-patch12.png": "scene",
    "sub/scene_0_512.png": "sub/scene",
    "sub\\scene_0_512.png": "sub/scene",
}
COPIES = {  # name -> image
    f"000000_png.rf.{'a' * 32}.png": "000000",
    "img-jpg.rf.9ZkQ.jpg": "img",
    "a.rf.0123456789abcdef.jpg": "a",
    "P0001_0_512_png.rf.1b2c.png": "P0001",
    "a_flip.png": "a",
    "a_hflip.png": "a",
    "a_rot90.png": "a",
    "a_rotate_180.png": "a",
    "a_aug_3.png": "a",
    "a_0_512_aug1.png": "a",
    "a - Copy.png": "a",
    "a - Copy (2).png": "a",
    "a_copy2.png": "a",
}
ALONE = [
    *("scene_7.png", "000012.png", "0001_urban.png", "ship_part.png", "urban_crop.png", "scene_r3.png", "max_x1.png"),
    *("seaflip.png", "flip.png", "ship (3).png", "c_90.png", ".png", "Gao_ship_hh_0201608254401010012.jpg"),
]


@pytest.mark.parametrize(("name", "scene"), [*TILES.items(), *COPIES.items()])
def test_tiles_and_copies_are_told_by_names(name, scene):
    assert scene_of(name) == scene


@pytest.mark.parametrize("name", ALONE)
def test_other_images_are_their_own(name):
    assert scenes_of([name, "other.png"]) == [name.removesuffix(".jpg").removesuffix(".png") or name, "other"]


def test_turned_and_numbered_copies_are_told_beside_the_first():
    assert scenes_of(["a.png", "a (2).png", "b (2).png", "a_90.png", "c_90.png"]) == ["a", "a", "b (2)", "a", "c_90"]


@pytest.mark.parametrize("part", ["_1", "-", "_r1", "(1)", " copy", "1", "_1_tile", "a_png.rf."])
def test_names_of_any_form_are_read_at_once(part):
    for length in (LONGEST_NAME, 10**6):
        scenes_of([(part * length)[:length] + "!.png"])


def content_of(*names):
    return {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [{"id": i + 1, "image_id": i} for i in range(len(names))],
        "categories": [],
    }


def names_of(content):
    return {image["file_name"] for image in content["images"]}


@pytest.mark.parametrize(
    "pattern",
    [
        "{0:06d}_png.rf.{1:032x}.png", "P{0:04d}__1__{1}___0.png", "s{0}-r{1}-c5.png", "s{0}_x{1}_y0.png",
        "{0}_{1}.png", "s{0}_tile{1}.png", "s{0}_aug{1}.png", "s{0}_0_{1}_png.rf.ab{1}.png",
    ],
)  # fmt: skip
def test_all_of_one_scene_is_held_out_together(pattern, capsys):
    names = [pattern.format(scene, tile) for scene in range(4) for tile in range(3)]
    train, held = split_by_scene(content_of(*names), 0.25)
    assert len(names_of(held)) == 3
    assert {scene_of(name) for name in names_of(held)}.isdisjoint(map(scene_of, names_of(train)))
    assert {box["image_id"] for box in held["annotations"]} == {image["id"] for image in held["images"]}
    first = scene_of(names[0])
    said = capsys.readouterr().out
    assert said.startswith("validation: 3 of 12 training images, of 4 scenes; 4 of them have several, such as ")
    assert re.search(rf"such as {first} with {re.escape(names[0])}, {re.escape(names[1])}, \.\.\.$", said.strip())


def test_images_without_tiles_are_said_to_be_alone(capsys):
    _, held = split_by_scene(content_of(*(f"scene_{i}.png" for i in range(10))), 0.3)
    assert len(names_of(held)) == 3
    assert capsys.readouterr().out == (
        "validation: 3 of 10 training images, of 10 scenes; "
        "no file name tells of tiles or copies, so that each image is one of its own\n"
    )


def test_a_torn_split_is_told(tmp_path):
    path = write_once(tmp_path / "split/train.json", {"images": []})
    assert write_once(path, {"images": []}) == path
    path.write_text('{"images": [')
    with pytest.raises(InputError, match=r"train.json is no JSON: "):
        write_once(path, {"images": []})
