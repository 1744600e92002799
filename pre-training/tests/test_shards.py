import gzip
import io
import json
import subprocess
import tarfile
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hivit_mae.cluster.distributed import Processes
from hivit_mae.data import shards
from hivit_mae.data.loading import BatchLoader
from hivit_mae.data.shards import ShardImages, count_images, find_shards, is_shards, stream_images
from saratrx.errors import InputError

MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # on small machines
SIZES = [17, 5, 23, 9, 31, 12]  # images of the shards: 97


def png(number):
    """A PNG of one grey level, which no crop changes, so that it tells its number."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 24 + number % 3), 2 * number + 1, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def numbers(images):
    """The numbers of loaded images; a change of contrast may round a level down."""
    return (images.mean(dim=(-3, -2, -1)) * 255).round().long() // 2


def write_shard(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def folder(tmp_path):
    """Shards with 97 images; beside each image a label, and before them what is to be left out."""
    number = 0
    for shard, size in enumerate(SIZES):
        members = {"__index__/0.png": b"", "a/.hidden.png": b"", "readme.txt": b"text"}
        for _ in range(size):
            members |= {f"a/{number:03d}.png": png(number), f"a/{number:03d}.cls": b"3"}
            number += 1
        write_shard(tmp_path / f"shard-{shard}.tar", members)
    return tmp_path


def urls_of(folder):
    return find_shards([f"{folder}/shard-{{0..5}}.tar"], "")


def make(urls, counts, max_bad=0.01, rank=0, world_size=1, batch_size=4):
    return ShardImages(
        urls, counts, 32, 0, max_bad, on_device=False, batch_size=batch_size, rank=rank, world_size=world_size
    )


def indices(dataset, workers, epoch=0, first=0):
    """Batches of indices; each image is the one that its index says."""
    dataset.start(epoch, first)
    batches = []
    for index, images in DataLoader(dataset, batch_size=dataset.batch_size, num_workers=workers, drop_last=True):
        assert torch.equal(numbers(images), index)
        batches.append(index.tolist())
    return batches


def test_what_names_shards_and_what_they_are(folder, tmp_path):
    for entry in ("a.tar", "x/a.tar.gz", "b.tgz", "s-{000..099}.tar", "{a.tar,b.tar}", "http://h/a", "pipe:cat x"):
        assert is_shards(entry)
    for entry in ("images", "a.tar/images", "tar", "/data/b.target"):
        assert not is_shards(entry)
    assert urls_of(folder) == [f"{folder}/shard-{n}.tar" for n in range(6)]
    assert find_shards(["images"], "cache") == []
    assert find_shards(["http://h/{a,b}.tar", "pipe:aws s3 cp s3://x/a.tar -"], "") == [
        "http://h/a.tar",
        "http://h/b.tar",
        "pipe:aws s3 cp s3://x/a.tar -",
    ]
    with pytest.raises(InputError, match=r"images: folders cannot be mixed with shards such as a\.tar"):
        find_shards(["a.tar", "images"], "")
    with pytest.raises(InputError, match="--cache c: is for folders of images"):
        find_shards(["a.tar"], "c")
    with pytest.raises(InputError, match=r'b\.tar: s3 URLs cannot be opened; .*"pipe:aws s3 cp s3://x/b\.tar -"'):
        find_shards(["s3://x/{b,c}.tar"], "")
    with pytest.raises(InputError, match="braces do not fit"):
        find_shards(["{a.tar"], "")


def test_images_are_counted_once(folder, tmp_path, capsys, monkeypatch):
    urls = urls_of(folder)
    output = tmp_path / "output"
    output.mkdir()
    assert count_images(urls, output) == SIZES
    assert "counted the images of 6 of 6" in capsys.readouterr().out
    assert json.loads((output / "sizes.json").read_text()) == dict(zip(urls, SIZES, strict=True))
    monkeypatch.setattr(shards, "count_shard", None)
    assert count_images(urls[::-1], output) == SIZES[::-1]
    (folder / "sizes.json").write_text(json.dumps({f"shard-{n}.tar": 100 + n for n in range(6)}))
    assert count_images(urls, output) == [100, 101, 102, 103, 104, 105]
    assert count_images([f"file:{urls[2]}"], output) == [102]
    (folder / "sizes.json").write_text('{"shard-0.tar": "17"}')
    with pytest.raises(InputError, match=r"sizes\.json must map shards to numbers of images"):
        count_images(urls, output)
    for count in (-1, 10**8, 10**20, True):
        (folder / "sizes.json").write_text(json.dumps({"shard-0.tar": count}))
        with pytest.raises(InputError, match=r"sizes\.json must map shards to numbers of images"):
            count_images(urls, output)
    (folder / "sizes.json").write_text("[" * 10**5)
    with pytest.raises(InputError, match=r"sizes\.json is no JSON"):
        count_images(urls, output)
    (folder / "sizes.json").write_text("{")
    with pytest.raises(InputError, match=r"sizes\.json is no JSON"):
        count_images(urls, output)


def test_shards_that_cannot_be_counted_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.tar cannot be read: No such file or directory; fix it"):
        count_images([f"{tmp_path}/nowhere.tar"], tmp_path)
    (tmp_path / "text.tar").write_text("no tar file " * 100)
    with pytest.raises(InputError, match=r"text\.tar cannot be read: [^\n]*; fix it"):
        count_images([f"{tmp_path}/text.tar"], tmp_path)
    write_shard(tmp_path / "empty.tar", {"readme.txt": b""})
    with pytest.raises(InputError, match=r"empty\.tar: no image in the shards"):
        count_images([f"{tmp_path}/empty.tar"], tmp_path)


def test_local_files_urls_commands_and_compressed_shards_hold_the_same(folder, tmp_path):
    plain = f"{folder}/shard-1.tar"
    for name in ("shard.tar.gz", "shard.tgz"):
        (tmp_path / name).write_bytes(gzip.compress((folder / "shard-1.tar").read_bytes()))
    urls = [plain, f"file:{plain}", f"pipe:cat {plain}", f"{tmp_path}/shard.tar.gz", f"{tmp_path}/shard.tgz"]
    expected = list(stream_images(plain))
    assert [name for name, _ in expected] == [f"a/{n:03d}.png" for n in range(17, 22)]
    for url in urls:
        assert count_images([url], tmp_path) == [5]
        assert list(stream_images(url)) == expected


@MANY_WORKERS
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_image_is_dealt_twice_and_few_are_left_out(folder, workers, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK_IMAGES", 12)
    datasets = [make(urls_of(folder), SIZES, rank=rank, world_size=2) for rank in range(2)]
    epochs = []
    for epoch in range(2):
        ranks = [indices(dataset, workers, epoch) for dataset in datasets]
        assert [len(batches) for batches in ranks] == [12, 12]  # 97 // 2 // 4
        dealt = [index for batches in ranks for batch in batches for index in batch]
        assert len(dealt) == len(set(dealt)) == 96
        assert max(dealt) > 90
        assert dealt != sorted(dealt)
        epochs.append(dealt)
    assert epochs[0] != epochs[1]
    assert indices(datasets[1], workers, 1) == ranks[1]


@MANY_WORKERS
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_can_be_entered_at_any_batch(folder, workers, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK_IMAGES", 8)  # two batches
    dataset = make(urls_of(folder), SIZES)
    whole = indices(dataset, workers, epoch=2)
    assert len(whole) == 24
    for first in (1, 7, 16, 24):
        assert indices(dataset, workers, epoch=2, first=first) == whole[first:]


def test_crops_depend_on_seed_epoch_and_image_alone(tmp_path):
    rng = np.random.default_rng(0)
    for shard in range(2):
        members = {}
        for number in range(4):
            buffer = io.BytesIO()
            np.save(buffer, rng.integers(0, 256, (40, 40), dtype=np.uint8))
            members[f"{number}.npy"] = buffer.getvalue()
        write_shard(tmp_path / f"{shard}.tar", members)

    def crops(workers, batch_size, epoch=0):
        dataset = make([f"{tmp_path}/0.tar", f"{tmp_path}/1.tar"], [4, 4], batch_size=batch_size)
        dataset.start(epoch, 0)
        loader = DataLoader(dataset, batch_size=batch_size, num_workers=workers)
        return {int(i): image for index, images in loader for i, image in zip(index, images, strict=True)}

    one = crops(0, 4)
    for other in (crops(2, 2), crops(0, 8)):
        assert one.keys() == other.keys() == set(range(8))
        assert all(torch.equal(one[i], other[i]) for i in one)
    assert not torch.equal(one[3], crops(0, 4, epoch=1)[3])


def damage(folder):
    """Cut shard 4 off in its 21st image, break an image of shard 2, and delete shard 1: 11 + 1 + 5 images."""
    with tarfile.open(folder / "shard-4.tar") as archive:
        cut = archive.getmember("a/074.png").offset_data + 10
    content = (folder / "shard-4.tar").read_bytes()
    (folder / "shard-4.tar").write_bytes(content[:cut])
    members = {f"{n:03d}.png": png(n) for n in range(22, 45)} | {"030.png": b"broken"}
    write_shard(folder / "shard-2.tar", members)
    (folder / "shard-1.tar").unlink()


@MANY_WORKERS
@pytest.mark.parametrize("workers", [0, 3])
def test_faults_are_named_once_and_counted(folder, workers, capfd):
    damage(folder)
    bad = {*range(17, 22), 30, *range(74, 85)}
    dataset = make(urls_of(folder), SIZES, max_bad=0.2, batch_size=1)
    for epoch in range(2):
        dataset.start(epoch, 0)
        loaded = list(DataLoader(dataset, batch_size=1, num_workers=workers))
        assert sorted(int(index) for index, _ in loaded) == list(range(97))
        for index, image in loaded:
            shown = int(numbers(image))
            assert shown not in bad
            assert shown == index or int(index) in bad
        assert set(dataset.bad.nonzero().flatten().tolist()) == bad
        dataset.check_bad()
    lines = sorted(capfd.readouterr().err.splitlines())
    assert len([line for line in lines if "shard-2.tar: 030.png cannot be read as an image" in line]) == 1
    assert len([line for line in lines if "shard-1.tar cannot be read: No such file" in line]) == 1
    assert len([line for line in lines if "shard-4.tar is cut off after 20 images" in line]) == 1
    assert len(lines) == 3
    dataset.bad_images.max_bad = 0.1
    with pytest.raises(InputError, match=r"at least 17 of 97 images cannot be read, such as .*shard-1.tar: image 0"):
        dataset.check_bad()


def test_a_shard_that_is_back_is_no_longer_bad(folder):
    (folder / "shard-3.tar").rename(folder / "away")
    dataset = make(urls_of(folder), SIZES, max_bad=0.2)
    list(dataset)
    assert dataset.bad.sum() == 9
    (folder / "away").rename(folder / "shard-3.tar")
    dataset.start(1, 0)
    list(dataset)
    assert not dataset.bad.any()


def test_a_cut_off_shard_is_counted_to_its_last_beginning(folder, tmp_path):
    damage(folder)
    assert count_images([f"{folder}/shard-4.tar"], tmp_path) == [21]
    assert count_images([f"pipe:cat {folder}/shard-4.tar"], tmp_path) == [21]
    with pytest.raises(InputError, match=r"shard-1\.tar cannot be read"):
        count_images(urls_of(folder), tmp_path)


def test_a_command_that_fails_is_a_fault_of_its_shard(folder, capfd):
    command = f"pipe:head -c 20000 {folder}/shard-4.tar; sleep 0.2; exit 3"
    dataset = make([f"{folder}/shard-0.tar", command], [17, 31], max_bad=0.5)
    list(dataset)
    assert 5 < dataset.bad.sum() < 31
    assert "exit 3 is cut off after" in capfd.readouterr().err


def test_examples_are_the_same_every_time(folder):
    dataset = make(urls_of(folder), SIZES)
    examples = [int(image[0, 0]) // 2 for image in dataset.examples(6)]
    assert len(set(examples)) == 6
    assert max(examples) < 17  # of the first shard: no more are opened than need be
    assert examples == [int(image[0, 0]) // 2 for image in dataset.examples(6)]
    assert len(dataset.examples(200)) == 97
    assert dataset.name(18) == f"{folder}/shard-1.tar: image 1"


@pytest.mark.parametrize("workers", [0, 2])
def test_the_batch_loader_resumes_shards_too(folder, workers):
    source = ShardImages(urls_of(folder), SIZES, 32, 0, 0.01, on_device=True, batch_size=4, rank=0, world_size=1)
    loader = BatchLoader(source, Processes(0, 1, torch.device("cpu")), 4, workers)
    whole = list(loader.batches(1))
    assert len(whole) == loader.batches_per_epoch == 24
    for batch in whole:
        assert torch.equal(numbers(batch.images), batch.indices)
    tail = list(loader.batches(1, first=9))
    assert all(torch.equal(a.indices, b.indices) for a, b in zip(tail, whole[9:], strict=True))
    assert all(torch.equal(a.images, b.images) for a, b in zip(tail, whole[9:], strict=True))


def test_members_that_promise_too_much_are_not_read(tmp_path, monkeypatch):
    members = {"a.png": png(1), "large.png": b"0" * 5000, "b.png": png(2)}
    write_shard(tmp_path / "a.tar", members)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "300")  # 4,800 bytes at most
    read = dict(stream_images(str(tmp_path / "a.tar")))
    assert read == members | {"large.png": b""}


def test_a_sparse_member_ends_its_shard(tmp_path):
    with (tmp_path / "holes.png").open("wb") as file:
        file.write(png(1))
        file.truncate(10**7)
    subprocess.run(["tar", "--sparse", "--format=gnu", "-cf", "a.tar", "holes.png"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.tar").stat().st_size < 10**6
    with pytest.raises(tarfile.ReadError, match="is sparse"):
        list(stream_images(str(tmp_path / "a.tar")))


def test_a_packed_shard_that_grows_without_bounds_ends_early(tmp_path, monkeypatch):
    write_shard(tmp_path / "a.tar.gz", {"a.png": png(1), "b.png": bytes(10**7), "c.png": png(2)}, "w:gz")
    monkeypatch.setattr(shards, "FREE_BYTES", 10**6)
    read = []
    with pytest.raises(tarfile.ReadError, match="unpacks to more than 200 times its size"):
        read.extend(stream_images(str(tmp_path / "a.tar.gz")))
    assert shards.count_shard(str(tmp_path / "a.tar.gz")) in (1, 2)
    monkeypatch.setattr(shards, "FREE_BYTES", 10**9)
    assert len(list(stream_images(str(tmp_path / "a.tar.gz")))) == 3


def test_other_packers_are_refused(tmp_path):
    write_shard(tmp_path / "a.tar", {"a.png": png(1)}, "w:bz2")  # ten kilobytes of it can hold gigabytes
    with pytest.raises(InputError, match=r"a\.tar cannot be read: [^\n]*; fix it"):
        count_images([str(tmp_path / "a.tar")], tmp_path)


def write_odd(path, content=b"", **attributes):
    """A shard of two images, the first of which has attributes of its own."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, data in enumerate((content or png(1), png(2))):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            member.pax_headers = {} if number else attributes
            archive.addfile(member, io.BytesIO(data))
    return str(path)


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(10**12)}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"size": "-1024"}, "has -1024 bytes"),  # whose successor would be itself
        ({"size": str(10**18)}, "unexpected end of data"),
        ({"size": "9" * 4000}, ""),
        ({"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**12)}, "is sparse"),
        ({"GNU.sparse.offset": "0", "GNU.sparse.numbytes": "1", "GNU.sparse.size": str(10**12)}, "is sparse"),
        (SPARSE, "is sparse"),
        ({"comment": "a" * 10**6}, "a header of 10"),
        ({"comment": "7" * 8000}, ""),  # is parsed in the square of its length
    ],
)
def test_attributes_that_would_take_time_or_memory_end_their_shard(tmp_path, attributes, reason):
    url = write_odd(tmp_path / "a.tar", b"10000000\n" + b"0\n" * 10000 if attributes is SPARSE else b"", **attributes)
    begun = time.process_time()
    found = []
    for streaming in (False, True):
        try:
            found.append(len(list(shards.image_members(url, streaming))))
        except Exception as error:
            found.append(str(error))
    assert time.process_time() - begun < 2
    assert any(reason in str(each) for each in found)
    assert not reason or found != [2, 2]


