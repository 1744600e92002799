"""The watchdog alone, in a process that it may end. Whole runs are in test_many_processes.py."""

import re

import pytest
from processes import Run

PREPARATION = """
import json, time
import torch.distributed as dist
from hivit_mae.cluster.watchdog import Watchdog
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
flags = {"is_busy": False, "is_stuck": False, "is_done": False}
other = {"host": "far", "doing": "training", "beats": 5, "idle": 1.2} | flags
def publish(number, **changes):
    store.set("watchdog/1", json.dumps(other | {"published": number} | changes))
"""


@pytest.fixture
def ended(started, tmp_path):
    """Run a script in a process; returns its exit code, and what it said on stdout and stderr."""

    def run(script):
        file, errors = tmp_path / "script.py", tmp_path / "errors.txt"
        file.write_text(PREPARATION + script)
        errors.unlink(missing_ok=True)
        process = started(Run([], {}, file, errors))
        return process.ended(60), process.text.strip(), errors.read_text().strip()

    return run


def test_a_process_that_never_comes(ended):
    code, _, message = ended("Watchdog(store, 0, 2, 0.3); time.sleep(30)")
    assert code == 1
    assert message.startswith("error: process 1 has not come for 1 s: this process ends; start the run again")


def test_the_other_process_is_named_that_is_behind(ended):
    code, _, message = ended("""
watchdog = Watchdog(store, 0, 2, 1.0)
for _ in range(6):
    watchdog.beat("training")
for number in range(300):
    publish(number, doing="loading data")
    time.sleep(0.1)
""")
    assert code == 1
    assert message.startswith("error: no progress for 1 s (process 1 on far: loading data): this process ends")


def test_a_process_that_falls_silent_is_the_reason_although_all_wait_for_it(ended):
    """It spoke a while after the last step, so that the others are without progress before it counts as gone."""
    code, _, message = ended("""
watchdog = Watchdog(store, 0, 2, 1.5)
for _ in range(6):
    watchdog.beat("training")
begun, number = time.monotonic(), 0
while time.monotonic() - begun < 0.7:
    publish(number := number + 1, beats=6)
    time.sleep(0.05)
time.sleep(30)
""")
    assert code == 1
    assert message.startswith("error: process 1 on far has given no sign of life for ")


def test_busy_slow_and_finished_processes_are_left_alone(ended):
    """Work that is known to take long, steps that have always been long, and a process that has done its part."""
    code, printed, message = ended("""
watchdog = Watchdog(store, 0, 2, 0.5)
publish(0, is_done=True)
with watchdog.busy("compiling"):
    time.sleep(2)
watchdog.beat("training")
time.sleep(0.4)
watchdog.beat("training")
time.sleep(1.2)
watchdog.beat("training")
watchdog.close()
print("done", json.loads(store.get("watchdog/0"))["is_done"])
""")
    assert (code, printed, message) == (0, "done True", "")


@pytest.mark.parametrize("verdict", [True, False])
def test_the_others_obey_the_first(ended, verdict):
    word = 'store.set("watchdog/verdict", "process 7 is gone")' if verdict else "pass"
    code, printed, message = ended(f"""
store.set("watchdog/0", json.dumps(other))
watchdog = Watchdog(store, 1, 2, 1.0)
time.sleep(0.5)
{word}
for number in range(30):
    store.set("watchdog/0", json.dumps(other | {{"published": number}}))
    time.sleep(0.05)
watchdog.close()
print("done")
""")
    if verdict:
        assert code == 1
        assert message.startswith("error: process 7 is gone: this process ends")
    else:
        assert (code, printed, message) == (0, "done", "")


def test_a_single_process_has_nobody_to_watch(ended):
    code, printed, _ = ended("""
watchdog = Watchdog(None, 0, 1, 0.1)
time.sleep(0.5)
watchdog.beat("training")
watchdog.close()
print("done")
""")
    assert (code, printed) == (0, "done")


def test_a_lost_connection_does_not_hide_who_is_the_cause(ended):
    """A hung process that obeys the verdict closes its connections, which the others may notice before they read it."""
    code, _, message = ended("""
watchdog = Watchdog(store, 0, 2, 1.0)
for _ in range(6):
    watchdog.beat("training")
while not watchdog.verdict:
    publish(0, doing="loading data", is_stuck=True)
    time.sleep(0.01)
watchdog.end_after_lost_connection(RuntimeError("[/gloo/transport] Connection closed by peer"))
""")
    assert code == 1
    named = "error: no progress for \\d s \\(process 1 on far: loading data\\): this process ends"
    assert re.match(named, message), message


def test_who_has_not_read_the_verdict_yet_reads_it_when_a_connection_is_lost(ended):
    code, _, message = ended("""
watchdog = Watchdog(store, 1, 2, 20.0)
store.set("watchdog/verdict", "no progress for 9 s (process 2)")
watchdog.end_after_lost_connection(RuntimeError("Connection closed by peer"))
""")
    assert (code, message.startswith("error: no progress for 9 s (process 2): this process ends")) == (1, True), message
    code, _, message = ended("""
Watchdog(store, 1, 2, 20.0).end_after_lost_connection(RuntimeError("Connection closed by peer"))
""")
    assert (code, "another process has ended or cannot be reached (Connection closed" in message) == (1, True), message


def test_the_main_process_leaves_the_others_time_to_read_the_verdict(ended):
    """It may host the store: if its main thread ended it at once, a third process would find no verdict any more."""
    code, printed, message = ended("""
import threading
watchdog = Watchdog(store, 0, 3, 2.0)
for _ in range(6):
    watchdog.beat("training")
def reader():
    while not store.check(["watchdog/verdict"]):
        time.sleep(0.01)
    time.sleep(0.2)  # within two intervals
    print("read", store.get("watchdog/verdict").decode(), flush=True)
threading.Thread(target=reader, daemon=True).start()
while not watchdog.verdict:
    publish(0, doing="loading data", is_stuck=True)
    store.set("watchdog/2", json.dumps(other | {"published": time.monotonic(), "host": "near"}))
    time.sleep(0.01)
watchdog.end_after_lost_connection(RuntimeError("Connection closed by peer"))
""")
    assert code == 1
    assert "process 1 on far: loading data" in message
    assert printed.startswith("read no progress for")


def test_python_does_not_end_while_the_store_is_asked(ended):
    """A thread that Python takes back control from while it ends aborts the process."""
    code, printed, _ = ended("""
import atexit, threading
begun = threading.Event()
watchdog = Watchdog(store, 1, 2, 1.0)
def publish(**_):
    begun.set()
    time.sleep(0.3)
    print("asked", flush=True)
watchdog._publish = publish
assert begun.wait(20)
atexit._run_exitfuncs()
print("Python ends", flush=True)
time.sleep(0.5)
""")
    assert (code, printed) == (0, "asked\nPython ends")
