"""Whatever a checkpoint contains, and whoever asks MMEngine for it: nothing in it is run."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from detection_tools import run_here
from mmdet.apis import DetInferencer, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from safetensors.torch import save
from small_detector import write_small_detector

from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError


class Runs:
    """Makes a folder, `mark`, when it is unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.mark!r})",)


class InItems(Runs):
    def __reduce__(self):
        return dict, (), None, None, iter([("a", Runs(self.mark))])


def saved(content, **kwargs):
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    return file.getvalue()


def zipped(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def training_state(**changes):
    """What a training saves, as far as a resume looks at it."""
    weights = {"neck.a": torch.zeros(1), "backbone.b": torch.zeros(1)}
    return {"state_dict": weights, "meta": {"epoch": 1, "iter": 2}, "optimizer": {}, "message_hub": {}} | changes


def code(mark):
    return f"import os\nos.mkdir({str(mark)!r})\nmodel = dict(type='FasterRCNN')\n"


def with_config(mark):
    return saved(training_state(meta={"epoch": 1, "iter": 2, "cfg": code(mark), "config": code(mark)}))


FORMS = {
    "in the weights": lambda mark: saved(training_state(state_dict={"neck.a": Runs(mark)})),
    "beside the weights": lambda mark: saved(training_state(meta=Runs(mark))),
    "in the curves": lambda mark: saved(training_state(message_hub={"log_scalars": {"loss": Evaluates(mark)}})),
    "in items of a dict": lambda mark: saved(training_state(optimizer=InItems(mark))),
    "instead of them": lambda mark: saved(Runs(mark)),
    "of the old format": lambda mark: saved(training_state(meta=Runs(mark)), _use_new_zipfile_serialization=False),
    "a plain pickle": lambda mark: pickle.dumps(training_state(meta=Runs(mark), state_dict={})),
    "a pickle of protocol 0": lambda mark: pickle.dumps({"state_dict": Runs(mark)}, protocol=0),
    "os.system by name": lambda mark: zipped(f"cos\nsystem\n(S'mkdir {mark}'\ntR.".encode()),
    "getattr": lambda mark: zipped(f"cbuiltins\ngetattr\n(cos\nmkdir\nS'__call__'\ntR(S'{mark}'\ntR.".encode()),
    "a polyglot": lambda mark: save({"neck.a": torch.zeros(1)}) + saved(training_state(meta=Runs(mark))),
    "a config in its meta": with_config,
    "a config in the curves": lambda mark: saved(training_state(message_hub={"runtime_info": {"cfg": code(mark)}})),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    init_default_scope("mmdet")
    return write_small_detector(tmp_path_factory.mktemp("safe"), images=1)


def tool(*arguments):
    """Run a tool; what it says is raised."""
    done = run_here(*arguments)
    if done.returncode:
        raise InputError(done.stderr)


def train(config, *options):
    tool("tools/train.py", config, "--work-dir", config.parent / "work", *options)


def pretrained(part, file):
    return ["--cfg-options", f"model.{part}.init_cfg.type=Pretrained", f"model.{part}.init_cfg.checkpoint={file}"]


def as_part(config, file):
    cfg = Config.fromfile(config)
    cfg.model.neck.init_cfg = {"type": "Pretrained", "checkpoint": str(file)}
    MODELS.build(cfg.model.neck).init_weights()


def as_runner(config, file):
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from, cfg.model.backbone.init_cfg = str(config.parent / "other"), str(file), None
    Runner.from_cfg(cfg).test()


NONE = ["--init-weights", "none"]
ENTRIES = {
    "--init-weights": lambda config, file: train(config, "--init-weights", file),
    "--resume": lambda config, file: train(config, *NONE, "--resume", file),
    "load_from": lambda config, file: train(config, "--cfg-options", f"load_from={file}"),
    "resume=True": lambda config, file: train(config, *NONE, "--cfg-options", f"load_from={file}", "resume=True"),
    "backbone": lambda config, file: train(config, *pretrained("backbone", file)),
    "neck": lambda config, file: train(config, *NONE, *pretrained("neck", file)),
    "a part by MMEngine": as_part,
    "a test by MMEngine": as_runner,
    "tools/test.py": lambda config, file: tool("tools/test.py", config, file, "--work-dir", config.parent / "test"),
    "huge_image_infer.py": lambda config, file: tool(
        *("huge_image_infer.py", config, file, config.parent / "0.png", "--output_dir", config.parent / "found")
    ),
    "DetInferencer": lambda config, file: DetInferencer(model=str(config), weights=str(file), device="cpu"),
    "DetInferencer, no config": lambda config, file: DetInferencer(weights=str(file), device="cpu"),
    "init_detector": lambda config, file: init_detector(str(config), str(file), device="cpu"),
    "load_checkpoint": lambda config, file: load_checkpoint(torch.nn.Linear(1, 1), str(file), strict=True),
    "CheckpointLoader": lambda config, file: CheckpointLoader.load_checkpoint(str(file), "cpu"),
    "a download": lambda config, file: CheckpointLoader.load_checkpoint(file.as_uri().replace("file", "https"), "cpu"),
}
READABLE = ("a config in its meta", "a config in the curves", "a polyglot")  # nothing in them needs to be run
# These build a detector for each file, so that they take seconds: two forms each, which would not be read at all
SLOW = [
    name for name in ENTRIES if name.startswith(("back", "neck", "a test", "tools", "huge", "a part", "DetInferencer"))
]
SLOW += ["init_detector", "--init-weights", "load_from", "resume=True"]


def forms_for(entry):
    """Give the forms that an entry is tried with."""
    if entry not in SLOW:
        return list(FORMS)
    forms, first = [form for form in FORMS if form not in READABLE], 2 * SLOW.index(entry)
    return [forms[(first + i) % len(forms)] for i in range(2)]


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_checkpoint_runs_anything(config, tmp_path, monkeypatch, entry):
    def download(url, path, **_):
        Path(path).write_bytes(content)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for form in forms_for(entry):
        mark, file = tmp_path / f"ran {form}", tmp_path / f"{form}.pth"
        content = FORMS[form](mark)
        file.write_bytes(content)
        try:
            ENTRIES[entry](config, file)
        except (InputError, ValueError, RuntimeError, KeyError) as error:
            assert form in READABLE or isinstance(error, InputError), (form, error)
        else:
            assert form in READABLE, f"{form} was read"
        assert not mark.exists(), f"{form} ran"


def test_the_marks_are_made_where_a_file_is_unpickled(tmp_path):
    for form in ("in the weights", "in the curves", "in items of a dict"):
        torch.load(io.BytesIO(FORMS[form](tmp_path / form)), weights_only=False)
        assert (tmp_path / form).exists()


def test_a_download_that_fails_is_a_sentence(monkeypatch, tmp_path):
    def download(url, path, **_):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"^https://a\.b/c\.pth cannot be fetched: .*no route to host.*; fetch it"
    ):
        CheckpointLoader.load_checkpoint("https://a.b/c.pth", "cpu")
