import pytest

from saratrx.errors import InputError
from saratrx.loader_workers import lost_workers_named


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory. Please try to raise your shared memory limit.",
        "unable to write to file </torch_7_1_0>: No space left on device (28)",
        "unable to allocate shared memory(shm) for file </torch_7>: No space left on device (28)",
        "DataLoader worker (pid(s) 7) exited unexpectedly",
    ],
)
def test_a_worker_that_died_gets_a_sentence(text):
    said = r"/dev/shm is too small.*--shm-size.*--num_workers 0"
    with pytest.raises(InputError, match=said), lost_workers_named("--num_workers 0"):
        raise RuntimeError(text)


@pytest.mark.parametrize("text", ["other", "CUDA error: a kernel is out of shared memory"])
def test_other_errors_stay(text):
    with pytest.raises(RuntimeError, match=text), lost_workers_named("--num_workers 0"):
        raise RuntimeError(text)
