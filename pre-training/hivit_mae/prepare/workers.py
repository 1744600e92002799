"""Work shared by processes, its results in order, and kept so that a killed run goes on where it was."""

import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from saratrx.errors import InputError
from saratrx.files import refused_if_unwritable
from saratrx.loader_workers import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
SHARED: list[Any] = []  # what all calls of a worker's function get first
TASKS_PER_WORKER = 64  # that are handed out at least, so that none waits long for another
LARGEST_TASK = 16  # items


def each(
    function: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item], workers: int, what: str
) -> Iterator[Result]:
    """Give `function(shared, item)` for all items, in their order, with a bar where a person is watching.

    Raises:
        InputError: if a worker dies.

    """
    bar = tqdm(total=len(items), desc=what, unit="image", leave=False, disable=not sys.stderr.isatty())
    workers = min(workers, len(items))
    with bar:
        if workers <= 1:
            for item in items:
                yield function(shared, item)
                bar.update()
            return
        size = max(1, min(LARGEST_TASK, len(items) // (workers * TASKS_PER_WORKER)))
        fork = multiprocessing.get_context("fork")  # what is shared is not copied
        with ProcessPoolExecutor(workers, fork, initializer=begin, initargs=(shared,)) as pool:
            try:
                for result in pool.map(call, ((function, item) for item in items), chunksize=size):
                    yield result
                    bar.update()
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process was lost, perhaps for want of memory: run the same command again with fewer "
                    "--workers; it goes on where it was"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)  # waits: none may write when another build begins


def begin(shared: Any) -> None:
    """Prepare a worker."""
    end_with_parent(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells of it
    cv2.setNumThreads(1)
    SHARED[:] = [shared]


def call(task: tuple[Callable[[Any, Item], Result], Item]) -> Result:
    """Do one item in a worker."""
    function, item = task
    return function(SHARED[0], item)


def each_kept(
    journal: Path, function: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item], workers: int, what: str
) -> list[Result]:
    """Do as `each`, but append each result to a journal, as a line of JSON, and begin after those that are in it."""
    results: list[Result] = []
    whole = 0
    if journal.exists():
        for line in journal.read_bytes().splitlines(keepends=True):
            try:
                results.append(json.loads(line if line.endswith(b"\n") else b""))
            except ValueError:  # torn: all from here on is done again
                break
            whole += len(line)
    with refused_if_unwritable(journal), journal.open("ab") as file:
        file.truncate(whole)
        for result in each(function, shared, items[len(results) :], workers, what):
            file.write(json.dumps(result).encode() + b"\n")
            file.flush()
            results.append(result)
    return results
