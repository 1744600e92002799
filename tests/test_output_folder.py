import subprocess
import sys

import pytest

from saratrx.errors import InputError
from saratrx.output_folder import claimed, is_output_folder

HOLD = """
import sys
from saratrx.output_folder import claimed
with claimed(sys.argv[1], "--out"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_kept_out_until_the_first_ends(tmp_path):
    folder = tmp_path / "a" / "b"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        assert is_output_folder(folder, [])
        said = rf"--out .*b is in use by process {first.pid} on .*choose another folder"
        with pytest.raises(InputError, match=said), claimed(folder, "--out"):
            pass
        first.kill()
    with claimed(folder, "--out"):  # a killed run holds nothing
        pass
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_what_cannot_be_a_folder_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    said = f"--out .*{name} cannot be made: .*choose another folder"
    with pytest.raises(InputError, match=said), claimed(tmp_path / name, "--out"):
        pass


def test_folders_with_checkpoints_are_those_of_runs(tmp_path):
    assert is_output_folder(tmp_path, ["checkpoint-3.pth"])
    assert is_output_folder(tmp_path, ["checkpoint-3-40.pth", "a.png"])
    assert not is_output_folder(tmp_path, ["a.png", "checkpoint.png"])
