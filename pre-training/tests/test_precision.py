import pytest
import torch
from small_runs import options
from torch._inductor import config, list_mode_options
from torch.nn.attention import SDPBackend

from hivit_mae.cluster.distributed import Processes
from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run import precision
from hivit_mae.run.options import parse_options
from hivit_mae.run.precision import (
    COMPILE_MODES,
    attention_of,
    compiled,
    missing_to_compile,
    resolve_amp,
    resolve_compile,
)
from hivit_mae.run.resolved import resolve
from saratrx.errors import InputError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_bf16_is_chosen_where_the_cpu_has_it(monkeypatch):
    for capabilities, expected in (
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "off"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({}, "off"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_amp("auto", CPU)[0] == expected
    assert resolve_amp("fp16", CPU)[0] == "fp16"


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """A machine with these programs, and Python's headers or not."""
    monkeypatch.setattr(precision.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)

    def have(*names, headers=True):
        monkeypatch.setattr(precision.shutil, "which", lambda name: name if name in names else None)
        (tmp_path / "Python.h").touch() if headers else (tmp_path / "Python.h").unlink(missing_ok=True)

    return have


def test_compilation_is_for_gpus_and_for_those_who_ask(tools):
    tools("gcc", "g++")
    assert resolve_compile(None, CPU) == (False, "by default on GPUs alone")
    assert resolve_compile(True, CPU) == (True, "as asked")
    assert resolve_compile(None, GPU) == (True, "by default on a GPU")
    assert resolve_compile(False, GPU) == (False, "as asked")


@pytest.mark.parametrize("asked", [None, True])
def test_without_a_compiler_or_the_headers_of_python_compilation_is_off(tools, monkeypatch, tmp_path, asked):
    tools("cc")  # which Triton does not look for
    assert resolve_compile(asked, GPU) == (False, "there is no C compiler on the path: install gcc")
    assert resolve_compile(True, CPU) == (False, "there is no C++ compiler on the path: install g++")
    tools("clang", headers=False)
    found, why = resolve_compile(asked, GPU)
    assert not found
    assert why == f"there is no {tmp_path}/Python.h: install Python's headers, such as the package python3-dev"
    tools("my-cc")
    monkeypatch.setenv("CC", "my-cc")
    assert resolve_compile(asked, GPU)[0]


def resolved(*words, world_size=1, device=CPU, tmp_path):
    return resolve(parse_options([*options(tmp_path, tmp_path / "out"), *words]), Processes(0, world_size, device))


def test_who_asks_in_vain_is_told_so(tools, tmp_path):
    tools()
    assert resolved("--compile", tmp_path=tmp_path).asked_in_vain
    assert resolved("--compile_mode", "combo", tmp_path=tmp_path).asked_in_vain
    assert not resolved(tmp_path=tmp_path).asked_in_vain
    tools("g++")
    assert not resolved("--compile", tmp_path=tmp_path).asked_in_vain


def test_one_process_without_a_compiler_speaks_for_all(tools, tmp_path, monkeypatch):
    tools("g++")
    monkeypatch.setattr(
        "hivit_mae.run.resolved.all_gather", lambda value, processes: [value, (False, "there is no C++ compiler")]
    )
    found = resolved("--compile", world_size=2, tmp_path=tmp_path)
    assert (found.compile, found.why_compile, found.asked_in_vain) == (False, "there is no C++ compiler", True)


def test_what_compilation_cannot_do_with_several_processes_is_refused(tools, tmp_path):
    tools("g++")
    graphs, small = ("--compile_mode", "cudagraphs"), ("--compile", "--bucket_mb", "0.5")
    assert resolved(*graphs, tmp_path=tmp_path).compile
    assert resolved(*small, tmp_path=tmp_path).compile
    assert not resolved("--bucket_mb", "0.5", world_size=2, tmp_path=tmp_path).compile
    with pytest.raises(InputError, match="--compile_mode cudagraphs: is for one process, and there are 2"):
        resolved(*graphs, world_size=2, tmp_path=tmp_path)
    with pytest.raises(InputError, match=r"--bucket_mb 0.5: must be at least 1, or set --no-compile"):
        resolved(*small, world_size=2, tmp_path=tmp_path)
    with pytest.raises(InputError, match="--compile_mode cudagraphs: needs --accum_iter 1"):
        resolved(*graphs, "--accum_iter", "2", tmp_path=tmp_path)
    with pytest.raises(InputError, match="--compile_mode combo: leave it out where there is --no-compile"):
        resolved("--compile_mode", "combo", "--no-compile", tmp_path=tmp_path)


def test_every_mode_is_an_option_whose_settings_pytorch_knows(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **kwargs: asked.append(kwargs))
    for mode, settings in COMPILE_MODES.items():
        assert parse_options([*options(tmp_path, tmp_path), "--compile_mode", mode]).machine.compile_mode == mode
        compiled(micro(img_size=48), mode)
        assert asked.pop() == {"fullgraph": True, "dynamic": False} | settings
        if "mode" in settings:
            list_mode_options(settings["mode"])
        with config.patch(settings.get("options", {})):  # raises where there is no such setting
            pass
    assert list_mode_options(COMPILE_MODES["cudagraphs"]["mode"])["triton.cudagraphs"]
    assert "triton.cudagraphs" not in list_mode_options(COMPILE_MODES["max-autotune"]["mode"])


def test_attention_by_cudnn_comes_first_where_it_is_asked_for():
    before = torch._C._get_sdp_priority_order()
    with attention_of("cudnn"):
        assert torch._C._get_sdp_priority_order()[0] == SDPBackend.CUDNN_ATTENTION.value
        query = torch.rand(2, 4, 9, 8)
        found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    with attention_of("default"):
        assert torch._C._get_sdp_priority_order() == before
        torch.testing.assert_close(found, torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert torch._C._get_sdp_priority_order() == before


class Small(torch.nn.Sequential):
    """A part of a model that is compiled in seconds; called, and answering, as the model is."""

    def forward(self, images, mask_ratio, noise):
        return super().forward(images.flatten(1)).square().mean() + mask_ratio * noise.mean(), None, None


def small():
    return Small(torch.nn.Linear(2304, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 4))


@pytest.mark.skipif(bool(missing_to_compile(CPU)), reason=missing_to_compile(CPU) or "all is there")
@pytest.mark.parametrize(
    ("mode", "make"),
    [("combo", lambda: micro(img_size=48)), ("default", small), ("max-autotune", small)],
    ids=["combo", "default", "max-autotune"],
)
def test_what_is_compiled_computes_what_the_model_does(mode, make):
    """The whole model in one mode alone: compiling it takes a while."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = make()
    images, noise = torch.rand(2, 1, 48, 48), torch.rand(2, 9)
    results = []
    for network in (model, compiled(model, mode)):
        loss, _, _ = network(images, 0.75, noise)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    assert len(results[0]) > 6
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-5)


def test_the_step_is_one_graph_that_is_never_compiled_again(monkeypatch):
    """With a back end that only counts, so that no compiler is needed; the numbers are those of the plain model."""
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph

    compile_function = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **kwargs: compile_function(model, backend=count, **kwargs))
    torch._dynamo.reset()
    model = micro(img_size=48)
    network = compiled(model)
    for number in range(3):
        images, noise = torch.rand(4, 1, 48, 48), torch.rand(4, 9)
        with torch.autocast("cpu", torch.bfloat16):
            loss, pred, _ = network(images, 0.75, noise)
        loss.backward()
        with torch.autocast("cpu", torch.bfloat16):
            expected, plain, _ = model(images, 0.75, noise)
        torch.testing.assert_close((loss, pred), (expected, plain))
        assert len(graphs) == 1, number
