"""Several processes, as a cluster treats them. Each run is a small one on the CPU."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from processes import Command, Run, two
from small_runs import SCRIPT, free_port, losses, options, run_here

from saratrx.checkpoint import load_checkpoint


def long(images, output, **changes):
    return options(images, output, **{"epochs": 2000, "batch_size": 4, "num_workers": 1, "resume": "auto"} | changes)


@pytest.fixture(scope="module")
def three_epochs(images, tmp_path_factory):
    """An undisturbed run of three epochs in two processes."""
    output = tmp_path_factory.mktemp("three")
    processes = two(lambda process: process, options(images, output, epochs=3, batch_size=4, num_workers=0))
    for process in processes:
        assert process.ended() == 0, process.text
        process.close()
    return output


def test_a_signal_to_one_stops_all_and_the_run_goes_on_as_if_undisturbed(images, plain_run, started, tmp_path):
    output, _ = plain_run
    arguments = options(images, tmp_path, epochs=8, batch_size=4, resume="auto", image_every=0)
    first, second = two(started, arguments)
    first.wait_for("epoch 2/8 done")
    second.send_signal(signal.SIGUSR1)
    assert (first.ended(), second.ended()) == (75, 75)
    assert re.search(r"SIGUSR1 came: stopped after step \d/5 of epoch \d; go on with --resume auto", first.text)
    for process in two(started, arguments):
        assert process.ended() == 0, process.text
    assert losses(tmp_path) == pytest.approx(losses(output), rel=1e-4)
    one, again = (load_checkpoint(p / "checkpoint-8.pth")["model"] for p in (output, tmp_path))
    assert max((one[k].float() - again[k].float()).abs().max().item() for k in one) < 1e-3


SIGNALLED = f"""
import os, runpy, signal, sys
sys.argv[0] = {str(SCRIPT)!r}
from hivit_mae.data import loading
finish, calls = loading.BatchLoader.finish, []
def signalled(self, loaded):
    calls.append(1)
    if len(calls) == SIGNAL_AT and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return finish(self, loaded)
loading.BatchLoader.finish = signalled
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("signal_at", "step", "epoch"),
    [(7, 3, 2), (4, 5, 1), (5, 5, 1), (15, 5, 3)],
    ids=["known a step later", "known in an epoch's last step", "in an epoch's last step", "in the very last step"],
)
def test_all_stop_at_the_same_step_wherever_the_signal_comes(
    images, three_epochs, started, tmp_path, signal_at, step, epoch
):
    """Five steps an epoch, three epochs; one process alone gets a signal while it loads a batch."""
    (tmp_path / "signalled.py").write_text(SIGNALLED.replace("SIGNAL_AT", str(signal_at)))
    output = tmp_path / "out"
    arguments = options(images, output, epochs=3, batch_size=4, resume="auto", num_workers=0)
    first, second = two(started, arguments, tmp_path / "signalled.py")
    assert (first.ended(), second.ended()) == (75, 75), first.text + second.text
    assert f"SIGTERM came: stopped after step {step}/5 of epoch {epoch}; go on with --resume auto" in first.text
    assert [path.name for path in output.glob("*.pth")] == [f"checkpoint-{epoch - 1}-{step}.pth"]
    for process in two(started, arguments):
        assert process.ended() == 0, process.text
    assert losses(output) == losses(three_epochs)  # to the last bit
    one, again = (load_checkpoint(p / "checkpoint-3.pth")["model"] for p in (three_epochs, output))
    assert all(torch.equal(value, again[key]) for key, value in one.items())


COMPILED = f"""
import runpy, sys, torch
from torch._dynamo.backends.distributed import SubmodCompiler
sys.argv[0] = {str(SCRIPT)!r}
compile_function, compile_part = torch.compile, SubmodCompiler.compile_submod
def told(*args):
    print("a part is compiled", file=sys.stderr)
    return compile_part(*args)
torch.compile = lambda model, **kwargs: compile_function(model, backend="aot_eager", **kwargs)
SubmodCompiler.compile_submod = told
torch.distributed._DEFAULT_FIRST_BUCKET_BYTES = 10_000  # a model this small would be one bucket
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_compiled_step_is_split_where_buckets_end_and_learns_the_same(images, three_epochs, started, tmp_path):
    (tmp_path / "compiled.py").write_text(COMPILED)
    arguments = options(images, tmp_path / "out", epochs=3, batch_size=4, num_workers=0, bucket_mb=1)
    processes = two(started, [*arguments, "--compile"], tmp_path / "compiled.py")
    for process in processes:
        assert process.ended(300) == 0, process.text
        assert process.text.count("a part is compiled") > 1
    assert losses(tmp_path / "out") == pytest.approx(losses(three_epochs), rel=1e-4)


def test_two_processes_in_bf16_stay_near_one(images, started, tmp_path):
    """Rounding differs with the size of a batch, so that the bound is wider than float32's."""
    common = {"epochs": 4, "amp": "bf16"}
    run_here(options(images, tmp_path / "one", batch_size=8, **common))
    for process in two(started, options(images, tmp_path / "two", batch_size=4, **common)):
        assert process.ended() == 0, process.text
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-2)


