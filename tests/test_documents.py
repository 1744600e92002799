"""What the documents say can be done: links lead somewhere, and options of commands are there."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from saratrx.console import COMMANDS, TOP

DOCUMENTS = sorted(
    path
    for path in (*TOP.glob("*.md"), *TOP.glob("*/*.md"), *TOP.glob("*/*/*.md"))
    if not any(part.startswith(".") or part in {"output", "work_dirs"} for part in path.relative_to(TOP).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def anchors(path):
    """The names of a document's headings, as GitHub makes them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(path):
    for link in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@cache
def help_of(*command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands_of(path):
    """Commands of a document that start one of ours: (what starts it, its other words)."""
    for _, block in FENCE.findall(path.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.match(r"\s*saratrx \w", line):
                continue
            words = shlex.split(line, comments=True)
            assert words[1] in COMMANDS, line
            yield words[1], words[2:]


@pytest.mark.parametrize("path", sorted((TOP / "docs").glob("*.md")), ids=lambda path: path.name)
def test_options_and_files_of_commands_are_there(path):
    for name, words in commands_of(path):
        command = COMMANDS[name].words()
        if name == "data":
            command.append(words[0])
        known = set(re.findall(r"--[\w-]+", help_of(*command)))
        for word in words:
            if word.startswith("--"):
                assert word in known, f"saratrx {name} {word}"
            elif word.startswith(("detection/", "classification/", "example/", "pre-training/")):
                assert Path(TOP, word).exists(), word
