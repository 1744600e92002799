"""Pascal VOC to COCO: boxes by hand-made numbers, and one sentence for files that cannot be converted."""

import json

import numpy as np
import pytest
from detection_tools import run_and_list_imports, run_here
from PIL import Image

import hivit_det
from coco_annotations import coco_check, voc
from saratrx.errors import InputError

SIZE = "<size><width>60</width><height>40</height><depth>1</depth></size>"


def box(name, corners, difficult=0):
    edges = "".join(
        f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{edges}</bndbox></object>"


def write_xml(folder, stem, *objects, filename=None, size=SIZE):
    folder.mkdir(exist_ok=True)
    filename = f"{stem}.png" if filename is None else filename
    text = f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"
    (folder / f"{stem}.xml").write_text(text)


def make_images(folder, *names):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (40, 60), np.uint8)).save(folder / name)


def convert(folder, **options):
    return voc.convert(voc.xml_files(folder, options.pop("list_file", None)), **options)


def test_pixels_counted_from_one_become_edges(tmp_path):
    write_xml(tmp_path, "b", box("ship", (1, 1, 60, 40)), box("car", (11, 21, 11, 30), difficult=1))
    write_xml(tmp_path, "a", box("ship", (10.5, 1, 20, 2.25)))
    write_xml(tmp_path, "._a", filename="macOS.png")
    assert convert(tmp_path) == {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 2, "file_name": "b.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [9.5, 0, 10.5, 2.25], "area": 23.625, "iscrowd": 0},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [0, 0, 60, 40], "area": 2400, "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 1, "bbox": [10, 20, 1, 10], "area": 10, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "ship"}],
    }


def test_edges_counted_from_zero_stay(tmp_path):
    write_xml(tmp_path, "a", box("ship", (0, 0, 60, 40)), box("ship", (10, 20.5, 11, 30)))
    boxes = [annotation["bbox"] for annotation in convert(tmp_path, from_zero=True)["annotations"]]
    assert boxes == [[0, 0, 60, 40], [10, 20.5, 1, 9.5]]
    with pytest.raises(InputError, match=r"a\.xml has a box that begins at 0, .* give --from-zero$"):
        convert(tmp_path)


def test_a_list_chooses_images_and_classes_fix_the_ids(tmp_path):
    for stem in "abcdef":
        write_xml(tmp_path / "xml", stem, box("ship", (1, 1, 5, 5)))
    chosen = tmp_path / "train.txt"
    chosen.write_text("f\nd 1\nc -1\n\na 1\ne\nc\n")
    content = convert(tmp_path / "xml", list_file=chosen, classes=["tank", "ship"])
    assert [image["file_name"] for image in content["images"]] == [f"{stem}.png" for stem in "acdef"]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [2] * 5
    assert content["categories"] == [{"id": 1, "name": "tank"}, {"id": 2, "name": "ship"}]
    for text, sentence in (
        ("a\nx\n", r"x\.xml: no such file, though .*train\.txt has x"),
        ("9" * 5000, r"9{200}: no such file, though .*train\.txt has 9{300}; correct"),
        ("\n", "no XML file"),
    ):
        chosen.write_text(text)
        with pytest.raises(InputError, match=sentence):
            convert(tmp_path / "xml", list_file=chosen)