def test_a_process_that_dies_ends_the_other_with_a_message(images, started, tmp_path):
    first, second = two(started, long(images, tmp_path))
    first.wait_for("epoch 2/2000 done")
    second.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    assert first.ended() == 1
    assert time.monotonic() - begun < 60
    assert re.search(r"error: .*start the run again with --resume auto", first.text), first.text
    assert "Traceback" not in first.text


HANGING = f"""
import os, runpy, sys, time
sys.argv[0] = {str(SCRIPT)!r}
from hivit_mae.data import loading
finish, calls = loading.BatchLoader.finish, []
def hang(self, loaded):
    calls.append(1)
    if len(calls) == 12 and os.environ["RANK"] == "1":
        time.sleep(1000)
    return finish(self, loaded)
loading.BatchLoader.finish = hang
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_process_that_stands_still_ends_the_others_with_a_message(images, started, tmp_path):
    """Stopped as a whole, first or second; or its main thread alone, which waits for data."""
    (tmp_path / "hanging.py").write_text(HANGING)
    waiting = two(started, long(images, tmp_path / "waiting", hang_seconds=4), tmp_path / "hanging.py")
    stopped = [two(started, long(images, tmp_path / f"{rank}", hang_seconds=4)) for rank in (0, 1)]
    for rank, processes in enumerate(stopped):
        processes[0].wait_for("epoch 2/2000 done")
        processes[rank].send_signal(signal.SIGSTOP)
    reasons = (
        r"process (0 on \S+|by which all processes met) has (given no sign|not answered)",
        r"process 1 on \S+ has given no sign of life for",
    )
    for rank, reason in enumerate(reasons):
        other = stopped[rank][1 - rank]
        assert other.ended(60) == 1
        assert re.search(rf"error: .*{reason}.*start the run again with --resume auto", other.text), other.text
    for process in waiting:
        assert process.ended(90) == 1
        assert re.search(r"error: no progress for \d+ s \(process 1 on \S+: loading data\)", process.text), process.text


def test_two_agents_are_two_machines_and_survive_a_killed_worker(images, started, tmp_path):
    """The rendezvous starts both workers again, and the run goes on from its last state."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
    launcher += ["--max-restarts", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}"]
    arguments = options(images, tmp_path, epochs=24, batch_size=4, save_minutes=0.01, save_every=5, keep=2)
    command = [*launcher, "--local_addr", "127.0.0.1", str(SCRIPT), *arguments]
    agents = [started(Command(command, {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})) for _ in range(2)]
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoint-5.pth")):
        assert time.monotonic() < deadline, agents[0].text + agents[1].text
        time.sleep(0.02)
    workers = subprocess.run(
        ["pgrep", "-P", str(agents[1].pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(workers[0]), signal.SIGKILL)
    for agent in agents:
        assert agent.ended() == 0, agent.text
    assert re.search(r"continuing \S*checkpoint-\d+(-\d+)?.pth after epoch \d+", agents[0].text + agents[1].text)
    assert losses(tmp_path).keys() == set(range(1, 25))


def test_accumulated_gradients_of_two_processes_are_those_of_one(images, started, tmp_path):
    common = {"epochs": 3, "accum_iter": 2, "image_every": 0, "lr": 5e-3}
    running = [started(Run(options(images, tmp_path / "one", batch_size=4, **common), {}))]
    for reduce in ("float32", "bf16"):
        arguments = options(images, tmp_path / reduce, batch_size=2, grad_reduce=reduce, bucket_mb=0.05, **common)
        running += two(started, arguments)
    for process in running:
        assert process.ended() == 0, process.text
    expected, exact, rounded = (losses(tmp_path / name) for name in ("one", "float32", "bf16"))
    assert expected[3] < 0.97 * expected[1]
    assert exact == pytest.approx(expected, rel=1e-4)
    assert rounded == pytest.approx(expected, rel=2e-3)
    assert rounded != exact  # it was rounded
