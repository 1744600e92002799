"""The demo page: what it says of an image, that it keeps nothing, and how it ends on what is wrong."""

import asyncio
import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

import demo
import demo_sections
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b
from saratrx.checkpoint import save_checkpoint
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViT
from saratrx.reading import Reading


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.pth"
    save_checkpoint(path, model=HiViT(**SIZES["micro"], img_size=64).state_dict())
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a <b>.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60), dtype=np.uint8)).save(path)
    return path


def pictures_of(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_of_an_encoder_it_shows_all_but_a_reconstruction(encoder, image, tmp_path):
    sections = demo.sections_of(demo.Options(checkpoint=encoder), tmp_path)
    page = demo_sections.look(sections, image, Reading())
    first, *others = pictures_of(page)
    assert np.array_equal(first, np.asarray(Image.open(image)))
    assert len(others) == 2
    assert "encoder.pth holds an encoder alone" in page
    assert "a &lt;b&gt;.png: 90 x 60 pixels, remap percentile" in page
    assert "http" not in page


def test_of_a_pretraining_it_shows_the_reconstruction(image, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "checkpoint-1.pth"
    options = {"model": "mae_hivit_micro_dec32d1b", "input_size": 64, "amp": "off", "norm_pix_loss": True}
    save_checkpoint(path, model=mae_hivit_micro_dec32d1b(img_size=64).state_dict(), args=options)
    page = demo_sections.Encoder(path)(image, Reading())
    assert len(pictures_of(page)) == 2
    assert "alone" not in page


def test_the_middle_square_is_what_is_looked_at():
    grey = np.zeros((40, 100), np.uint8)
    grey[:, 30:70] = 255
    assert demo_sections.middle(grey, 40).shape == (1, 1, 40, 40)
    assert demo_sections.middle(grey, 40).min() == 1


def test_a_bad_file_is_one_sentence_with_its_name(tmp_path):
    bad = tmp_path / "bad <i>.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    page = demo_sections.look({"none": None}, bad, Reading())
    assert page.startswith("<p><strong>bad &lt;i&gt;.png ")
    assert page.count("<") == 4
    assert str(tmp_path) not in page


def test_a_section_that_cannot_look_says_why_and_the_others_go_on(image):
    def refuses(path, reading):
        raise InputError(f"{path}: is too <small>")

    page = demo_sections.look({"A": refuses, "B": lambda path, reading: "seen"}, image, Reading())
    assert page.endswith("<h2>A</h2><p><strong>a &lt;b&gt;.png: is too &lt;small&gt;</strong></p><h2>B</h2>seen")


def test_what_is_written_meanwhile_is_forgotten(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/before").write_text("a")
    with pytest.raises(InputError), demo_sections.forgotten(tmp_path):
        (tmp_path / "kept/after").write_text("b")
        raise InputError("stopped")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["before"]


def test_classes_and_neighbours(image, tmp_path):
    import embed  # noqa: PLC0415 -- both are scripts of the classification stage
    import train  # noqa: PLC0415

    names = ["class", "other"]
    for part, count in (("TRAIN", 3), ("TEST", 1)):
        for label, name in enumerate(names):
            folder = tmp_path / "data/set" / part / name
            folder.mkdir(parents=True)
            for place in range(count):
                values = np.random.default_rng((label, place, count)).integers(0, 128, (48, 48)) + 127 * label
                Image.fromarray(values.astype(np.uint8)).save(folder / f"{place}.png")
    stage = demo.TOP / "classification/configs"
    keys = ["MODEL.BACKBONE.NAME", "raw_pixels", "INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0"]
    keys += ["USE_CUDA", "False", "DATASET.FOLDER", "set"]
    command = f"--root {tmp_path}/data --output-dir {tmp_path}/run --trainer kNN --seed 0".split()
    config = ["--config-file", str(stage / "trainers/kNN/vit_n16.yaml")]
    train.main([*command, "--dataset-config-file", str(stage / "datasets/simulated.yaml"), *config, *keys])
    embed.main(["--images", str(tmp_path / "data"), "--output-dir", str(tmp_path / "embedded"), *config, *keys[:6]])
    work = tmp_path / "work"
    work.mkdir()
    asked = next((tmp_path / "data/set/TEST/other").iterdir())
    classes = demo_sections.Classifier(tmp_path / "run", work)
    near = demo_sections.Neighbours(tmp_path / "embedded", work)
    before = sorted(work.rglob("*.safetensors"))
    assert re.findall("<td>(.*?)</td>", classes(asked, Reading()))[0] == "other"
    assert "0.png 1.00; " in near(asked, Reading())
    assert sorted(work.rglob("*.safetensors")) == before != []


def test_targets_of_a_detector(image, tmp_path):
    from detection_tools import MICRO, STAGE  # noqa: PLC0415 -- both with MMDetection
    from mmdet.registry import MODELS  # noqa: PLC0415
    from mmengine.config import Config  # noqa: PLC0415
    from mmengine.registry import init_default_scope  # noqa: PLC0415

    init_default_scope("mmdet")
    cfg = Config.fromfile(STAGE / "configs/_hivit_/hivit_tiny_simulated.py")
    cfg.merge_from_dict(MICRO)
    cfg.dump(tmp_path / "small.py")
    torch.manual_seed(0)
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict(), "meta": {}}, tmp_path / "small.pth")
    work = tmp_path / "work"
    work.mkdir()
    page = demo_sections.Detector(tmp_path / "small.py", tmp_path / "small.pth", 64, work)(image, Reading())
    (picture,) = pictures_of(page)
    assert picture.shape == (90, 60, 3)
    found = int(re.search(r"(\d+) targets, remap percentile", page)[1])
    assert page.count("<tr>") == 1 + found
    assert "<th>class</th><th>score</th><th>x1</th>" in page
    assert not [path for path in work.rglob("*") if path.is_file()]


def test_options_are_told_together(tmp_path):
    with pytest.raises(InputError) as error:
        demo.Options(checkpoint=tmp_path / "none", run=tmp_path, port=0, detector=(tmp_path / "c.py", tmp_path / "d"))
    for name in ("--port 0", "--checkpoint", f"--run {tmp_path}", "c.py"):
        assert name in str(error.value)


def test_without_gradio_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["demo.py"])
    with pytest.raises(InputError, match=r"pip install -e '\.\[demo\]'"):
        demo.main()


def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    asyncio.run(demo.Policy(app)({}, None, send))
    assert sent[0]["headers"] == [(b"a", b"b"), (b"content-security-policy", demo.POLICY)]
    assert b"http" not in demo.POLICY
    assert sent[1] == {"type": "http.response.body"}


def test_the_page_deletes_what_it_has_looked_at(image, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs pip install -e .[demo]")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "dropped"))
    blocks = demo.page({})
    (event,) = blocks.fns.values()
    assert event.fn(str(image), "percentile", " ")[1].startswith("<figure>")
    assert not image.exists()