def test_headers_that_promise_gigabytes_are_not_read(tmp_path):
    url = write_odd(tmp_path / "a.tar", comment="text")
    content = bytearray((tmp_path / "a.tar").read_bytes())
    assert content[156:157] == tarfile.XHDTYPE
    content[124:136] = b"10000000000\0"  # octal: 1 GB
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content[:512]):06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(content)
    for streaming in (False, True):
        with pytest.raises(tarfile.ReadError, match="a header of 1073741824 bytes"):
            list(shards.image_members(url, streaming))


def test_headers_of_headers_without_an_end_are_a_fault_of_the_shard(tmp_path):
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1
    block = member.tobuf(tarfile.GNU_FORMAT) + bytes(512)
    write_shard(tmp_path / "a.tar", {"a.png": png(1)})
    image = (tmp_path / "a.tar").read_bytes()[: 512 + -(-len(png(1)) // 512) * 512]
    (tmp_path / "a.tar").write_bytes(image + block * 3000)
    assert shards.count_shard(str(tmp_path / "a.tar")) == 1


def test_a_setting_that_is_wrong_is_no_fault_of_a_shard(folder, monkeypatch):
    dataset = make(urls_of(folder), SIZES)
    monkeypatch.setenv("SARATRX_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="SARATRX_MAX_PIXELS=many: must be a number"):
        list(dataset)
    with pytest.raises(InputError, match="SARATRX_MAX_PIXELS=many: must be a number"):
        dataset.examples(2)