def test_names_and_sizes_come_from_the_images_where_the_xml_lacks_them(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "xml"
    make_images(images, "a.png", "b.PNG", "c.bmp", "d.png", "x.png")
    write_xml(folder, "a", filename="x.png", size="")
    write_xml(folder, "b", filename="b", size=SIZE.replace("40", "0"))
    write_xml(folder, "c", filename="", size="<size><width/><height/></size>")
    write_xml(folder, "d", filename="renamed_since.jpg")
    content = convert(folder, images=images)
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.PNG", "c.bmp", "d.png"]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(60, 40)}
    make_images(images, "c.png")
    with pytest.raises(InputError, match=r"has 2 images called c for .*c\.xml"):
        convert(folder, images=images)
    for stem in "bc":
        with pytest.raises(InputError, match=rf"{stem}\.xml has no <filename> .* give --images FOLDER$"):
            voc.convert([folder / f"{stem}.xml"])
    with pytest.raises(InputError, match=r"a\.xml names another image than its own, x\.png; give --images FOLDER"):
        convert(folder)
    write_xml(folder, "a", size="")
    with pytest.raises(InputError, match=r"a\.xml does not say the size of its image; give --images FOLDER$"):
        convert(folder)
    with pytest.raises(InputError, match="no such folder; give --images"):
        convert(folder, images=tmp_path / "absent")


@pytest.mark.parametrize("value", ["1", "True", " true "])
@pytest.mark.parametrize("tag", ["difficult", "Difficult", "DIFFICULT"])
def test_difficult_is_told_in_any_spelling(tmp_path, tag, value):
    first, second = box("ship", (11, 11, 30, 30)), box("ship", (31, 31, 40, 40))
    first = first.replace("<difficult>0</difficult>", f"<{tag}>{value}</{tag}>")
    write_xml(tmp_path, "a", first, second.replace("bndbox", "BndBox").replace("name", "Name"))
    boxes = [(found["bbox"], found["iscrowd"]) for found in convert(tmp_path)["annotations"]]
    assert boxes == [([10, 10, 20, 20], 1), ([30, 30, 10, 10], 0)]


def test_the_image_of_the_same_name_is_meant_whatever_the_xml_says(tmp_path):
    images, folder = tmp_path / "images", tmp_path / "xml"
    make_images(images, "a.png", "b.png", "c.jpg")
    for stem in "ab":
        write_xml(folder, stem, filename="b.png")
    write_xml(folder, "c", filename="c.png")
    write_xml(folder, "other", filename="D:\\my data\\d.png")
    with pytest.raises(InputError, match=r"has 0 images called other for .*other\.xml"):
        convert(folder, images=images)
    make_images(images, "d.png")
    content = convert(folder, images=images)
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png", "c.jpg", "d.png"]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("gb2312", "gb2312"), ("GB2312", "gbk"), ("gbk", "gbk"), ("gb18030", "gb18030"), ("Big5", "big5"),
        ("Shift_JIS", "cp932"), ("utf-8", "utf-8"), ("gb2312", "utf-8-sig"), ("utf-16", "utf-16"), ("x", "utf-32"),
    ],
)  # fmt: skip
def test_names_in_any_encoding_are_read(tmp_path, declared, encoding):
    text = f'<?xml version="1.0" encoding="{declared}"?><annotation><filename>a.png</filename>{SIZE}'
    text += f"{box('港', (11, 11, 30, 30))}</annotation>"
    (tmp_path / "a.XML").write_bytes(text.encode(encoding))
    assert convert(tmp_path)["categories"] == [{"id": 1, "name": "港"}]


def test_rotated_boxes_and_corner_points_become_their_hull(tmp_path):
    for stem, shape in (
        ("a", ROTATED.format(32, 20, 20, 10, 0.5)),
        ("b", ROTATED.format(32, 20, 20, 10, 0.5 + np.pi)),
        ("c", ROTATED.format(58, 20, 20, 10, 0)),  # it reaches out of the image
        ("d", "<points>" + "".join(f"<point>{p}</point>" for p in ("3,4", "10, 2", "12.5,9", "3,4")) + "</points>"),
    ):
        write_xml(tmp_path, stem, f"<object><type>robndbox</type><name>ship</name>{shape}</object>")
    found = [np.round(each["bbox"], 2).tolist() for each in convert(tmp_path)["annotations"]]
    cos, sin = np.cos(0.5), np.sin(0.5)
    width, height = 20 * cos + 10 * sin, 20 * sin + 10 * cos
    hull = np.round([32 - width / 2, 20 - height / 2, width, height], 2).tolist()
    assert hull == [20.83, 10.82, 22.35, 18.36]
    assert found == [hull, hull, [48, 15, 12, 10], [3, 2, 9.5, 7]]


