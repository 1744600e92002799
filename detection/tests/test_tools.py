"""Training, resuming and testing with the tools, on a model and a set that take seconds."""

import hashlib
import json
import random
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detection_tools import STAGE, Forked, run, run_here, run_two
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from small_detector import write_small_detector

import saratrx
from hivit_det.reproducible import SeedEachEpoch
from hivit_det.weights import read_detector
from saratrx.checkpoint import save_checkpoint
from saratrx.hivit import SIZES, HiViT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight images with a bright square each, their annotations, weights, and a config."""
    root = tmp_path_factory.mktemp("detection")
    write_small_detector(root)
    torch.manual_seed(0)
    save_checkpoint(root / "weights.pth", model=HiViT(**SIZES["micro"], img_size=64).state_dict())
    return root


def losses(work_dir, name="loss"):
    """(epoch, iteration) -> a loss of all logs of a run, the newest last."""
    found = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry:
                found[entry["epoch"], entry["iter"]] = entry[name]
    return found


@pytest.fixture(scope="module")
def one_thread():
    """Sums of a few threads differ in the last bit from those of one, which processes of their own have here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(folder, one_thread):
    """A training of two epochs: its output, and its folder."""
    done = run_here("tools/train.py", folder / "small.py", "--work-dir", folder / "whole")
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "whole"


def cut_after_one_epoch(work_dir, copy):
    """Copy what a run of two epochs that is killed in the second one leaves."""
    shutil.copytree(work_dir, copy)
    (copy / "epoch_2.pth").unlink()
    (copy / "last_checkpoint").write_text(str(copy / "epoch_1.pth"))
    for path in copy.glob("*/vis_data/scalars.json"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if json.loads(line).get("epoch") == 1))
    return copy


def test_training_tells_what_it_starts_from_and_what_it_reaches(whole):
    out, _ = whole
    assert re.search(r"loaded +absolute_pos_embed \(1\), patch_embed \(4\), blocks", out)
    assert "new     fpn1 (2), fpn2 (2), fpn3 (2), fpn4 (2)" in out
    assert "coco/bbox_mAP_50" in out


def test_a_killed_training_is_resumed_with_the_same_losses(folder, whole, tmp_path):
    cut = tmp_path / "cut"
    changes = ["train_cfg.max_epochs=1"]
    short = run_here("tools/train.py", folder / "small.py", "--work-dir", cut, "--cfg-options", *changes)
    assert short.returncode == 0, short.stderr
    assert losses(cut).keys() == {(1, 1), (1, 2)}
    options = ["--work-dir", cut, "--resume"]
    resumed = Forked(tmp_path / "out.txt", "tools/train.py", folder / "small.py", *options, cwd=tmp_path).ended()
    assert resumed.returncode == 0, resumed.stdout[-2000:]
    assert "resumed epoch: 1" in resumed.stdout
    expected, found = losses(whole[1]), losses(cut)
    assert len(expected) == 4
    assert found == expected


