"""Files that would run code when they are unpickled run nothing, wherever they come in; damaged ones are refused."""

import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_sets import dataset, options, vehicles

import train
from dassl.data.datasets import Datum
from dassl.utils import load_pretrained_weights, resume_from_checkpoint
from dassl.utils.checkpoints import load_checkpoint, save_checkpoint
from hivit_cls.datasets.split_files import DatumUnpickler, read_pickled_shots
from saratrx.checkpoint import CheckpointError
from saratrx.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


class Runs:
    """Makes a file, `mark`, when it is unpickled."""

    def __init__(self, mark, call=os.mkdir):
        self.mark, self.call = str(mark), call

    def __reduce__(self):
        return self.call, (self.mark,)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({self.mark!r})",)


class SetsState(Runs):
    def __reduce__(self):
        return Datum, (), {"impath": self}.copy(), None, None


class Dict(dict):
    """A dict with an object in it that runs."""


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


def polyglot(mark):
    """A safetensors file to what reads its beginning, an archive of torch.save to what reads its end."""
    header = b'{"__metadata__":{}}'
    return len(header).to_bytes(8, "little") + header + saved({"state_dict": {}, "epoch": Runs(mark)})


def numpy_objects(mark):
    file = io.BytesIO()
    np.save(file, np.array([Runs(mark)], dtype=object), allow_pickle=True)
    return file.getvalue()


def scripted(mark):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
    return file.getvalue()


WEIGHTS = {"w": torch.zeros(1)}
FORMS = {
    "in the weights": lambda mark: saved({"state_dict": {"w": Runs(mark)}, "epoch": 1}),
    "beside the weights": lambda mark: saved({"state_dict": WEIGHTS, "epoch": 1, "optimizer": Runs(mark)}),
    "instead of them": lambda mark: saved(Runs(mark)),
    "of the old format": lambda mark: saved({"state_dict": {"w": Runs(mark)}}, _use_new_zipfile_serialization=False),
    "a plain pickle": lambda mark: pickle.dumps({"train": [Runs(mark)], "state_dict": {}}),
    "a pickle of protocol 0": lambda mark: pickle.dumps({"train": Runs(mark)}, protocol=0),
    "eval": lambda mark: saved({"state_dict": {"w": Evaluates(mark)}, "epoch": 1}),
    "os.system by name": lambda mark: zipped(f"cos\nsystem\n(S'mkdir {mark}'\ntR.".encode()),
    "getattr": lambda mark: zipped(f"cbuiltins\ngetattr\n(cos\nmkdir\nS'__call__'\ntR(S'{mark}'\ntR.".encode()),
    "in an image's state": lambda mark: pickle.dumps({"train": [SetsState(mark)], "val": []}),
    "a polyglot": polyglot,
    "objects of NumPy": numpy_objects,
    "a script": scripted,
    "a dict's subclass": lambda mark: saved(Dict(state_dict={"w": Runs(mark, os.makedirs)}, epoch=1)),
}


def as_weights(content, root, folder, checkpoint, suffix=".pth"):
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    train.main(options(root, folder / "out", "MODEL.INIT_WEIGHTS", path, flags=["--seed", 0]))


def as_safetensors(content, root, folder, checkpoint):
    as_weights(content, root, folder, checkpoint, suffix=".safetensors")


def run_holding(content, folder, name="model.pth.tar-3"):
    (folder / "run/probe").mkdir(parents=True)
    (folder / "run/probe" / name).write_bytes(content)
    (folder / "run/probe/checkpoint").write_text(name)
    return folder / "run"


def as_tested_model(content, root, folder, checkpoint):
    flags = ["--seed", 0, "--eval-only", "--model-dir", run_holding(content, folder)]
    train.main(options(root, folder / "out", "MODEL.INIT_WEIGHTS", checkpoint, flags=flags))


def as_best_model(content, root, folder, checkpoint):
    flags = ["--seed", 0, "--eval-only", "--model-dir", run_holding(content, folder, "model-best.pth.tar")]
    train.main(options(root, folder / "out", "MODEL.INIT_WEIGHTS", checkpoint, flags=flags))


def as_resumed(content, root, folder, checkpoint):
    flags = ["--seed", 0, "--resume", run_holding(content, folder)]
    train.main(options(root, folder / "out", "MODEL.INIT_WEIGHTS", checkpoint, flags=flags))


