"""Every wrong call of what looks at annotations and scenes: a sentence that names what is wrong, and exit code 2."""

import resource

import numpy as np
import pytest
from detection_tools import STAGE, run_and_list_imports, run_here
from PIL import Image

CONFIG = str(STAGE / "configs/_hivit_/hivit_tiny_simulated.py")
INFER, VOC, CHECK = "huge_image_infer.py", "tools/voc2coco.py", "tools/check_coco.py"
RIGHT = {INFER: (CONFIG, "a.pth", "scene.png"), VOC: ("xml", "out.json"), CHECK: ("set",)}
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what right calls need, and with files of other kinds."""
    folder = tmp_path_factory.mktemp("calls")
    for name in ("xml", "set/annotations", "empty", "deep.json", "images"):
        (folder / name).mkdir(parents=True)
    for name in ("scene.png", "again/scene.png", "other.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / name)
    (folder / "a.pth").write_bytes(b"weights")
    (folder / "xml/a.xml").write_text(
        f"<annotation><filename>a.png</filename><size><width>9</width><height>9</height></size>"
        f"<object><name>ship</name>{BOX}</object></annotation>"
    )
    (folder / "set/annotations/train.json").write_text('{"images": [], "annotations": [], "categories": []}')
    for name, text in {
        "text.py": "no config at all",
        "list.py": "[1, 2]",
        "deep.py": f"x = {'[' * 500}{']' * 500}",
        "unknown.txt": "b\n",
        "bytes.txt": "",
        "ten.json": '{"images": [' * 10,
        "numbers.json": "[1, 2]",
        "no_list.json": '{"images": {}, "annotations": [], "categories": []}',
        "no_ids.json": '{"images": [{"file_name": "a.png"}], "annotations": [], "categories": []}',
        "nested.json": "[" * 100_000,
        "null.json": '{"images": null, "annotations": null, "categories": null}',
    }.items():
        (folder / name).write_text(text)
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00a")
    (folder / "bytes.py").write_bytes(b"\0\xff\xfe")
    return folder


WRONG = [  # tool, words after those of a right call, what the sentence names
    (INFER, ["--window", "0"], "--window 0"),
    (INFER, ["--window", "-4"], "--window -4"),
    (INFER, ["--window", "70000"], "--window 70000"),
    (INFER, ["--window", "1e3"], "--window"),
    (INFER, ["--window", "9" * 30], "--window 9999"),
    (INFER, ["--overlap", "-1"], "--overlap -1"),
    (INFER, ["--overlap", "1024"], "--overlap 1024"),
    (INFER, ["--overlap", "9" * 30], "--overlap 9999"),
    (INFER, ["--batch", "0"], "--batch 0"),
    (INFER, ["--batch", "1025"], "--batch 1025"),
    (INFER, ["--batch", "many"], "--batch"),
    (INFER, ["--score", "2"], "--score 2"),
    (INFER, ["--score", "nan"], "--score nan"),
    (INFER, ["--score", "-0.1"], "--score -0.1"),
    (INFER, ["--nms", "-3"], "--nms -3"),
    (INFER, ["--nms", "inf"], "--nms inf"),
    (INFER, ["--merge", "all"], "--merge"),
    (INFER, ["--nothing-like-it"], "--nothing-like-it"),
    (INFER, ["absent.tif"], "absent.tif"),
    (INFER, ["empty"], "empty"),
    (INFER, ["a" * 300], "aaa: no such file"),
    (INFER, ["again/scene.png"], "scene: several scenes have this name"),
    (INFER, ["--parquet", "empty"], "--parquet"),
    (INFER, ["--wgs84=yes"], "--wgs84"),
    (INFER, ["--output_dir", "a.pth"], "--output_dir a.pth"),
    (INFER, ["--output_dir", "a.pth/found"], "--output_dir a.pth/found"),
    (INFER, ["--output_dir", "/proc"], "--output_dir /proc cannot be written to"),
    (VOC, ["--list", "absent.txt"], "absent.txt"),
    (VOC, ["--list", "empty"], "--list empty"),
    (VOC, ["--list", "unknown.txt"], "b.xml: no such file, though unknown.txt has b"),
    (VOC, ["--list", "bytes.txt"], "bytes.txt cannot be read as a list"),
    (VOC, ["--list", "a" * 300], "--list aaa"),
    (VOC, ["--images", "absent"], "--images absent"),
    (VOC, ["--images", "a.pth"], "--images a.pth"),
    (VOC, ["--classes", "ship", "ship"], "--classes ship ship"),
    (VOC, ["--classes", "tank"], "an object called 'ship'"),
    (VOC, ["--from_zero"], "--from_zero"),
    (CHECK, ["--config", "absent.py"], "absent.py"),
    (CHECK, ["--config", "set"], "set: no such file"),
    (CHECK, ["--config", "text.py"], "text.py"),
    (CHECK, ["--config", "bytes.py"], "bytes.py"),
    (CHECK, ["--config", "deep.py"], "deep.py"),
    (CHECK, ["--config", "a.pth"], "a.pth: is no config"),
    (CHECK, ["--confg", CONFIG], "--confg"),
]
WRONG_PLACES = [  # tool, all words, what the sentence names
    (INFER, [], "config"),
    (INFER, [CONFIG, "a.pth"], "scenes"),
    (INFER, ["absent.py", "a.pth", "scene.png"], "absent.py"),
    (INFER, ["text.py", "a.pth", "scene.png"], "text.py"),
    (INFER, ["a.pth", CONFIG, "scene.png"], "a.pth: is no config"),
    (INFER, [CONFIG, "absent.pth", "scene.png"], "absent.pth"),
    (VOC, [], "xml_folder"),
    (VOC, ["xml"], "output"),
    (VOC, ["absent", "out.json"], "absent: no such folder"),
    (VOC, ["xml/a.xml", "out.json"], "xml/a.xml: no such folder"),
    (VOC, ["empty", "out.json"], "empty names no XML file"),
    (VOC, ["xml", "out.csv"], "out.csv"),
    (VOC, ["xml", "deep.json"], "deep.json"),
    (VOC, ["xml", "a.pth/out.json"], "output a.pth"),
    (VOC, ["xml", "/proc/out.json"], "output /proc cannot be written to"),
    (CHECK, [], "data"),
    (CHECK, ["absent"], "absent: no such file or folder"),
    (CHECK, ["a" * 300], "aaa: no such file or folder"),
    (CHECK, ["empty"], "empty is or holds no COCO annotation file"),
    (CHECK, ["a.pth"], "a.pth is no JSON"),
    (CHECK, ["ten.json"], "ten.json is no JSON"),
    (CHECK, ["nested.json"], "nested.json is no JSON"),
    (CHECK, ["numbers.json"], "numbers.json is or holds no COCO annotation file"),
    (CHECK, ["no_list.json"], "no_list.json: images is no list"),
    (CHECK, ["no_ids.json"], "no_ids.json: images[0] has no id"),
    (CHECK, ["null.json"], "null.json: images is no list"),
    (CHECK, ["set", "--config", "list.py"], "list.py has no classes"),
]
CALLS = [(tool, [*RIGHT[tool], *words], named) for tool, words, named in WRONG] + WRONG_PLACES


@pytest.mark.parametrize(("tool", "words", "named"), CALLS, ids=[f"{tool} {named}" for tool, _, named in CALLS])
def test_a_wrong_call_gets_a_sentence(folder, tool, words, named):
    before = sorted(folder.rglob("*"))
    done = run_here(tool, *words, cwd=folder)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert "Traceback" not in done.stdout
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("tool", RIGHT)
def test_a_wrong_call_is_told_without_pytorch(folder, tool):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done, imported = run_and_list_imports(tool, *RIGHT[tool], "--nothing-like-it", cwd=folder)
    assert done.returncode == 2
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2
    assert "error: unrecognized arguments: --nothing-like-it; --help lists the options\n" in done.stderr
    assert not imported & {"torch", "mmengine", "mmdet", "hivit_det"}


@pytest.mark.parametrize("tool", RIGHT)
def test_help_and_version_need_no_pytorch(folder, tool):
    for word in ("--help", "--version"):
        done = run_here(tool, word, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
