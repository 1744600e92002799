"""A full disk at each writer: told in a sentence, nothing torn, and what can be done without goes on."""

import errno
import json
import os
import resource
import runpy
import sys
import tarfile
from contextlib import contextmanager

import pytest
import torch
from small_runs import SCRIPT, options, run_here

from hivit_mae.run import profiling
from saratrx.errors import InputError
from saratrx.files import try_writing

FULL = os.strerror(errno.EFBIG)  # what a limit says; a disk says "No space left on device"


@contextmanager
def room(size):
    """Let this process write no file beyond so many bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_tells_what_it_cannot_write_and_tears_nothing(images, tmp_path, capfd):
    output = tmp_path / "out"
    arguments = options(images, output, epochs=2, save_every=1, num_workers=0)
    with room(600), pytest.raises(InputError, match=r"checkpoint-2.pth could not be written: make space and go on"):
        run_here(arguments)
    assert sorted(path.suffix for path in output.iterdir() if not path.name.startswith("events.")) == [".txt"]
    lines = (output / "log.txt").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]  # it is small enough
    assert "Traceback" not in capfd.readouterr().err  # of TensorBoard's thread

    told = run_here([*arguments, "--resume", "auto"])  # there is room again
    assert "cannot be written" not in told
    assert {"checkpoint-1.pth", "checkpoint-2.pth"} <= {path.name for path in output.iterdir()}


def test_each_writer_names_its_file(images, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    arguments = [*options(images, output, epochs=1, num_workers=0), "--resume", "auto"]
    run_here(arguments)
    (output / "log.txt").unlink()
    monkeypatch.setattr(sys, "argv", ["main_pretrain.py", *arguments, "--epochs", "2", "--image_every", "2"])
    with room(100), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    for text in (
        f"warning: TensorBoard's file cannot be written: {FULL}; training goes on",
        f"warning: no checkpoint could be written to {output} ({FULL}); earlier ones stay, and training goes on",
        f"warning: {output}/reconstruction-2.png cannot be written: {FULL}; training goes on",
    ):
        assert text in out
    assert err == f"error: {output}/checkpoint-2.pth could not be written: make space and go on with --resume auto\n"
    assert (output / "checkpoint-1.pth").is_file()
    assert not [path for path in output.iterdir() if path.suffix == ".tmp"]


def test_counts_of_shards(images, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(images, "images")
    arguments = options(tmp_path / "a.tar", tmp_path / "out", num_workers=0)
    with room(50), pytest.raises(InputError, match=rf"out/sizes.json cannot be written: {FULL}"):
        run_here(arguments)
    assert not (tmp_path / "out" / "sizes.json").exists()


def test_an_output_folder_without_any_room(images, tmp_path):
    with room(0), pytest.raises(InputError, match=rf"--output_dir .*out cannot be written to: {FULL}; choose another"):
        run_here(options(images, tmp_path / "out"))
    with room(0), pytest.raises(InputError, match=rf"--x .* cannot be written to: {FULL}"):
        try_writing(tmp_path, "--x")


def test_a_trace_is_not_left_half(tmp_path, capsys):
    (tmp_path / "trace-rank0.json.gz").symlink_to("/dev/full")
    with profiling.traced(tmp_path, 0, torch.device("cpu")) as trace:
        for _ in range(profiling.WAIT + profiling.WARMUP + profiling.STEPS):
            torch.ones(3).add(1)
            trace.step()
    assert "trace-rank0.json.gz cannot be written: No space left on device; training" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
