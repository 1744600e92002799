"""Everything printed goes to log.txt as well."""

import sys
from pathlib import Path
from typing import TextIO

from dassl.utils.tools import mkdir_if_missing
from saratrx.files import refused_if_unwritable


class Logger:
    """Stands in for stdout and writes to a file too; a context manager, or opened by `setup_logger`.

    Args:
        file: appended to, so that a run that goes on keeps what it had said.

    Raises:
        InputError: if it cannot be written.

    """

    def __init__(self, file: str | Path) -> None:
        mkdir_if_missing(Path(file).parent)
        with refused_if_unwritable(file):
            self.file: TextIO = Path(file).open("a", encoding="utf-8")  # noqa: SIM115 -- closed by close()
        self.console = sys.stdout

    def write(self, text: str) -> None:
        self.console.write(text)
        self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        self.file.flush()

    def isatty(self) -> bool:
        return self.console.isatty()

    def close(self) -> None:
        """Give stdout back."""
        if sys.stdout is self:
            sys.stdout = self.console
        self.file.close()

    def __enter__(self) -> "Logger":
        sys.stdout = self
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def setup_logger(output: str | None = None) -> None:
    """From now on, also write what is printed to `output`, a .txt or .log file, or log.txt in that folder."""
    if output is None:
        return
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
    sys.stdout = Logger(output if output.endswith((".txt", ".log")) else Path(output, "log.txt"))