def test_one_file_of_many_annotations_is_read(tmp_path):
    parts = [f"<annotation><filename>{n}.png</filename>{SIZE}{box('ship', (n, 1, 9, 9))}</annotation>" for n in (1, 2)]
    (tmp_path / "all.xml").write_text(f"<annotations>{''.join(parts)}</annotations>")
    content = convert(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["1.png", "2.png"]
    assert [found["image_id"] for found in content["annotations"]] == [1, 2]
    make_images(tmp_path / "images", "1.png", "2.png", "all.png")
    assert convert(tmp_path, images=tmp_path / "images") == content


def test_boxes_that_reach_out_are_told(tmp_path, capsys):
    write_xml(tmp_path, "a", box("ship", (1, 1, 60, 40)), box("ship", (50, 1, 61, 40)))
    assert convert(tmp_path)["annotations"][1]["bbox"] == [49, 0, 12, 40]
    assert capsys.readouterr().out == (
        f"warning: 1 boxes reach out of their image, the first in {tmp_path}/a.xml; tools/check_coco.py lists them\n"
    )


def test_a_list_may_have_extensions_and_a_byte_order_mark(tmp_path):
    for stem in ("a", "b", "c.1"):
        write_xml(tmp_path, stem, filename=f"{stem}.png")
    (tmp_path / "list.txt").write_text("a.png\nc.1\n", encoding="utf-8-sig")
    names = [image["file_name"] for image in convert(tmp_path, list_file=tmp_path / "list.txt")["images"]]
    assert names == ["a.png", "c.1.png"]


BOMB = """<?xml version="1.0"?><!DOCTYPE bomb [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;.png</filename></annotation>"""
ROTATED = "<robndbox><cx>{}</cx><cy>{}</cy><w>{}</w><h>{}</h><angle>{}</angle></robndbox>"
POLYGON = "<annotation><filename>a.png</filename>{}<objects><object><name>ship</name>{}</object></objects></annotation>"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, "cannot be read as XML: it has a document type"),
        (BOMB.replace('version="1.0"', 'version="1.0" encoding="UTF-16"').encode("utf-16"), "it has a document type"),
        ("", "cannot be read as XML: no element found"),
        ("<annotation>", "cannot be read as XML: no element found"),
        (
            '<?xml version="1.0" encoding="GBK"?><annotation>\xff</annotation>'.encode("latin-1"),
            "cannot be read as XML: ",
        ),
        ('<?xml version="1.0" encoding="zlib"?><annotation/>', "cannot be read as XML: "),
        (
            '<?xml version="1.0" encoding="gb2312"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>',
            "it has a document type",
        ),
        (b"\xff\xfe<\0", "cannot be read as XML: "),
        ("<annotation><filename>a.png</filename><filename>b.png</filename></annotation>", "is about several images"),
        ("<annotations><image/><image/></annotations>", "with its images below it, as other tools write; export it"),
        ("<dataset><images><image/></images></dataset>", "with its images below it, as other tools write; export it"),
        (f"<annotation>{'<a/>' * 2**22}</annotation>", "has more than 16,777,216 bytes"),
        (POLYGON.format(SIZE, ROTATED.format(32, 32, 20, 10, 90)), "20 x 10 px at the angle 90; sides must be"),
        (POLYGON.format(SIZE, ROTATED.format(32, 32, 0, 10, 0)), "0 x 10 px at the angle 0; sides must be"),
        (POLYGON.format(SIZE, ROTATED.format(32, 32, 20, 10, "")), "<angle> is '', not a number"),
        (POLYGON.format(SIZE, ROTATED.format(320, 32, 20, 10, 0)), "a box with no area"),
        (POLYGON.format(SIZE, "<points><point>1,2,3</point></points>"), "<point> is '1,2,3', not two numbers"),
        (POLYGON.format(SIZE.replace("60", "1e300"), ""), "<size/width> is '1e300', not a number below 2\\^31"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "cannot be read as XML: "),
        ("<html/>", "is no Pascal VOC annotation: it begins with <html>"),
        (POLYGON.format(SIZE, "<points><point>1,2</point></points>"), "has an object without <bndbox>; polygons"),
        (POLYGON.format(SIZE, "<bndbox><xmin>1</xmin></bndbox>"), "<ymin> is '', not a number"),
        (POLYGON.format(SIZE.replace("60", "wide"), ""), "<size/width> is 'wide', not a number"),
    ],
)
def test_unusable_files_get_one_sentence(tmp_path, text, sentence):
    (tmp_path / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence) as error:
        convert(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'a.xml'}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("corners", "sentence"),
    [
        ((5, 5, 4, 9), "a box with no area, of the edges 4 4 4 9"),
        ((5, "nan", 9, 9), "<ymin> is 'nan', not a number"),
        ((5, 5, "", 9), "<xmax> is '', not a number"),
        ((5, -1, 9, 9), "a box that begins at -1"),
        ((30, 11, 11, 30), "a box with its corners swapped, of the edges 29 10 11 30; correct it"),
        ((61, 5, 90, 9), "a box outside of its image of 60 x 40 px, of the edges 60 4 90 9; remove it"),
        ((5, 5, "9" * 400, 9), "<xmax> is '999999.*9999', not a number"),
        ((5, 5, 1e308, 1e308), "<xmax> is '1e\\+308', not a number below"),
    ],
)
def test_unusable_boxes_get_one_sentence(tmp_path, corners, sentence):
    write_xml(tmp_path, "a", box("ship", corners))
    with pytest.raises(InputError, match=sentence):
        convert(tmp_path)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(InputError, match="names no XML file"):
        convert(tmp_path)
    with pytest.raises(InputError, match="absent: no such folder"):
        convert(tmp_path / "absent")
    write_xml(tmp_path, "a", box("ship", (1, 1, 5, 5)))
    with pytest.raises(InputError, match=r"a\.xml has an object called 'ship'; .* --classes$"):
        convert(tmp_path, classes=["tank"])
    with pytest.raises(InputError, match="--classes ship ship: a name stands twice"):
        convert(tmp_path, classes=["ship", "ship"])
    make_images(tmp_path / "images", "a.png")
    write_xml(tmp_path, "b", filename="a.png")
    with pytest.raises(InputError, match=r"b\.xml names another image than its own, a\.png; give --images FOLDER"):
        convert(tmp_path)
    with pytest.raises(InputError, match=r"b\.xml and .*a\.xml are both about a\.png"):
        convert(tmp_path, images=tmp_path / "images")
    (tmp_path / "b.xml").unlink()
    (tmp_path / "file").touch()
    done = run_here("tools/voc2coco.py", tmp_path, tmp_path / "file/out.json")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: output {tmp_path}/file cannot be made: a file of that name is there; choose another folder\n"
    )