def test_a_training_with_averaged_weights_and_hooks_of_its_own_is_resumed_exactly(folder, tmp_path):
    hooks = Config.fromfile(STAGE / "configs/_hivit_/hivit_base_SSDD_ema.py").custom_hooks
    hooks[0]["momentum"] = 0.3  # in two steps an epoch
    path = tmp_path / "averaged.py"
    path.write_text(f"_base_ = '{folder / 'small.py'}'\ncustom_hooks = {hooks}\n")
    done = run_here("tools/train.py", path, "--work-dir", tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    cut = cut_after_one_epoch(tmp_path / "whole", tmp_path / "cut")
    done = run_here("tools/train.py", path, "--work-dir", cut, "--resume")
    assert done.returncode == 0, done.stderr
    whole, resumed = (torch.load(run / "epoch_2.pth", weights_only=False) for run in (tmp_path / "whole", cut))  # ours
    for name in ("state_dict", "ema_state_dict"):
        assert all(torch.equal(value, resumed[name][key]) for key, value in whole[name].items())
    average, last = whole["state_dict"], whole["ema_state_dict"]
    assert not torch.equal(average["neck.fpn_convs.0.conv.weight"], last["module.neck.fpn_convs.0.conv.weight"])
    assert read_detector(cut / "epoch_2.pth")["model"].keys() == average.keys()


def test_mixed_precision_is_nearly_the_same(folder, whole, tmp_path):
    changes = ["train_cfg.max_epochs=1"]
    options = ["--work-dir", tmp_path / "amp", "--amp", "--cfg-options", *changes]
    assert run_here("tools/train.py", folder / "small.py", *options).returncode == 0
    amp, plain = (losses(work_dir, "loss_rpn_cls")[1, 1] for work_dir in (tmp_path / "amp", whole[1]))
    assert amp != plain
    assert amp == pytest.approx(plain, rel=0.01)


def test_a_test_gives_the_figures_of_the_last_validation_and_writes_them_down(folder, whole, tmp_path):
    out, work_dir = whole
    weights, change = work_dir / "epoch_2.pth", "test_dataloader.num_workers=0"
    options = ["--work-dir", tmp_path / "t", "--cfg-options", change]
    tested = run_here("tools/test.py", folder / "small.py", weights, *options, cwd="/")
    assert tested.returncode == 0, tested.stderr
    scores = [re.findall(r"coco/bbox_mAP: ([\d.-]+)", text)[-1] for text in (out, tested.stdout)]
    assert scores[0] == scores[1]

    results = json.loads((tmp_path / "t/results.json").read_text())
    figures = results["figures"]
    assert figures.keys() == {f"coco/bbox_mAP{suffix}" for suffix in ("", "_50", "_75", "_s", "_m", "_l")}
    assert f"{figures['coco/bbox_mAP']:.4f}" != "0.0000"
    assert round(figures["coco/bbox_mAP"], 3) == float(scores[0])
    assert figures["coco/bbox_mAP_m"] is None  # there is no target of that size
    assert results["per_class"].keys() == {"vehicle", "ship"}
    assert results["per_class"]["ship"]["mAP"] == pytest.approx(figures["coco/bbox_mAP"], rel=1e-12)
    assert results["per_class"]["ship"]["mAP_50"] == pytest.approx(figures["coco/bbox_mAP_50"], rel=1e-12)
    assert results["per_class"]["vehicle"] == {"mAP": None, "mAP_50": None}
    assert results["classes"] == ["vehicle", "ship"]
    assert (results["config"], results["cfg_options"]) == (str(folder / "small.py"), [change])
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert results["checkpoint"] == {"path": str(weights), "sha256": digest}
    expected = {"annotations": str(folder / "boxes.json"), "images": 8, "remap": "percentile", "channel": None}
    assert results["data"] == expected
    assert results["versions"].keys() == {"saratrx", "torch", "mmdet", "numpy"}
    assert results["versions"]["saratrx"] == saratrx.__version__


def test_two_processes_train_resume_and_test(folder, tmp_path):
    config = ["tools/train.py", folder / "small.py", "--val-from-train", 0.25]
    done = run_two(*config, "--work-dir", tmp_path / "whole", folder=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    cut = cut_after_one_epoch(tmp_path / "whole", tmp_path / "cut")
    split = cut / "validation-split"
    shutil.rmtree(split)  # a run in another folder names other annotation files
    done = run_two(*config, "--work-dir", cut, "--resume", folder=tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]
    assert {path.name for path in split.iterdir()} == {"train.json", "val.json"}
    expected, found = losses(tmp_path / "whole"), losses(cut)
    assert len(expected) == 2  # six training images, in batches of four: one per process
    assert found == expected
    tested, results = [folder / "small.py", tmp_path / "whole/epoch_2.pth"], []
    done = run_here("tools/test.py", *tested, "--work-dir", tmp_path / "test-1")
    assert done.returncode == 0, done.stderr[-2000:]
    done = run("tools/dist_test.sh", *tested, 2, "--work-dir", tmp_path / "test-2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(set(re.findall(r"coco/bbox_mAP_75: ([\d.-]+)", done.stdout))) == 1
    for processes in (1, 2):
        results.append(json.loads((tmp_path / f"test-{processes}/results.json").read_text()))
    assert results[0] == results[1]


def test_the_number_of_processes_must_be_given(folder, tmp_path):
    for arguments in (["dist_train.sh", folder / "small.py"], ["dist_test.sh", folder / "small.py", "w.pth", "all"]):
        done = run(f"tools/{arguments[0]}", *arguments[1:], cwd=tmp_path)
        assert (done.returncode, done.stderr[:13]) == (2, "error: usage:")


def test_an_epoch_has_random_numbers_of_its_own():
    SeedEachEpoch().before_train_epoch(SimpleNamespace(seed=3, epoch=2))
    drawn = random.random(), np.random.random(), torch.rand(1)
    seed = int(np.random.SeedSequence((3, 2, 0)).generate_state(1)[0])  # as the first version had it
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    assert (random.random(), np.random.random(), torch.rand(1)) == drawn


def test_curves_in_a_checkpoint_are_read(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "message_hub": {"loss": buffer}}, tmp_path / "log.pth")
    assert read_detector(tmp_path / "log.pth")["message_hub"]["loss"].mean() == 1.5


def test_bad_input_gets_one_sentence(folder, tmp_path, monkeypatch):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "tank"}]}))
    small, sync = folder / "small.py", tmp_path / "sync.py"
    sync.write_text(f"""
_base_ = "{small}"
model = dict(roi_head=dict(bbox_head=dict(norm_cfg=dict(_delete_=True, type="SyncBN"))))
""")
    option = "train_dataloader.dataset.ann_file"
    cases = {
        "absent.py: no such file; name a config": ["absent.py"],
        "none.json cannot be read: No such file": [small, "--cfg-options", f"{option}=none.json"],
        "has the classes tank, and the config vehicle": [small, "--cfg-options", f"{option}={other}"],
        "--cfg-options amp: give KEY=VALUE": [small, "--cfg-options", "amp"],
        "--cfg-options model.roi_head.bbox_head.norm_cfg.type=BN: ": [
            *(small, "--cfg-options", "model.roi_head.bbox_head.norm_cfg.type=BN")
        ],
        "small.py names no pre-trained weights: give --init-weights FILE, or none for random ones": [
            *(small, "--cfg-options", "model.backbone.init_cfg=None")
        ],
        "absent.pth: no such file": [small, "--resume", "absent.pth"],
        "boxes.json: none of its 8 scenes is small enough": [small, "--val-from-train", "0.01"],
    }
    if not torch.cuda.is_available():
        for name in ("SLURM_PROCID", "LOCAL_RANK"):  # as the launchers set them
            monkeypatch.setenv(name, "0")
        cases |= {
            "--launcher slurm needs GPUs; on a CPU use tools/dist_train.sh": [small, "--launcher", "slurm"],
            "sync.py has SyncBN, which needs GPUs; on a CPU give": [sync, "--launcher", "pytorch"],
        }
    for sentence, arguments in cases.items():
        done = run_here("tools/train.py", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert (done.stderr[:7], done.stderr.count("\n")) == ("error: ", 1)


def test_all_mistakes_of_a_command_line_are_told_at_once(folder, tmp_path):
    wrong = ["--val-from-train", 2, "--seed", -1, "--cfg-options", "amp", "also"]
    done = run_here("tools/train.py", folder / "small.py", *wrong, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: --cfg-options amp: give KEY=VALUE",
        "error: --cfg-options also: give KEY=VALUE",
        "error: --seed -1: must not be negative",
        "error: --val-from-train 2: must be above 0 and below 1",
    ]


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(folder, tmp_path):
    (tmp_path / "file").touch()
    for tool, *arguments in (
        ("train.py", folder / "small.py"),
        ("test.py", folder / "small.py", folder / "weights.pth"),
    ):
        done = run_here(f"tools/{tool}", *arguments, "--work-dir", tmp_path / "file/work", cwd=tmp_path)
        assert done.returncode == 2
        refused = f"--work-dir {tmp_path}/file/work cannot be made: Not a directory; choose another folder"
        assert done.stderr == f"error: {refused}\n"


def test_what_is_found_out_later_gets_one_sentence(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    content = json.loads((folder / "boxes.json").read_text())
    content["images"] = [{**content["images"][0], "file_name": str(tmp_path / "broken.png")}]
    (tmp_path / "broken.json").write_text(json.dumps(content))
    wrong = tmp_path / "wrong.pth"
    save_checkpoint(wrong, model={"patch_embed.proj.weight": torch.zeros(2, 3, 4, 4)})
    small = folder / "small.py"
    broken = ["--cfg-options", f"train_dataloader.dataset.ann_file={tmp_path / 'broken.json'}"]
    no_file = ["--init-weights", "absent.pth"]
    cases = {
        "absent.pth: no such file; give the path of a checkpoint": ["tools/train.py", small, *no_file],
        "wrong.pth does not fit this model": ["tools/train.py", small, "--init-weights", wrong],
        "broken.png cannot be read as an image": ["tools/train.py", small, *broken],
        "weights.pth does not fit this model": ["tools/test.py", small, folder / "weights.pth"],
    }
    for sentence, arguments in cases.items():
        done = run_here(*arguments, cwd=tmp_path)
        last = done.stderr.splitlines()[-1]
        assert (done.returncode, last.startswith("error: ")) == (2, True), (sentence, done.stderr[-1500:])
        assert sentence in last


def test_the_launcher_leaves_the_last_word_to_the_processes(folder, tmp_path):
    option = "train_dataloader.dataset.ann_file=absent.json"
    done = run("tools/dist_train.sh", folder / "small.py", 1, "--cfg-options", option, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {folder}/absent.json cannot be read: No such file")
    assert "Traceback" not in done.stderr