def as_own(content, root, folder, checkpoint):
    output = run_holding(content, folder)
    train.main(options(root, output, "MODEL.INIT_WEIGHTS", checkpoint, flags=["--seed", 0]))


def as_pretrained(content, root, folder, checkpoint):
    (folder / "w.pth").write_bytes(content)
    load_pretrained_weights(torch.nn.Linear(1, 1), folder / "w.pth")


def as_state(content, root, folder, checkpoint):
    resume_from_checkpoint(run_holding(content, folder) / "probe", torch.nn.Linear(1, 1))


def as_pickled_shots(content, root, folder, checkpoint):
    vehicles(folder, train=5, test=2)
    path = folder / "MSTAR_EOC1/split_fewshot/shot_2-seed_0.pkl"
    path.parent.mkdir()
    path.write_bytes(content)
    dataset(folder, "DATASET.NUM_SHOTS", 2)


def as_split_file(content, root, folder, checkpoint):
    vehicles(folder, train=5, test=2)
    (folder / "MSTAR_EOC1/split.json").write_bytes(content)
    dataset(folder)


def as_config(content, root, folder, checkpoint):
    (folder / "c.yaml").write_bytes(content)
    train.main(options(root, folder / "out", flags=["--config-file", folder / "c.yaml"]))


def as_image(content, root, folder, checkpoint):
    vehicles(folder, "mine", train=5, test=2)
    (folder / "mine/TRAIN/T72/evil.npy").write_bytes(content)
    dataset(folder, "DATASET.FOLDER", "mine", name="ImageFolders")


ENTRIES = [as_weights, as_safetensors, as_tested_model, as_best_model, as_resumed, as_own]
ENTRIES += [as_pretrained, as_state, as_pickled_shots, as_split_file, as_config, as_image]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_no_file_runs_code(root, tmp_path, checkpoint, entry):
    for number, (name, make) in enumerate(FORMS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        mark = folder / "mark"
        with pytest.raises(InputError) as caught:
            entry(make(mark), root, folder, checkpoint)
        assert not mark.exists(), name
        assert "Traceback" not in str(caught.value)


def test_the_files_would_run_code_if_they_were_unpickled(tmp_path):
    """Or the test above would show nothing."""
    for number, name in enumerate(
        ["in the weights", "instead of them", "of the old format", "eval", "a dict's subclass"]
    ):
        torch.load(io.BytesIO(FORMS[name](tmp_path / str(number))), weights_only=False)  # as a careless reader does
        assert (tmp_path / str(number)).is_dir(), name
    pickle.loads(FORMS["a plain pickle"](tmp_path / "plain"))  # likewise
    assert (tmp_path / "plain").is_dir()


@pytest.mark.parametrize("name", FORMS)
def test_a_bank_runs_nothing_and_gives_right_features(root, tmp_path, finished, checkpoint, name, capsys):
    bank = next((finished / "feature_bank").iterdir())
    place = tmp_path / "bank" / bank.name
    place.mkdir(parents=True)
    (place / "recipe.json").write_bytes((bank / "recipe.json").read_bytes())
    mark = tmp_path / "mark"
    (place / f"{'0' * 64}.safetensors").write_bytes(FORMS[name](mark))
    opts = ("MODEL.INIT_WEIGHTS", checkpoint, "FEATURE_BANK_DIR", tmp_path / "bank")
    train.main(options(root, tmp_path / "out", *opts, flags=["--seed", 0]))
    assert "is damaged: its features are computed again" in capsys.readouterr().out
    assert not mark.exists()
    heads = [load_checkpoint(each / "probe/model.pth.tar-3")["state_dict"] for each in (finished, tmp_path / "out")]
    assert all(torch.equal(value, heads[1][key]) for key, value in heads[0].items())


def test_damaged_checkpoints_are_refused(tmp_path):
    """300 of them, whichever byte it is that differs: of the file, or of its hash."""
    model = torch.nn.Linear(30, 20)
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 1}, tmp_path)
    files = [tmp_path / "model.pth.tar-1", tmp_path / "model.pth.tar-1.sha256"]
    contents = [file.read_bytes() for file in files]
    generator = random.Random(0)
    for number in range(300):
        which = number % 10 == 9
        damaged = bytearray(contents[which])
        damaged[generator.randrange(64 if which else len(damaged))] ^= 1 << generator.randrange(8)
        files[which].write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is torn or was changed"):
            load_checkpoint(files[0])
        files[which].write_bytes(contents[which])
    assert load_checkpoint(files[0])["epoch"] == 1


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_torn_checkpoint_costs_the_epochs_since_the_one_before(tmp_path, damage):
    model = torch.nn.Linear(3, 2)
    for epoch in (5, 10, 15):
        torch.nn.init.constant_(model.bias, epoch)
        save_checkpoint({"state_dict": model.state_dict(), "epoch": epoch}, tmp_path)
    newest = tmp_path / "model.pth.tar-15"
    data = newest.read_bytes()
    newest.write_bytes({"cut": data[:100], "changed": data[:-9] + bytes(9), "emptied": b""}[damage])
    fresh = torch.nn.Linear(3, 2)
    assert resume_from_checkpoint(tmp_path, fresh) == 10
    assert (fresh.bias == 10).all()
    for epoch in (5, 10):
        (tmp_path / f"model.pth.tar-{epoch}").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"model\.pth\.tar-5"):
        resume_from_checkpoint(tmp_path, fresh)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\0\0", b"../../else", b"model.pth.tar-9", b"checkpoint", b"n" * 300]
)
def test_a_damaged_pointer_does_not_stop_a_resume(tmp_path, content):
    model = torch.nn.Linear(3, 2)
    for epoch in (2, 10):
        torch.nn.init.constant_(model.bias, epoch)
        save_checkpoint({"state_dict": model.state_dict(), "epoch": epoch}, tmp_path)
    (tmp_path / "checkpoint").write_bytes(content)
    fresh = torch.nn.Linear(3, 2)
    assert resume_from_checkpoint(tmp_path, fresh) == 10
    assert (fresh.bias == 10).all()


