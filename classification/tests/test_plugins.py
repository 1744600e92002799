"""Data sets and trainers that users put beside train.py."""

import sys

import pytest

import train
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from hivit_cls.plugins import import_plugins
from saratrx.errors import InputError, exit_on_input_error

DATASET = """
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from .layout import FOLDER

@DATASET_REGISTRY.register()
class {name}(DatasetBase):
    dataset_dir = FOLDER
"""
TRAINER = """
from dassl.engine import TRAINER_REGISTRY, TrainerX

@TRAINER_REGISTRY.register()
class {name}(TrainerX):
    pass
"""


@pytest.fixture(autouse=True)
def _nothing_stays():
    registered = [(registry, dict(registry.objects)) for registry in (DATASET_REGISTRY, TRAINER_REGISTRY)]
    path = list(sys.path)
    yield
    assert sys.path == path
    for registry, objects in registered:
        registry.objects = objects
    for name in [name for name in sys.modules if name.startswith(("user_datasets", "user_trainers"))]:
        del sys.modules[name]


def write(stage, **files):
    for name, text in files.items():
        path = stage / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_what_lies_beside_train_is_known_by_its_name(tmp_path):
    write(tmp_path, datasets__layout="FOLDER = 'mine'", datasets__mine=DATASET.format(name="Mine"))
    write(tmp_path, trainers__mine=TRAINER.format(name="MyTrainer"))
    (tmp_path / "datasets/.hidden.py").write_text("1 / 0")
    (tmp_path / "datasets/notes.txt").write_text("no code")
    import_plugins(tmp_path)
    import_plugins(tmp_path)  # a file is imported once: a name can only be registered once
    assert DATASET_REGISTRY.get("Mine").dataset_dir == "mine"
    assert TRAINER_REGISTRY.get("MyTrainer").__module__ == "user_trainers.mine"
    assert "datasets" not in sys.modules  # Hugging Face's name


def test_a_folder_that_is_a_package_is_one(tmp_path):
    """As the folder of this project was, whose `__init__.py` imported all others."""
    init = "from importlib import import_module\nimport_module(f'{__name__}.mine')\nFOLDER = 'x'\n"
    write(tmp_path, datasets__layout="FOLDER = 'mine'")
    (tmp_path / "datasets/__init__.py").write_text(init)
    write(tmp_path, datasets__mine=DATASET.format(name="Mine"))
    import_plugins(tmp_path)
    assert DATASET_REGISTRY.get("Mine").dataset_dir == "mine"


def test_without_folders_there_is_nothing_to_do(tmp_path):
    import_plugins(tmp_path)
    assert not [name for name in sys.modules if name.startswith("user_")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("def f(:", r"SyntaxError: invalid syntax \(bad.py, line 1\)"),
        ("raise ValueError('two\\nlines')", "ValueError: two$"),
        (2 * TRAINER.format(name="Twice"), 'KeyError: .*"Twice" is registered as TRAINER.NAME already'),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(tmp_path, text, reason):
    write(tmp_path, trainers__bad=text)
    for _ in range(2):
        with pytest.raises(InputError, match=rf"trainers/bad.py cannot be imported: {reason}"):
            import_plugins(tmp_path)


def test_train_imports_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "__file__", str(tmp_path / "train.py"))
    write(
        tmp_path, trainers__mine=TRAINER.format(name="MyTrainer") + "    def check_cfg(self, cfg): raise SystemExit(7)"
    )
    with pytest.raises(SystemExit) as stop:
        train.main(["--trainer", "MyTrainer", "--output-dir", str(tmp_path / "out")])
    assert stop.value.code == 7
    write(tmp_path, trainers__bad="1 / 0")
    with pytest.raises(SystemExit) as stop, exit_on_input_error():
        train.main(["--trainer", "MyTrainer"])
    assert stop.value.code == 2
    sentence = f"error: {tmp_path}/trainers/bad.py cannot be imported: ZeroDivisionError: division by zero\n"
    assert capsys.readouterr().err == sentence