def test_the_command_needs_no_pytorch_and_writes_a_set_that_passes_the_checks_and_loads(tmp_path):
    make_images(tmp_path / "images", "a.png", "b.png")
    write_xml(tmp_path / "xml", "a", box("ship", (1, 2, 30, 40)), box("car", (2, 2, 4, 4), difficult=1))
    write_xml(tmp_path / "xml", "b", box("ship", (5, 5, 60, 40)))
    done, imported = run_and_list_imports("tools/voc2coco.py", "xml", "coco/all.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"coco_annotations", "saratrx", "defusedxml"} <= imported
    assert not imported & {"torch", "torchvision", "timm", "mmengine", "mmcv", "mmdet", "hivit_det"}
    assert done.stdout.splitlines()[-4:] == [
        "coco/all.json: 2 images, 3 boxes, 1 of them difficult",
        "       1 car",
        "       2 ship",
        "wrote coco/all.json; next: python tools/check_coco.py coco/all.json",
    ]
    output = tmp_path / "coco/all.json"
    done = run_here("tools/voc2coco.py", tmp_path / "xml", output, "--classes", "tank")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/xml/a.xml has an object called 'ship'")
    assert list(output.parent.iterdir()) == [output]
    assert json.loads(output.read_text()) == convert(tmp_path / "xml")

    (file,), _ = coco_check.find(tmp_path)
    coco_check.check([file], {"car", "ship"})
    assert (file.folder.as_posix(), file.problems()) == ("images", 0)

    data = hivit_det.CocoByName(
        ann_file=str(output), data_prefix={"img": str(tmp_path / "images")}, metainfo={"classes": ("ship", "car")},
        pipeline=[],
    )  # fmt: skip
    first, second = data[0], data[1]
    assert (first["img_path"], first["width"], first["height"]) == (str(tmp_path / "images/a.png"), 60, 40)
    found = [(box["bbox"], box["bbox_label"], box["ignore_flag"]) for box in first["instances"]]
    assert found == [([0, 1, 30, 40], 0, 0), ([1, 1, 4, 4], 1, 1)]
    assert [box["bbox"] for box in second["instances"]] == [[4, 4, 60, 40]]
