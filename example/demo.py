"""A page in the browser to drop SAR images on: what they are, what an encoder makes of them, and what they are like.

    python demo.py                                             # with the shipped weights, on the CPU
    python demo.py --checkpoint checkpoint-800.pth             # of pre-training: reconstructions, too
    python demo.py --embedded DIR                              # a folder of embed.py: the most similar images
    python demo.py --run DIR                                   # a run of train.py: classes and their probabilities
    python demo.py --detector CONFIG CHECKPOINT --window 384   # targets

It needs `pip install -e .[demo]`. It listens on this machine alone unless --host says otherwise, asks nothing of the
net, and keeps nothing: an image is deleted once it was looked at, and so is all else when the page ends.
"""

import os
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coco_annotations.run_options import missing_checkpoint, wrong_config
from saratrx.command_line import at_least, between, option, parse
from saratrx.console import TOP
from saratrx.cores import share_cores
from saratrx.errors import InputError, exit_on_input_error, interrupt_ends_at_once, raise_problems
from saratrx.files import is_file, is_folder
from saratrx.grey_scale import REMAPS, Remap
from saratrx.reporting import print_any_name

LARGEST_MB = 256  # of a file that is dropped
MAX_PIXELS = 2**26  # of an image, unless SARATRX_MAX_PIXELS is set
LEFT_SECONDS = 600  # after which a file that was dropped, but never looked at, is deleted
# whatever a library of the page may ask for, a browser takes it from nowhere else
POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
OWN = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Options:
    """What the page shows, and where it listens."""

    checkpoint: Path = option(TOP / "example/weights/model.safetensors", help="of an encoder", default_text="shipped")
    embedded: Path | None = option(None, help="folder of embed.py, for the most similar images", metavar="DIR")
    run: Path | None = option(None, help="finished run of train.py, for classes", metavar="DIR")
    detector: tuple[Path, Path] | None = option(None, help="its config, which is run, and its checkpoint")
    window: int = option(1024, help="side in pixels of the windows that the detector looks at")
    host: str = option(OWN[0], help="address to listen on; 0.0.0.0: all, for whoever can reach this machine")
    port: int = option(7860, help="to listen on")

    def __post_init__(self) -> None:
        problems = between(1, 65535, port=self.port) + at_least(1, window=self.window)
        if not is_file(self.checkpoint):
            problems.append(f"--checkpoint {self.checkpoint}: no such file")
        for name, folder in (("embedded", self.embedded), ("run", self.run)):
            if folder is not None and not (is_folder(folder) and is_file(folder / "settings.yaml")):
                problems.append(f"--{name} {folder}: no such folder, or it has no settings.yaml")
        if self.detector is not None:
            problems += [*wrong_config(self.detector[0]), *missing_checkpoint(self.detector[1])]
        raise_problems(problems)


class Policy:
    """Tells browsers, with every answer of an ASGI application, to load nothing from elsewhere."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        await self.app(scope, receive, with_policy)


def sections_of(options: Options, work: Path) -> dict[str, Any]:
    """Make what looks at images, by title; with this comes PyTorch.

    Raises:
        InputError: for a checkpoint or a folder that is none.

    """
    with interrupt_ends_at_once():
        import demo_sections as parts  # noqa: PLC0415

    made: dict[str, Any] = {"Gradients": parts.gradients, "Encoder": parts.Encoder(options.checkpoint)}
    if options.embedded:
        made["What it is like"] = parts.Neighbours(options.embedded, work)
    if options.run:
        made["Class"] = parts.Classifier(options.run, work)
    if options.detector:
        made["Targets"] = parts.Detector(*options.detector, options.window, work)
    return made


def page(sections: dict[str, Any]) -> Any:
    """Make the page of Gradio."""
    import gradio  # noqa: PLC0415 -- an extra

    from demo_sections import look  # noqa: PLC0415 -- with PyTorch
    from saratrx.reading import Reading  # noqa: PLC0415

    def dropped(path: str, remap: Remap, channel: str) -> tuple[None, str]:
        try:
            return None, look(sections, Path(path), Reading(remap, channel.strip() or None))
        finally:
            Path(path).unlink()

    with gradio.Blocks(title="SARATR-X", analytics_enabled=False, delete_cache=(LEFT_SECONDS, LEFT_SECONDS)) as blocks:
        gradio.Markdown(
            f"# SARATR-X\nDrop a SAR image of any format that is read, of at most {LARGEST_MB} MB. It is looked at on "
            "the machine that runs this page, and then deleted."
        )
        with gradio.Row():
            remap = gradio.Dropdown(list(REMAPS), value=REMAPS[0], label="remap of values of more than 8 bits")
            channel = gradio.Textbox(label="channel of several: its name, its number from 0, span or max")
        file = gradio.File(label="image", height=140)
        found = gradio.HTML()
        file.upload(dropped, [file, remap, channel], [file, found], api_visibility="private", concurrency_limit=1)
    return blocks


def serve(options: Options, folder: Path) -> None:
    """Show the page until it is stopped; what it writes is below a folder."""
    # Gradio reads these when it is imported
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "dropped"),
        "HF_HUB_OFFLINE": "1",
    }
    os.environ.setdefault("SARATRX_MAX_PIXELS", str(MAX_PIXELS))
    work = folder / "work"
    work.mkdir()
    blocks = page(sections_of(options, work))
    import gradio  # noqa: PLC0415 -- an extra
    from starlette.middleware import Middleware  # noqa: PLC0415 -- comes with it

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}
    try:
        blocks.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=f"{LARGEST_MB}mb",
            theme=gradio.themes.Default(**fonts),
            app_kwargs={"middleware": [Middleware(Policy)]},
            footer_links=[],
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(
            f"--host {options.host} --port {options.port}: cannot be listened on; choose another port, or an address "
            "of this machine"
        ) from error
    whom = "for this machine alone" if options.host in OWN else "for whoever can reach it, without a password"
    print(f"listening on http://{options.host}:{options.port}, {whom}; Ctrl-C ends it", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))  # so that the folder is deleted
    signal.pause()


def main() -> None:
    """Do what the command line asks for."""
    (options,) = parse((Options,), (__doc__ or "").splitlines()[0])
    if find_spec("gradio") is None:
        raise InputError("gradio is not installed: pip install -e '.[demo]', at the top of the project")
    share_cores()
    with TemporaryDirectory(prefix="saratrx-demo-") as folder:
        serve(options, Path(folder))


if __name__ == "__main__":
    print_any_name()
    with exit_on_input_error():
        main()
