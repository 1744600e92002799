import signal

import numpy as np
import pytest
from PIL import Image
from small_runs import options, run_here

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a script


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Forty images in two folders."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = root / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        image = rng.gamma(1.0, 40.0, (48, 48)).clip(0, 255)
        image[16:32, 10 + number // 4 : 30] = 250
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:02d}.png")
    return root


@pytest.fixture(scope="session")
def plain_run(images, tmp_path_factory):
    """An undisturbed run of eight epochs, and what it printed."""
    output = tmp_path_factory.mktemp("plain")
    return output, run_here(options(images, output, epochs=8, save_every=4, image_every=6))


@pytest.fixture
def started():
    """Start processes that do not outlive the test."""
    running = []

    def start(process):
        running.append(process)
        return process

    yield start
    for process in running:
        process.close()
