import multiprocessing
import os
import pickle
import resource
import time

import numpy as np
import pytest
from PIL import Image

from hivit_mae.data import image_cache
from hivit_mae.data.image_cache import open_cache
from saratrx.errors import InputError
from saratrx.sar_image import ImageError


@pytest.fixture
def paths(tmp_path):
    """Seven images of different sizes and kinds, and a broken one."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{number}.png" for number in range(7)]
    for number, file in enumerate(files):
        Image.fromarray(rng.integers(0, 256, (30 + number, 50), dtype=np.uint8)).save(file)
    files.append(tmp_path / "images" / "7.npy")
    np.save(files[-1], rng.exponential(size=(20, 40)))
    files[3].write_text("broken")
    return [str(file) for file in files]


def only(folder):
    [found] = [path for path in folder.iterdir() if path.is_dir()]
    return found


def test_the_cache_holds_what_was_decoded(tmp_path, paths, capsys, monkeypatch):
    monkeypatch.setattr(image_cache, "PROGRESS_SECONDS", 0)
    cache = open_cache(tmp_path / "cache", paths)
    assert list(cache.reasons) == [3]
    assert "3.png" in cache.reasons[3]
    for index, path in enumerate(paths):
        if index == 3:
            with pytest.raises(ImageError, match=r"3\.png"):
                cache.read(index)
        else:
            image = cache.read(index)
            assert image.dtype == np.uint8
            assert np.array_equal(image, image_cache.sar_image.read(path))
    printed = capsys.readouterr().out
    assert "cache: 8 of 8 images" in printed
    assert "cache: 8 images" in printed
    assert "built in" in printed


def test_a_second_start_decodes_nothing(tmp_path, paths, monkeypatch):
    first = open_cache(tmp_path / "cache", paths)
    monkeypatch.setattr(image_cache, "build", None)
    second = open_cache(tmp_path / "cache", paths)
    assert np.array_equal(first.read(5), second.read(5))
    assert second.reasons == first.reasons
    monkeypatch.chdir(tmp_path)  # nor does the place it is started from matter
    relative = open_cache("cache", [os.path.relpath(path) for path in paths])
    assert relative.folder.absolute() == first.folder


def test_a_changed_source_gets_a_new_cache_and_others_stay(tmp_path, paths):
    old = open_cache(tmp_path / "cache", paths)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(paths[0])
    new = open_cache(tmp_path / "cache", paths)
    fewer = open_cache(tmp_path / "cache", paths[1:])
    assert len({old.folder, new.folder, fewer.folder}) == 3
    assert new.read(0).shape == (9, 9)
    assert old.read(0).shape == (30, 50)
    assert np.array_equal(fewer.read(0), new.read(1))


def test_another_image_of_the_same_size_and_time_gets_a_new_cache(tmp_path):
    path = tmp_path / "images" / "a.npy"
    path.parent.mkdir()
    np.save(path, np.full((9, 9), 3, np.uint8))
    assert open_cache(tmp_path / "cache", [str(path)]).read(0)[0, 0] == 3
    status = path.stat()
    np.save(path, np.full((9, 9), 7, np.uint8))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert open_cache(tmp_path / "cache", [str(path)]).read(0)[0, 0] == 7


@pytest.mark.parametrize("file", ["images.u8", "index.npz", "index.sha256"])
def test_a_cut_off_file_is_built_anew(tmp_path, paths, file, capsys):
    expected = open_cache(tmp_path / "cache", paths).read(6).copy()
    capsys.readouterr()
    damaged = only(tmp_path / "cache") / file
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert np.array_equal(open_cache(tmp_path / "cache", paths).read(6), expected)
    assert "is not whole and is built anew" in capsys.readouterr().out


def test_a_changed_byte_of_the_cache_is_found_on_reading(tmp_path, paths):
    open_cache(tmp_path / "cache", paths)
    with (only(tmp_path / "cache") / "images.u8").open("r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))
    cache = open_cache(tmp_path / "cache", paths)
    with pytest.raises(ImageError, match=r"0\.png in cache .*images\.u8: damaged; remove the folder"):
        cache.read(0)
    assert cache.read(1).shape == (31, 50)


def test_an_opened_cache_can_be_sent_to_another_process(tmp_path, paths):
    cache = open_cache(tmp_path / "cache", paths)
    cache.read(0)
    sent = pickle.dumps(cache)
    assert len(sent) < 5000  # without the pixels
    assert np.array_equal(pickle.loads(sent).read(6), cache.read(6))  # pickled above, as DataLoader would


def test_a_full_disk_is_named_with_what_is_needed_and_leaves_nothing(tmp_path, paths):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(InputError, match=r"--cache .*cache cannot be written to: .*about \d{5} bytes"):
            open_cache(tmp_path / "cache", paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
    assert open_cache(tmp_path / "cache", paths).read(0).shape == (30, 50)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, paths):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--cache .*file/cache cannot be used: Not a directory"):
        open_cache(tmp_path / "file" / "cache", paths)


def test_of_two_processes_one_builds_and_a_killed_one_leaves_no_cache(tmp_path, paths, monkeypatch, capfd):
    folder = tmp_path / "cache"
    fork = multiprocessing.get_context("fork")
    read = image_cache.sar_image.read
    with monkeypatch.context() as slow:
        slow.setattr(image_cache.sar_image, "read", lambda path, **how: (time.sleep(0.5), read(path, **how))[1])
        killed = fork.Process(target=open_cache, args=(folder, paths))
        killed.start()
    deadline = time.monotonic() + 30
    while not list(folder.glob("*.building/images.u8")) and time.monotonic() < deadline:
        time.sleep(0.01)
    both = [fork.Process(target=open_cache, args=(folder, paths)) for _ in range(2)]
    for process in both:
        process.start()
    printed = ""
    while printed.count("waiting for another process") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
        printed += capfd.readouterr().out
    assert killed.is_alive()
    killed.kill()
    for process in both:
        process.join(timeout=120)
    assert [process.exitcode for process in both] == [0, 0]
    printed += capfd.readouterr().out
    assert printed.count("waiting for another process") == 2
    assert printed.count("built in") == 1
    assert not list(folder.glob("*.building"))
    assert open_cache(folder, paths).read(6).shape == (36, 50)