# What Dassl's own `Datum` leaves in a pickle
PICKLED = b"""(dVtrain
(lccopy_reg
_reconstructor
(cdassl.data.datasets.base_dataset
Datum
c__builtin__
object
NtR(dV_impath
V%s
sV_label
I3
sV_domain
I0
sV_classname
Vtank
sbasVval
(ls."""


def test_pickled_shots_of_dassls_clients_are_read(tmp_path):
    root = vehicles(tmp_path)
    names = {0: "2S1", 1: "BRDM2", 2: "T72", 3: "ZSU234"}
    full = {0: "2S1, self-propelled howitzer", 1: "BRDM2, armoured reconnaissance vehicle", 2: "T72, main battle tank"}
    full[3] = "ZSU234, self-propelled anti-aircraft gun"
    items = [Datum(f"/elsewhere/MSTAR_EOC1/TRAIN/{names[y]}/00{k}.jpeg", y, 0, full[y]) for y in names for k in (7, 8)]
    folder = root / "MSTAR_EOC1/split_fewshot"
    folder.mkdir()
    (folder / "shot_2-seed_0.pkl").write_bytes(pickle.dumps({"train": items, "val": items[:1]}))
    found = dataset(root, "DATASET.NUM_SHOTS", 2)
    assert sorted(Path(item.impath).name for item in found.train_x) == ["007.jpeg"] * 4 + ["008.jpeg"] * 4
    assert {item.label: Path(item.impath).parts[-2] for item in found.train_x} == names
    assert all(item.impath.startswith(str(root)) for item in found.train_x)
    shifted = [Datum(item.impath, (item.label + 1) % 4, 0, item.classname) for item in items]
    (folder / "shot_2-seed_0.pkl").write_bytes(pickle.dumps({"train": shifted, "val": []}))
    with pytest.raises(InputError, match="label 0 is called"):
        dataset(root, "DATASET.NUM_SHOTS", 2)


def test_no_label_becomes_0_for_want_of_one(tmp_path):
    """Dassl's `Datum` keeps its values under names with underscores, which ours once passed over."""
    image = tmp_path / "set/a.jpeg"
    image.parent.mkdir()
    image.touch()
    (item,) = DatumUnpickler(io.BytesIO(PICKLED % bytes(image))).load()["train"]
    assert (item.impath, item.label, item.classname) == (str(image), 3, "tank")
    path = tmp_path / "shots.pkl"
    for old, new in ((b"V_label\nI3\ns", b""), (b"V_label", b"V_lable"), (b"I3", b"VT72"), (b"I3", b"F1e400")):
        path.write_bytes((PICKLED % bytes(image)).replace(old, new))
        with pytest.raises(InputError, match="cannot be read as few shots"):
            read_pickled_shots(path, image.parent)
    again = pickle.loads(pickle.dumps(item))  # made here: loader workers pickle it
    assert again == item
