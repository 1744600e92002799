"""What is installed, what computes here, and what is slow and why, with what to do about it.

python -m saratrx.doctor
"""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from saratrx import __version__
from saratrx.command_line import Parser
from saratrx.console import TOP
from saratrx.cores import available, share_cores
from saratrx.errors import InputError, exit_on_input_error, first_line

if TYPE_CHECKING:
    import torch

REQUIREMENTS = ("requirements_pretrain.txt", "requirements_detection.txt")
OPTIONAL = {"sarkit": "SICD and SIDD", "h5py": "MATLAB 7.3", "pyarrow": "manifests in Parquet"}
SHARED = Path("/dev/shm")
LEAST_SHARED = 2**30  # bytes, for loader workers
SIDE, SECONDS = 1024, 0.3  # of the matrices that are multiplied, and how long
FEW_GFLOPS = 20  # a second, below which trainings take days


@dataclass(frozen=True)
class Finding:
    """A line of the report.

    Args:
        about: what was looked at.
        found: what was found.
        remedy: what to do, where something should be done.
        fails: whether nothing works without it.

    """

    about: str
    found: str
    remedy: str = ""
    fails: bool = False


def packages(files: tuple[Path, ...]) -> Iterator[Finding]:
    """Compare what is installed with the tested versions of requirements files; those that are not there are left."""
    for file in files:
        if not file.is_file():
            continue
        wanted = list(requirements(file))
        remedy = f"pip install -r {file}"
        differing = []
        for each in wanted:
            try:
                own = version(each.name)
            except PackageNotFoundError:
                yield Finding("packages", f"{each.name} is missing", remedy, fails=True)
                continue
            if not each.specifier.contains(own.partition("+")[0], prereleases=True):
                differing.append(f"{each.name} {own} (tested: {str(each.specifier).removeprefix('==')})")
        text = f"{file.name}: {len(wanted)} looked at"
        if differing:
            yield Finding("packages", f"{text}; other versions than tested: {', '.join(differing)}", remedy)
        else:
            yield Finding("packages", f"{text}, those that are there as tested")


def requirements(file: Path) -> Iterator[Requirement]:
    """Give what a requirements file asks for on this Python; options and further files are left out."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def extras() -> Iterator[Finding]:
    """Tell which formats need a package that is not there."""
    for name, purpose in OPTIONAL.items():
        try:
            yield Finding("optional", f"{name} {version(name)}: {purpose}")
        except PackageNotFoundError:
            yield Finding("optional", f"no {name}, for {purpose}", f"pip install {name}, if you need it")


def chips() -> Iterator[Finding]:
    """Tell what PyTorch computes on, and in which precision `--amp auto` does."""
    import torch  # noqa: PLC0415 -- only now is it known that it is there

    from saratrx.device import fast_bf16, has_cuda  # noqa: PLC0415

    try:
        found = has_cuda()
    except InputError as error:
        yield Finding("GPU", "one that PyTorch cannot use", str(error), fails=True)
        found = False
    for place in range(torch.cuda.device_count() if found else 0):
        about = torch.cuda.get_device_properties(place)
        bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32: it has no bf16"
        yield Finding(
            "GPU", f"{place}: {about.name}, {about.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}, {bf16}"
        )
    if not found:
        yield Finding("GPU", "none: everything computes on the CPU; HiViT-N trains in minutes, HiViT-B in weeks")
    fast = fast_bf16()
    precision = f"bf16 by {fast}" if fast else "float32: it has no fast bf16"
    yield Finding("CPU", f"{available()} of {os.cpu_count()} cores for this process; {precision}")
    rate = products_per_second(torch.float32)
    parts = [f"{rate:.0f} GFLOP/s in float32"]
    if fast:
        parts.append(f"{products_per_second(torch.bfloat16):.0f} in bf16")
    remedy = "see whether other programs have the cores" if rate < FEW_GFLOPS else ""
    yield Finding("speed", f"matrix products: {', '.join(parts)}, with {torch.get_num_threads()} threads", remedy)


def products_per_second(dtype: "torch.dtype") -> float:
    """Measure how many 1e9 operations a second products of matrices reach."""
    import torch  # noqa: PLC0415

    first, second = torch.ones(2, SIDE, SIDE, dtype=dtype)
    torch.mm(first, second)
    number, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        torch.mm(first, second)
        number += 1
    return number * 2 * SIDE**3 / (time.perf_counter() - begun) / 1e9


def machine() -> Iterator[Finding]:
    """Tell of what makes a run slow or end it, beside the chip."""
    cores, load = available(), os.getloadavg()[0]
    remedy = "timings taken now say little" if load > cores else ""
    yield Finding("load", f"{load:.1f} on average over a minute", remedy)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) < cores:
        yield Finding("threads", f"OMP_NUM_THREADS={threads}, of {cores} cores", "unset it, unless you mean it")
    if SHARED.is_dir():
        free = shutil.disk_usage(SHARED).free
        remedy = "docker run --ipc=host, or --num_workers 0" if free < LEAST_SHARED else ""
        yield Finding("memory", f"{free / 2**30:.1f} GiB free in {SHARED}, for loader workers", remedy)


def main() -> None:
    """Print the report; exit with 1 if something cannot work."""
    Parser(description="Say what is installed, what computes, and what is slow and why.").parse_args()
    share_cores()
    findings = [
        Finding("saratrx", f"{__version__} in {TOP}; Python {platform.python_version()}, {platform.platform()}")
    ]
    findings += [*packages(tuple(TOP / name for name in REQUIREMENTS)), *extras(), *machine()]
    try:
        findings += chips()
    except ImportError as error:
        findings.append(
            Finding(
                "PyTorch",
                f"cannot be imported: {first_line(error)}",
                f"pip install -r {TOP / REQUIREMENTS[0]}",
                fails=True,
            )
        )
    for each in findings:
        print(f"{each.about:9} {each.found}" + (f"\n{'':9} -> {each.remedy}" if each.remedy else ""))
    sys.exit(any(each.fails for each in findings))


if __name__ == "__main__":
    with exit_on_input_error():
        main()
