"""Everything printed goes to log.txt as well."""

import sys
from pathlib import Path
from typing import TextIO

from dassl.utils.tools import mkdir_if_missing
from saratrx.files import refused_if_unwritable


class Logger:
    """Stands in for stdout and writes to a file too; a context manager, or opened by `setup_logger`.

    Args:
        file: appended to, so that a run that goes on keeps what it had said (None: there is no file).

    Raises:
        InputError: if it cannot be written, when it is opened or later.

    """

    def __init__(self, file: str | Path | None = None) -> None:
        self.path, self.file = file, None if file is None else open_log(file)
        self.console = sys.stdout

    def write(self, text: str) -> None:
        self.console.write(text)
        self.write_to_file(text)

    def write_to_file(self, text: str) -> None:
        """Write what is not for the terminal; names that are no Unicode are escaped."""
        if self.file is not None:
            with refused_if_unwritable(str(self.path)):
                self.file.write(text)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            with refused_if_unwritable(str(self.path)):
                self.file.flush()

    def isatty(self) -> bool:
        return self.console.isatty()

    def close(self) -> None:
        """Give stdout back."""
        if sys.stdout is self:
            sys.stdout = self.console
        if self.file is not None:
            with refused_if_unwritable(str(self.path)):
                self.file.close()

    def __enter__(self) -> "Logger":
        sys.stdout = self
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_log(file: str | Path) -> TextIO:
    """Open a text file for appending, line by line, so that what was said is there after a kill."""
    mkdir_if_missing(Path(file).parent)
    with refused_if_unwritable(file):
        return Path(file).open("a", encoding="utf-8", errors="backslashreplace", buffering=1)


def setup_logger(output: str | None = None) -> None:
    """From now on, also write what is printed to `output`, a .txt or .log file, or log.txt in that folder."""
    if output is None:
        return
    if isinstance(sys.stdout, Logger):
        sys.stdout.close()
    sys.stdout = Logger(output if output.endswith((".txt", ".log")) else Path(output, "log.txt"))
