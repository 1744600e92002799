"""Threads, cores and other processes."""

import os
import subprocess
import sys
import threading

import pytest

from saratrx import cores


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def process(tmp_path, monkeypatch):
    """A process in control groups that a test writes, below tmp_path/limits, on a machine with 8 cores."""
    monkeypatch.setattr(cores, "PROCESS", tmp_path / "process")
    monkeypatch.setattr(cores, "LIMITS", tmp_path / "limits")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"": {"cpu__max": "250000 100000"}}, 3),  # a container, which sees its own group as the top
        ("0::/job/step\n", {"job": {"cpu__max": "200000 100000"}, "job/step": {"cpu__max": "max 100000"}}, 2),
        ("0::/job/step\n", {"job": {"cpu__max": "400000 100000"}, "job/step": {"cpu__max": "50000 100000"}}, 1),
        ("0::/\n", {"": {"cpu__max": "max 100000"}}, 8),
        ("0::/\n", {"": {"cpu__max": "9000000 100000"}}, 8),
        ("0::/\n", {"": {"cpu__max": "nonsense"}}, 8),
        ("0::/\n", {}, 8),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n",
            {"cpu/a": {"cpu__cfs_quota_us": "150000", "cpu__cfs_period_us": "100000"}},
            2,
        ),
        ("3:cpu,cpuacct:/a\n", {"cpu": {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}}, 8),
        (None, {}, 8),
    ],
)
def test_a_limit_of_time_is_a_limit_of_cores(process, groups, files, expected):
    if groups is not None:
        group(process / "process", cgroup=groups)
    for folder, content in files.items():
        group(process / "limits" / folder, **content)
    assert cores.available() == expected


def test_threads_are_no_more_than_the_cores_that_are_given(process, monkeypatch):
    group(process / "process", cgroup="0::/\n")
    group(process / "limits", cpu__max="200000 100000")
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "passive"})
    cores.share_cores()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    os.environ["OMP_NUM_THREADS"] = "5"
    cores.share_cores()
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("given", "spins", "watched"),
    [
        ({}, cores.SPINS, True),
        ({"GOMP_SPINCOUNT": "7"}, "7", False),
        ({"OMP_WAIT_POLICY": "passive"}, None, False),
        ({"GOMP_SPINCOUNT": cores.SPINS}, cores.SPINS, True),  # as the processes of a launcher inherit it
    ],
)
def test_what_the_user_has_set_stays(monkeypatch, given, spins, watched):
    monkeypatch.setattr(os, "environ", dict(given))
    started = []
    monkeypatch.setattr(cores, "start_watching", lambda: started.append(True))
    cores.share_cores()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
    assert bool(started) == watched


def test_a_team_is_kept_while_threads_wait(monkeypatch):
    waits = iter([{"1": 0.0}, {"1": 0.0}, {"1": 5.0, "2": 1.0}, {"1": 9.0}, {"1": 9.0}, {"1": 20.0}])
    seen, teams, begun = [], [], threading.Semaphore(0)

    def seconds_waited(_):
        if len(seen) in (3, 6):  # after a long wait
            assert begun.acquire(timeout=20)
        seen.append([team.is_set() for team in teams])
        return next(waits)

    def keep_team(released):
        teams.append(released)
        begun.release()

    monkeypatch.setattr(cores, "seconds_waited", seconds_waited)
    monkeypatch.setattr(cores, "keep_team", keep_team)
    monkeypatch.setattr(cores, "CHECK_SECONDS", 0.01)
    monkeypatch.setitem(sys.modules, "torch", sys)
    with pytest.raises(StopIteration):
        cores.watch()
    # none at first, one from the first long wait on, released once nothing waits, and another at the next wait
    assert [len(released) for released in seen] == [0, 0, 0, 1, 1, 1, 2]
    assert seen[4] == [False] and seen[5] == [True]


def test_time_without_a_core_is_read_for_each_thread(tmp_path):
    for thread, text in {"11": "500 2500000000 9", "12": "1 0 1", "13": ""}.items():
        group(tmp_path / "task" / thread, schedstat=text)
    group(tmp_path / "task" / "14")
    assert cores.seconds_waited(tmp_path) == {"11": 2.5, "12": 0.0}


TEAM = """
import os, threading, time
import torch
from saratrx.cores import keep_team
torch.set_num_threads(2)
count = lambda: len(os.listdir("/proc/self/task"))
def until(expected):
    end = time.monotonic() + 20
    while count() != expected and time.monotonic() < end:
        time.sleep(0.01)
    return count()
torch.zeros(2**20).add_(1)
before, released = count(), threading.Event()
threading.Thread(target=keep_team, args=(released,)).start()
print(until(before + 2) - before)
released.set()
print(until(before) - before)
"""


def test_a_team_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", TEAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "0"]


ENDING = """
import sys, threading, time, types
from saratrx import cores

begun = threading.Event()

def zeros(count):
    begun.set()
    time.sleep(0.2)
    print("computed", flush=True)
    return types.SimpleNamespace(add_=print)

sys.modules["torch"] = types.SimpleNamespace(zeros=zeros)
cores.start_watching()
threading.Thread(target=cores.keep_team, args=[threading.Event()], daemon=True).start()
begun.wait()
"""


def test_python_does_not_end_while_a_thread_of_it_computes():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "computed\n1\n", "")
