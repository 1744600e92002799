"""Annotations of other tools to COCO: there and back by writers of the tests' own, and odd files of each format."""

import json
import math
import re
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from detection_tools import run_and_list_imports, run_here
from PIL import Image

from coco_annotations.conversion import ConversionOptions, convert
from saratrx.errors import InputError

SIZES = {"a": (60, 40), "b": (100, 80), "c": (64, 64)}
NAMES = ("large ship", "tank", "car")
SUFFIX = {"yolo": ".txt", "dota": ".txt", "labelme": ".json", "voc": ".xml", "cvat": ".xml"}


def quadrangle(rng, width, height):
    """Corners of a turned box inside of an image, clockwise: NumPy's own rotation matrix."""
    angle, sides = rng.uniform(0.1, 1.4), rng.uniform(4, 14, 2)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * sides / 2 @ matrix.T
    centre = rng.uniform(11, (width - 11, height - 11))
    return (corners + centre).round(2), tuple(map(float, (*centre, *sides, angle)))


@pytest.fixture
def truth(tmp_path):
    """Images, and targets: image, class, corners [4, 2] or a box [2, 2], and how a turned box was made."""
    (tmp_path / "images").mkdir()
    rng, found = np.random.default_rng(0), []
    for stem, (width, height) in SIZES.items():
        Image.fromarray(rng.integers(0, 255, (height, width), np.uint8)).save(tmp_path / f"images/{stem}.png")
        for k in range(0 if stem == "c" else 6):
            if k % 2:
                found.append((stem, NAMES[k % 3], *quadrangle(rng, width, height)))
            else:
                corners = np.sort(rng.integers(0, 2 * min(width, height), (2, 2)) / 2, axis=0)
                corners[1] += 2
                found.append((stem, NAMES[k % 3], corners.clip(0, (width, height)), None))
    return found


def of(truth, stem):
    return [each[1:] for each in truth if each[0] == stem]


def write_yolo(folder, truth):
    (folder.parent / "data.yaml").write_text(f"nc: 3\nnames: {list(NAMES)}\n")
    for stem, size in SIZES.items():
        lines = []
        for name, corners, turn in of(truth, stem):
            shares = (corners / size) if turn else np.array([corners.mean(axis=0), corners[1] - corners[0]]) / size
            lines.append(" ".join([str(NAMES.index(name)), *(repr(float(v)) for v in shares.flat)]))
        (folder / f"{stem}.txt").write_text("\n".join(lines))


