"""What do two cores do that other processes use too? Training steps of a small model, with and without `saratrx.cores`.

    python benchmarks/shared_cores.py                       # two minutes
    python benchmarks/shared_cores.py --seconds 30 --json shared.json

A process trains alone, beside one that is busy, and beside a copy of itself; with GNU OpenMP's own way of waiting, and
ours, in turn. Prints images per second, and ratios to GNU's way alone.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from saratrx.command_line import Parser
from saratrx.cores import share_cores
from saratrx.errors import exit_on_input_error
from saratrx.files import write_json

WAYS = {"GNU's way": "300000", "ours": ""}  # GOMP_SPINCOUNT: GNU's default, or left to `share_cores`
BATCH, SIDE = 16, 128
WARM_UP = 3.0  # seconds
BUSY = "while True: pass"


def train(seconds: float) -> None:
    """Train, and print images per second; the other side of `measured`."""
    share_cores()
    import torch  # noqa: PLC0415 -- reads at once how to wait

    from hivit_mae.models.models_hivit_mae import HiViTMaskedAutoencoder  # noqa: PLC0415

    torch.manual_seed(0)
    decoder: dict[str, Any] = {"decoder_embed_dim": 128, "decoder_depth": 2, "decoder_num_heads": 4}
    model = HiViTMaskedAutoencoder(img_size=SIDE, embed_dim=192, depths=(1, 1, 6), num_heads=3, **decoder)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.rand(BATCH, 1, SIDE, SIDE)

    def steps_within(seconds: float) -> float:
        steps, begun = 0, time.monotonic()
        while not steps or time.monotonic() < begun + seconds:
            loss, _, _ = model(images)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
        return steps / (time.monotonic() - begun)

    steps_within(WARM_UP)
    print(json.dumps(BATCH * steps_within(seconds)))


def measured(way: str, copies: int, busy: int, seconds: float) -> list[float]:
    """Images per second of each of some copies that train beside some busy processes."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    environment |= {"GOMP_SPINCOUNT": WAYS[way]} if WAYS[way] else {}
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    command = [sys.executable, __file__, "--seconds", str(seconds), "--train"]
    try:
        runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(copies)]
        printed = [run.communicate()[0] for run in runs]
    finally:
        for other in others:
            other.kill()
    if any(run.returncode for run in runs):
        raise SystemExit("error: a copy has failed, see above")
    return [json.loads(text) for text in printed]


def main() -> None:
    """Measure and print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    if "--train" in sys.argv:
        train(parser.parse_args().seconds)
        return

    import torch  # noqa: PLC0415 -- not for a copy, which sets first how it waits

    from machine import describe, parsed  # noqa: PLC0415

    args = parsed(parser)
    results: dict[str, object] = {"machine": describe(torch.device("cpu"))}
    print(results["machine"])
    alone = 0.0
    for name, copies, busy in (("alone", 1, 0), ("beside a busy process", 1, 1), ("two copies", 2, 0)):
        for way in WAYS:
            found = measured(way, copies, busy, args.seconds)
            alone = alone or found[0]
            each = " + ".join(f"{speed:.0f}" for speed in found)
            print(f"{name:22} {way:10} {each:>10} images/s   ratio {sum(found) / alone:.2f}", flush=True)
            results[f"{name}, {way}"] = found
    if args.json:
        write_json(args.json, results, indent=1)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
