import torch

from hivit_mae.models.models_hivit_mae import mae_hivit_micro_dec32d1b as micro
from hivit_mae.run import precision
from hivit_mae.run.precision import compiled, resolve_amp, resolve_compile

CPU = torch.device("cpu")


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


def test_compilation_is_for_gpus_with_a_compiler(monkeypatch):
    assert not resolve_compile(None, CPU)[0]
    assert resolve_compile(True, CPU)[0]
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    found, why = resolve_compile(None, torch.device("cuda"))
    assert not found
    assert "install gcc" in why
    monkeypatch.setattr(precision.shutil, "which", lambda name: name)
    assert resolve_compile(None, torch.device("cuda"))[0]


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