def write_dota(folder, truth):
    for stem in SIZES:
        lines = ["imagesource:GoogleEarth", "gsd:0.15"]
        for name, corners, turn in of(truth, stem):
            (left, top), (right, bottom) = corners[0], corners[-1] if turn is None else corners[1]
            shape = corners if turn else np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            lines.append(" ".join([*(repr(float(v)) for v in shape.flat), name.replace(" ", "-"), "1"]))
        (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")


def write_labelme(folder, truth):
    for stem, (width, height) in SIZES.items():
        shapes = [
            {
                "label": name,
                "points": corners.tolist() if turn or k % 4 else corners[::-1].tolist(),
                "shape_type": ("rotation" if k % 2 else "polygon") if turn else "rectangle",
            }
            for k, (name, corners, turn) in enumerate(of(truth, stem))
        ]
        content = {"shapes": shapes, "imagePath": f"..\\images\\{stem}.png", "imageData": None}
        (folder / f"{stem}.json").write_text(json.dumps(content | {"imageWidth": width, "imageHeight": height}))


def write_voc(folder, truth):
    for stem, (width, height) in SIZES.items():
        objects = ""
        for name, corners, turn in of(truth, stem):
            if turn:
                parts = zip(("cx", "cy", "w", "h", "angle"), turn, strict=True)
                shape = "<robndbox>" + "".join(f"<{key}>{value!r}</{key}>" for key, value in parts) + "</robndbox>"
            else:
                parts = zip(("xmin", "ymin", "xmax", "ymax"), corners.flat, strict=True)
                shape = "<bndbox>" + "".join(f"<{key}>{float(value)}</{key}>" for key, value in parts) + "</bndbox>"
            objects += f"<object><name>{name}</name><difficult>0</difficult>{shape}</object>"
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        (folder / f"{stem}.xml").write_text(f"<annotation><filename>{stem}.png</filename>{size}{objects}</annotation>")


def write_cvat(folder, truth):
    images = ""
    for number, (stem, (width, height)) in enumerate(SIZES.items()):
        shapes = ""
        for name, corners, turn in of(truth, stem):
            centre, sides = np.array(turn[:2] if turn else 0), np.array(turn[2:4] if turn else 0)
            box = np.array([centre - sides / 2, centre + sides / 2]) if turn else corners
            edges = " ".join(
                f'{key}="{float(value)!r}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box.flat, strict=True)
            )
            rotation = f' rotation="{math.degrees(turn[4])!r}"' if turn else ""
            shapes += f"<box label={quoteattr(name)} {edges}{rotation}/>"
        images += f'<image id="{number}" name="{stem}.png" width="{width}" height="{height}">{shapes}</image>'
    (folder / "all.xml").write_text(f"<annotations><version>1.1</version><meta/>{images}</annotations>")


WRITERS = {"yolo": write_yolo, "dota": write_dota, "labelme": write_labelme, "voc": write_voc, "cvat": write_cvat}


@pytest.mark.parametrize("form", WRITERS)
def test_there_and_back(truth, tmp_path, form):
    folder = tmp_path / "labels"
    folder.mkdir()
    WRITERS[form](folder, truth)
    kind = "voc" if form == "cvat" else form
    zero = ["--from-zero"] if form == "voc" else []
    done = run_here("tools/to_coco.py", "--from", kind, folder, tmp_path / "out.json", *zero)
    assert done.returncode == 0, done.stderr
    assert "3 images, 1 of them without targets; 12 boxes" in done.stdout
    assert "left out" not in done.stdout + done.stderr
    content = json.loads((tmp_path / "out.json").read_text())
    stated = [(each["file_name"], each["width"], each["height"]) for each in content["images"]]
    assert stated == [(f"{stem}.png", *size) for stem, size in SIZES.items()]
    names = {each["id"]: each["name"] for each in content["categories"]}
    wanted = NAMES if form == "yolo" else sorted(name.replace(" ", "-" if form == "dota" else " ") for name in NAMES)
    assert list(names.values()) == list(wanted)
    images = {each["id"]: each["file_name"] for each in content["images"]}
    for entry, (stem, name, corners, turn) in zip(content["annotations"], truth, strict=True):
        assert images[entry["image_id"]] == f"{stem}.png"
        assert names[entry["category_id"]].replace("-", " ") == name
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        assert entry["bbox"] == pytest.approx([left, top, right - left, bottom - top], abs=0.02)
        assert entry["area"] == pytest.approx(entry["bbox"][2] * entry["bbox"][3])
        assert ("segmentation" in entry) == (turn is not None or form == "dota")
        if turn:
            assert entry["segmentation"][0] == pytest.approx(corners.flatten().tolist(), abs=0.02)
        assert entry["iscrowd"] == (form == "dota")
    if form == "dota":
        assert (content["images"][0]["imagesource"], content["images"][0]["gsd"]) == ("GoogleEarth", 0.15)


BOX = "1 0.5 0.5 0.2 0.25"  # of 60 x 40 px: 24, 15 to 36, 25
AT = [24, 15, 12, 10]
LINE = "10 10 30 10 30 20 10 20 tank 0"
THERE = [10, 10, 20, 10]
SHAPE = {"label": "tank", "points": [[10, 10], [30, 20]], "shape_type": "rectangle"}


def lm(shape=None, **facts):
    content = {"shapes": [SHAPE | (shape or {})], "imagePath": "a.png", "imageWidth": 60, "imageHeight": 40} | facts
    return json.dumps(content).encode()


def vc(inside="<bndbox><xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>", name="tank"):
    size = "<size><width>60</width><height>40</height></size>"
    target = f"<object><name>{name}</name>{inside}</object>"
    return f"<annotation><filename>a.png</filename>{size}{target}</annotation>".encode()


def cv(inside='<box label="tank" xtl="10" ytl="10" xbr="30" ybr="20"/>', name="a.png", width="60"):
    image = f'<image id="0" name="{name}" width="{width}" height="40">{inside}</image>'
    return f"<annotations><version>1.1</version>{image}</annotations>".encode()


EMPTY = "left out: 1 "
ODD = {  # format -> name -> the bytes of a file, and the boxes, or a part of the sentence that refuses or warns
    "yolo": {
        "byte order mark": (b"\xef\xbb\xbf" + BOX.encode(), [AT]),
        "utf-16": (BOX.encode("utf-16"), [AT]),
        "crlf and blank lines": (f"\r\n{BOX}\r\n\r\n  \r\n".encode(), [AT]),
        "tabs, old Mac's ends": (BOX.replace(" ", "\t").encode() + b"\r", [AT]),
        "empty": (b"", []),
        "odd blanks": (b"\x1c\n\0\0\n" + BOX.encode() + b"\x1a", [AT]),
        "class out of range": (b"9 0.5 0.5 0.2 0.25", "a.txt, line 1: '9' is not the number of a class, from 0 to 2"),
        "class below 0": (b"-1 0.5 0.5 0.2 0.25", "line 1: '-1' is not the number of a class"),
        "class by name": (b"tank 0.5 0.5 0.2 0.25", "line 1: 'tank' is not the number of a class"),
        "pixels": (f"{BOX}\n1 30 20 12 10".encode(), "line 2 has 30, which is no share of the image's side"),
        "reaches out": (b"1 0.95 0.5 0.2 0.25", [[51, 15, 12, 10]], "1 boxes reach out of their image"),
        "outside": (b"1 1.5 0.5 0.2 0.25", [], EMPTY + "outside of their image"),
        "nan": (b"1 nan 0.5 0.2 0.25", "line 1: 'nan' is not a number below"),
        "infinite": (b"1 1e999 0.5 0.2 0.25", "line 1: '1e999' is not a number below"),
        "comma decimals": (b"1 0,5 0,5 0,2 0,25", "line 1: '0,5' is not a number below .*has a comma: write it with a"),
        "underscore": (b"1 0_5 0.5 0.2 0.25", "line 1: '0_5' is not a number"),
        "twice": (f"{BOX}\n{BOX}".encode(), [AT], EMPTY + r"that stand twice \(the first in .*a.txt, line 2\)"),
        "no area": (f"{BOX}\n1 0.5 0.5 0 0.1".encode(), [AT], EMPTY + "without area"),
        "negative side": (b"1 0.5 0.5 -0.2 0.1", "line 1 has a side below 0"),
        "a score": (BOX.encode() + b" 0.9", "line 1 has five numbers after the class, as found boxes with a score"),
        "too few": (b"1 0.5 0.5 0.2", "line 1 has 3 numbers after the class: four are a box"),
        "polygon": (b"1 0.5 0.5 0.75 0.5 0.75 0.75", [[30, 20, 15, 10]]),
        "corner outside": (b"1 -0.1 0.5 0.1 0.5 0.1 0.75 -0.1 0.75", [[0, 20, 6, 10]]),
        "gbk": ("1 0.5 0.5 0.2 舰".encode("gbk"), "line 1: '舰' is not a number"),
        "binary": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a.txt is no text in UTF-8 or GBK"),
    },
    "dota": {
        "byte order mark": (b"\xef\xbb\xbfimagesource:X\n" + LINE.encode(), [THERE]),
        "crlf and blank lines": (f"gsd:null\r\n\r\n{LINE}\r\n\r\n".encode(), [THERE]),
        "empty": (b"", []),
        "header alone": (b"imagesource:GoogleEarth\ngsd:0.1\n", []),
        "without difficult": (LINE[:-2].encode(), [THERE]),
        "name with a space": (LINE.replace("tank", "large ship").encode(), "line 1 has 11 words, not 9 or 10"),
        "odd difficult": (LINE.replace("tank 0", "tank x").encode(), "line 1: 'x' does not say how difficult"),
        "class out of range": (LINE.replace("tank", "boat").encode(), "line 1: the class 'boat' is not in --classes"),
        "reaches out": (b"50 10 70 10 70 20 50 20 tank 0", [[50, 10, 10, 10]]),
        "outside": (b"70 10 90 10 90 20 70 20 tank 0", [], EMPTY + "outside of their image"),
        "nan": (LINE.replace("30 20", "30 nan").encode(), "line 1: 'nan' is not a number"),
        "comma decimals": (LINE.replace("30 20", "30,5 20").encode(), "line 1: '30,5' is not a number.*has a comma"),
        "twice": (f"{LINE}\n{LINE}".encode(), [THERE], EMPTY + "that stand twice"),
        "no area": (b"10 10 20 20 10 10 20 20 tank 0", [], EMPTY + "without area"),
        "gbk": (LINE.replace("tank", "舰船").encode("gbk"), "line 1: the class '舰船' is not in --classes"),
        "header in the middle": (f"{LINE}\ngsd:0.1".encode(), "line 2 has 1 words"),
        "gsd that is none": (b"gsd:fine", "line 1: 'fine' is not a number"),
        "of yolo": (BOX.encode(), "line 1 has 5 words"),
    },
    "labelme": {
        "byte order mark": (b"\xef\xbb\xbf" + lm(), [THERE]),
        "crlf": (lm().replace(b", ", b",\r\n\r\n"), [THERE]),
        "gbk": (lm({"label": "舰船"}).decode("unicode_escape").encode("gbk"), "the class '舰船' is not in --classes"),
        "empty": (b"", "a.json is no JSON"),
        "no shapes": (lm(shapes=[]), []),
        "another's JSON": (b'{"images": []}', "is no annotation of labelme: it has no list of shapes"),
        "class out of range": (lm({"label": "boat"}), "a.json, shape 1: the class 'boat' is not in --classes"),
        "no label": (lm({"label": None}), "shape 1 has no label"),
        "reaches out": (lm({"points": [[50, 10], [70, 20]]}), [[50, 10, 20, 10]], "1 boxes reach out of their image"),
        "outside": (lm({"points": [[70, 10], [90, 20]]}), [], EMPTY + "outside of their image"),
        "nan": (lm({"points": [[math.nan, 10], [30, 20]]}), "shape 1: nan is not a number"),
        "number as text": (lm({"points": [["10,5", 10], [30, 20]]}), "shape 1: '10,5' is not a number.*has a comma"),
        "true": (lm({"points": [[True, 10], [30, 20]]}), "shape 1: True is not a number"),
        "twice": (lm(shapes=[SHAPE, SHAPE]), [THERE], EMPTY + "that stand twice"),
        "no area": (lm({"points": [[10, 10], [10, 20]]}), [], EMPTY + "without area"),
        "a circle": (lm({"shape_type": "circle"}), [], EMPTY + r"circles \(the first in .*a.json, shape 1\)"),
        "unknown shape": (lm({"shape_type": "blob"}), "shape 1: 'blob' is no type of shape"),
        "two points": (lm({"shape_type": "polygon"}), "shape 1 is a polygon of 2 points, not three or more"),
        "points of three": (lm({"points": [[1, 2, 3], [4, 5, 6]]}), "shape 1: its points are no list of pairs"),
        "another size": (lm(imageWidth=61), "is of an image of 61 x 40 px, and a.png has 60 x 40"),
        "no size": (lm(imageWidth=None, imageHeight=None), [THERE]),
        "deep": (b"[" * 100_000, "a.json is no JSON"),
    },
    "voc": {
        "byte order mark": (b"\xef\xbb\xbf" + vc(), [THERE]),
        "crlf and blank lines": (b"\r\n\r\n" + vc().replace(b"><", b">\r\n<"), [THERE]),
        "utf-16": (vc().decode().encode("utf-16"), [THERE]),
        "gbk": (
            b'<?xml version="1.0" encoding="GBK"?>' + vc(name="舰").decode().encode("gbk"),
            "the class '舰' is not in",
        ),
        "empty": (b"", "a.xml cannot be read as XML"),
        "no object": (vc().replace(b"object>", b"other>"), []),
        "class out of range": (vc(name="boat"), "a.xml, object 1: the class 'boat' is not in --classes"),
        "no name": (vc(name=""), "object 1 has no name"),
        "no box": (vc(inside=""), "object 1 has no <bndbox>, no <robndbox>"),
        "from zero": (vc().replace(b">11<", b">0<"), "VOC counts pixels from 1"),
        "reaches out": (vc().replace(b">30<", b">70<"), [[10, 10, 60, 10]], "1 boxes reach out of their image"),
        "outside": (
            vc().replace(b">11<", b">71<").replace(b">30<", b">90<").replace(b">20<", b">90<"),
            [],
            EMPTY + "out",
        ),
        "nan": (vc().replace(b">30<", b">nan<"), "<xmax> is 'nan', not a number"),
        "comma decimals": (vc().replace(b">30<", b">30,5<"), "<xmax> is '30,5', not a number"),
        "swapped": (vc().replace(b">30<", b">3<"), "object 1 has a box with its corners swapped"),
        "doctype": (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + vc(), "has a document type"),
    },
    "cvat": {
        "byte order mark": (b"\xef\xbb\xbf" + cv(), [THERE]),
        "crlf": (cv().replace(b"><", b">\r\n\r\n<"), [THERE]),
        "no shape": (cv(""), []),
        "a polygon": (cv('<polygon label="tank" points="10,10;30.0,10;30,20"/>'), [THERE]),
        "a polyline": (cv('<polyline label="tank" points="10,10;30,10"/>'), [], EMPTY + "polylines"),
        "two corners": (cv('<polygon label="tank" points="10,10;30,10"/>'), "polygon 1 has no three points"),
        "comma decimals": (cv(cv_box := '<box label="tank" xtl="1,5" ytl="1" xbr="3" ybr="3"/>'), "has a comma"),
        "nan": (cv(cv_box.replace("1,5", "nan")), "image a.png, box 1: 'nan' is not a number"),
        "edge missing": (cv(cv_box.replace('xtl="1,5"', "")), "box 1: '' is not a number"),
        "swapped": (cv(cv_box.replace("1,5", "9")), "box 1 has its corners swapped"),
        "no label": (cv(cv_box.replace("tank", "")), "box 1 is no box or polygon with a label"),
        "no size": (cv(width="0"), "it has no name, or no size"),
        "twice": (cv(cv_box.replace("1,5", "1") * 2), [[1, 1, 2, 2]], EMPTY + "that stand twice"),
    },
}


@pytest.fixture
def one_image(tmp_path):
    """A folder of images with one, and an empty one beside it."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.arange(2400, dtype=np.uint8).reshape(40, 60)).save(tmp_path / "images/a.png")
    return tmp_path


def read(folder, form, **options):
    common = {"classes": NAMES, "format": "voc" if form == "cvat" else form, "output": folder / "out.json"}
    return convert(ConversionOptions(**common | {"source": (folder / "labels",)} | options))


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, cases in ODD.items() for name in cases])
def test_odd_files_give_the_right_boxes_or_one_sentence(one_image, capsys, form, name):
    content, expected, *said = ODD[form][name]
    (one_image / f"labels/a{SUFFIX[form]}").write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as error:
            read(one_image, form)
        assert str(one_image) in str(error.value) and "\n" not in str(error.value)
        return
    found = read(one_image, form)
    assert [image["file_name"] for image in found["images"]] == ["a.png"]
    assert len(found["annotations"]) == len(expected)
    for box, right in zip(found["annotations"], expected, strict=True):
        assert box["bbox"] == pytest.approx(right)
    told = capsys.readouterr().out
    assert re.search(said[0], told) if said else not told


@pytest.mark.parametrize("form", WRITERS)
def test_images_that_are_missing_or_several(one_image, form):
    content = {"yolo": BOX.encode(), "dota": LINE.encode(), "labelme": lm(), "voc": vc(), "cvat": cv()}[form]
    path = one_image / f"labels/b{SUFFIX[form]}"
    path.write_bytes(content.replace(b"a.png", b"b.png"))
    if form in ("yolo", "dota"):
        with pytest.raises(InputError, match=r"images has 0 images called b for .*b\.txt; there should be one"):
            read(one_image, form)
    else:  # they tell the size
        assert read(one_image, form)["images"][0]["file_name"] == "b.png"
        if form != "cvat":
            with pytest.raises(InputError, match=r"has 0 images called b for .*b\."):
                read(one_image, form, images=one_image / "images")
    path.unlink()
    for name in ("a.tif", "b.png"):
        Image.open(one_image / "images/a.png").save(one_image / "images" / name)
    (one_image / f"labels/a{SUFFIX[form]}").write_bytes(content.replace(b"a.png", b"x.png"))
    if form != "cvat":
        with pytest.raises(InputError, match="has 2 images called a"):
            read(one_image, form)


def test_images_without_a_file_are_told(one_image, capsys):
    Image.open(one_image / "images/a.png").save(one_image / "images/b.png")
    (one_image / "labels/a.txt").write_text(BOX)
    read(one_image, "yolo")
    assert "1 images of " in (told := capsys.readouterr().out) and "the first is b.png" in told
    read(one_image, "yolo", source=(one_image / "labels/a.txt",))
    assert not capsys.readouterr().out


def test_two_files_about_one_image_are_refused(one_image):
    for name in ("b", "c"):
        (one_image / f"labels/{name}.json").write_bytes(lm())
    with pytest.raises(InputError, match=r"c\.json and .*b\.json are both about a\.png"):
        read(one_image, "labelme")


CLASS_FILES = {
    "classes.txt": ("ship\ntank\n\n", ["ship", "tank"]),
    "obj.names": ("\ufeffship\r\ntank", ["ship", "tank"]),
    "data.yaml": ("names: {0: ship, 1: 7}", ["ship", "7"]),
    "dataset.yaml": ("names:\n- ship\n- tank\nnc: 2", ["ship", "tank"]),
}
WRONG_CLASS_FILES = {
    "names: {1: ship, 2: tank}": "data.yaml has no names that are a list, or numbered from 0",
    "names: ship": "data.yaml has no names that are a list",
    "names: [yes, no]": "data.yaml has no names that are a list",
    "names: [ship, ship]": "data.yaml: a name of a class is empty or stands twice",
    "names: [ship]\nnc: 2": "data.yaml has 1 names, and nc is 2",
    "names: [ship": "data.yaml cannot be read as YAML",
    "!!python/object/apply:os.system ['true']": "data.yaml cannot be read as YAML",
    "": "data.yaml has no names",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_the_names_of_yolos_classes(one_image, name):
    text, expected = CLASS_FILES[name]
    (one_image / "labels/a.txt").write_text(BOX)
    place = one_image / ("labels" if name.endswith("txt") else "")
    (place / name).write_text(text, encoding="utf-8")
    assert [each["name"] for each in read(one_image, "yolo", classes=None)["categories"]] == expected


@pytest.mark.parametrize("text", WRONG_CLASS_FILES)
def test_names_of_classes_that_cannot_be_meant_are_refused(one_image, text):
    (one_image / "labels/a.txt").write_text(BOX)
    (one_image / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=WRONG_CLASS_FILES[text]):
        read(one_image, "yolo", classes=None)


def test_two_files_of_classes_that_differ_are_refused_and_none_at_all(one_image):
    (one_image / "labels/a.txt").write_text(BOX)
    with pytest.raises(InputError, match=r"have no data\.yaml or dataset\.yaml or .*give the names .* by --classes"):
        read(one_image, "yolo", classes=None)
    (one_image / "data.yaml").write_text("names: [ship, tank]")
    (one_image / "classes.txt").write_text("tank\nship")
    with pytest.raises(InputError, match=r"data\.yaml and .*classes\.txt name other classes"):
        read(one_image, "yolo", classes=None)


def test_wrong_calls(one_image):
    done = run_here("tools/to_coco.py", "--from", "yolo", one_image / "none", one_image / "x.txt", "--from-zero")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (2, 3)
    assert "none: no such file or folder" in lines[0]
    assert "x.txt: must be a file that ends in .json" in lines[1]
    assert "--from-zero is of voc alone" in lines[2]
    done = run_here("tools/to_coco.py", "--from", "dota", one_image / "labels", one_image / "x.json")
    assert (done.returncode, "has no .txt file" in done.stderr) == (2, True)
    (one_image / "labels/a.json").write_bytes(lm())
    words = [one_image / "labels/a.json", one_image / "labels/a.json"]
    done = run_here("tools/to_coco.py", "--from", "labelme", *words)
    assert "is one of the annotation files; name another output" in done.stderr
    assert (one_image / "labels/a.json").read_bytes() == lm()
    (one_image / "b.json").write_bytes(lm())
    done = run_here("tools/to_coco.py", "--from", "labelme", one_image / "b.json", *words[:1], one_image / "x.json")
    assert "are of several folders; convert one folder after another" in done.stderr


def test_it_needs_no_pytorch(one_image):
    (one_image / "labels/a.txt").write_text(BOX)
    words = ["--from", "yolo", one_image / "labels", one_image / "x.json", "--classes", "ship", "tank"]
    done, imported = run_and_list_imports("tools/to_coco.py", *words, cwd=one_image)
    assert done.returncode == 0, done.stderr
    assert not imported & {"torch", "mmdet", "mmcv", "mmengine", "hivit_det"}
