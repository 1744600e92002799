"""`saratrx NAME` is the script of that name; `models` and `doctor` say what is true here."""

import signal
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch

from saratrx import console, doctor, models
from saratrx.errors import InputError
from saratrx.hivit import SIZES, HiViTClassifier


@pytest.mark.parametrize("name", console.COMMANDS)
def test_every_command_is_a_script_that_is_there(name):
    words = console.COMMANDS[name].words()
    assert words[0] == sys.executable
    if words[1] == "-m":
        assert words[2].startswith("saratrx.")


def called(*words, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "saratrx.console", *words], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_words_and_exit_code_are_those_of_the_script(tmp_path):
    own = subprocess.run(
        [*console.COMMANDS["compare"].words(), "nowhere"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    through = called("compare", "nowhere", cwd=tmp_path)
    assert through.returncode == own.returncode == 2
    assert through.stderr == own.stderr != ""


def test_alone_it_lists_what_there_is():
    listed = called()
    assert listed.returncode == 0
    assert all(f"  {name} " in listed.stdout for name in console.COMMANDS)
    wrong = called("pretrian")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: pretrian: no such command; saratrx alone lists them\n"


def test_ctrl_c_while_a_module_is_imported_ends_at_once(monkeypatch):
    seen = []

    def imported(name):
        seen.append((name, signal.getsignal(signal.SIGINT)))
        return SimpleNamespace(main=lambda: seen.append(sys.argv[1:]))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(console, "import_module", imported)
    monkeypatch.setattr(sys, "argv", ["saratrx"])
    try:
        console.main(["visualize", "a", "-b"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[0][0] == "saratrx.visualize"
    assert seen[0][1] is not signal.default_int_handler
    assert seen[1] == ["a", "-b"]


def test_without_the_stages_it_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr(console, "TOP", tmp_path)
    with pytest.raises(InputError, match=r"main_pretrain.py is missing: .* clone"):
        console.COMMANDS["pretrain"].words()


def test_models_have_the_parameters_that_they_have():
    rows = {row[0]: row for row in models.table()}
    assert set(rows) == {f"hivit_{size}" for size in SIZES}
    nano = HiViTClassifier(**SIZES["nano"], img_size=224, num_classes=0)
    assert float(rows["hivit_nano"][3]) == pytest.approx(sum(p.numel() for p in nano.parameters()) / 1e6, rel=0.01)
    assert "simulated" in rows["hivit_nano"][5]


def test_the_doctor_finds_what_is_missing_or_not_as_tested(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text(
        f"# tested\ntorch=={version('torch').partition('+')[0]}\n-r other.txt\nno-such-thing==1.0\nnumpy==0.1\n"
    )
    found = list(doctor.packages((file, tmp_path / "absent.txt")))
    assert [(each.found, each.fails) for each in found] == [
        ("no-such-thing is missing", True),
        (
            f"requirements.txt: 3 looked at; other versions than tested: numpy {version('numpy')} (tested: 0.1)",
            False,
        ),
    ]
    assert all(str(file) in each.remedy for each in found)


def test_the_doctor_measures_this_machine(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["doctor"])
    monkeypatch.setattr(doctor, "SECONDS", 0.01)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # a GPU that PyTorch cannot use is a finding of its own
    monkeypatch.setattr(doctor, "available", lambda: 2)
    with pytest.raises(SystemExit) as ended:
        doctor.main()
    said = capsys.readouterr().out
    assert not ended.value.code
    assert "OMP_NUM_THREADS=1, of 2 cores" in said
    assert f"with {torch.get_num_threads()} threads" in said
    assert "CPU       2 of" in said
