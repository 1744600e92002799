"""What the library tells: plain lines on stdout, by `logging`.

    log = get_logger(__name__)
    log.info("4 images read")           # 4 images read
    log.warning("0.png is damaged")     # warning: 0.png is damaged

`logging.getLogger("saratrx").setLevel("ERROR")` silences it.
"""

import io
import logging
import sys
import threading
from typing import TextIO


class PlainFormatter(logging.Formatter):
    """The message alone; warnings and worse begin with their level."""

    def format(self, record: logging.LogRecord) -> str:
        message = printable(record.getMessage())
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def printable(text: str) -> str:
    """Give text that any stream of the current encoding takes: a file's name need not be UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def print_any_name() -> None:
    """Have stdout escape what it cannot show, rather than fail: names of files and classes may have any signs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stdout` is at the time, since runs copy it to a log or silence it in all but one process."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(PlainFormatter())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's name
        """Raise what went wrong, as `print` does: a full disk under a log must not go unnoticed."""
        raise  # noqa: PLE0704 -- logging calls this while it handles the error

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # a plain attribute there; here stdout may change
        return sys.stdout


def get_logger(name: str) -> logging.Logger:
    """Give the logger of a module; all are below the logger `saratrx`."""
    root = logging.getLogger("saratrx")
    if not root.handlers:
        root.addHandler(StdoutHandler())
        root.setLevel(logging.INFO)
        root.propagate = False
    return logging.getLogger(name if name.startswith("saratrx") else f"saratrx.{name}")


def silence_writer_threads() -> None:
    """Print no traceback of a thread that keeps its error for its owner, as TensorBoard's writers do, who tells it."""
    tell = threading.excepthook

    def tell_if_not_kept(args: threading.ExceptHookArgs) -> None:
        if getattr(args.thread, "exception", None) is not args.exc_value:
            tell(args)

    if getattr(tell, "__name__", "") != tell_if_not_kept.__name__:
        threading.excepthook = tell_if_not_kept
