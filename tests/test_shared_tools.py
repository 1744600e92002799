"""Seeds, devices, layer decay and reporting, which more than one stage uses."""

import errno
import logging
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from saratrx.device import choose_device
from saratrx.errors import InputError, exit_on_input_error, first_line, sentence
from saratrx.layer_decay import layer_decay_groups
from saratrx.reporting import get_logger, silence_writer_threads
from saratrx.seeds import derived_seed, seed_all


def test_a_derived_seed_depends_on_every_part_and_their_order():
    seeds = {derived_seed(*parts) for parts in ((0, 0), (0, 1), (1, 0), (1, 1), (2**40, 1), (2, 2**40))}
    assert len(seeds) == 6
    # its last 32 bits are the seed that classification and detection have always used
    assert derived_seed(3, 7) % 2**32 == np.random.SeedSequence((3, 7)).generate_state(1)[0]


def test_all_generators_follow_the_seed():
    drawn = []
    for _ in range(2):
        seed_all(2**40 + 5)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert drawn[0] == drawn[1]


def test_devices(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    with pytest.raises(InputError, match="--device gpu: no such kind of device; use auto, cpu or cuda"):
        choose_device("gpu")
    with pytest.raises(InputError, match="--device cuda: PyTorch sees no CUDA GPU here"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(InputError, match="--device cuda:2: this machine has 2 GPUs"):
        choose_device("cuda:2")


def test_rates_decay_by_layer():
    model = torch.nn.ModuleDict({str(layer): torch.nn.Linear(2, 2) for layer in range(4)})
    model["1"].requires_grad_(False)
    groups = layer_decay_groups(
        model.named_parameters(), lambda name: int(name[0]), 3, lr=1.0, weight_decay=0.1, rate=0.5
    )
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        (0.125, 0.0), (0.125, 0.1), (0.5, 0.0), (0.5, 0.1), (1.0, 0.0), (1.0, 0.1)
    ]  # fmt: skip
    assert groups[1]["params"] == [model["0"].weight]
    assert groups[0]["params"] == [model["0"].bias]


def test_reports_are_plain_lines_on_what_stdout_is_at_the_time(capsys):
    log = get_logger("a_stage.module")
    log.info("4 images")
    log.warning("%s is damaged", "0.png")
    log.debug("not shown")
    assert capsys.readouterr().out == "4 images\nwarning: 0.png is damaged\n"
    logging.getLogger("saratrx").setLevel(logging.ERROR)
    try:
        log.warning("silenced")
    finally:
        logging.getLogger("saratrx").setLevel(logging.INFO)
    assert capsys.readouterr().out == ""


def test_a_report_that_cannot_be_written_is_an_error(monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(OSError, match="No space left"):
        get_logger("a_stage.module").info("4 images")


def test_an_error_in_one_line():
    assert first_line(OSError(28, "No space left on device", "a.txt")) == "No space left on device"
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    assert first_line(ValueError("a" * 10**6)) == "a" * 300
    assert sentence(InputError("plain text")) == "plain text"


@pytest.mark.parametrize("lines", [1, 10_000])  # noticed at the end, and on the way
def test_a_full_standard_output_is_told_once(lines):
    code = "from saratrx.errors import exit_on_input_error\nfrom saratrx.reporting import get_logger\n"
    code += f"with exit_on_input_error():\n    for _ in range({lines}): get_logger('a').info('a line')\n"
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: what this command tells cannot be written: No space left on device; make room\n"


def test_other_errors_of_the_system_keep_their_traceback():
    with pytest.raises(FileNotFoundError), exit_on_input_error():
        raise FileNotFoundError(errno.ENOENT, "No such file")


def test_threads_that_keep_their_error_for_their_owner_print_nothing(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    for _ in range(3):
        silence_writer_threads()

    class Writer(threading.Thread):
        exception = None

        def run(self):
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                self.exception = error
                raise

    def fail():
        raise ValueError("not kept")

    for thread in (Writer(), threading.Thread(target=fail)):
        thread.start()
        thread.join()
    assert [str(each.exc_value) for each in told] == ["not kept"]
