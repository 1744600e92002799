"""What the documents say can be done: links lead somewhere, and options of commands are there."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from hivit_mae.prepare.options import COMMANDS as PREPARATIONS
from saratrx import __version__
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
def reference():
    """The options of each command, with the other cells of their rows, as the site's page of commands has them."""
    script = [sys.executable, str(TOP / "docs/command_reference.py")]
    page = subprocess.run(script, capture_output=True, text=True, timeout=300, check=True).stdout
    commands, seen = {}, {}
    for line in page.splitlines():
        if line.startswith(("## ", "### ")):
            seen = commands.setdefault(line.partition(" saratrx ")[2], {})
        elif line.startswith("| `"):
            names, *cells = re.split(r" (?<!\\)\| ", line.strip("| "))
            seen |= dict.fromkeys(re.findall(r"`([^`]+)`", names), cells)
    return commands


def test_the_reference_has_every_command():
    assert set(COMMANDS) <= set(reference())
    assert {name for name in reference() if name not in COMMANDS} == {f"data {name}" for name in PREPARATIONS}


@pytest.mark.parametrize("name", ["pretrain", "data build", "scene"])
def test_the_reference_says_what_the_help_says(name):
    first, *words = name.split()
    command = [*COMMANDS[first].words(), *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    said = " ".join(done.stdout.split())
    assert set(re.findall(r"--[a-z]\w[\w-]*", said)) - {"--help", "--version"} <= set(reference()[name])
    for option, (_, default, text) in reference()[name].items():
        assert option in said
        plain = text.replace("\\|", "|").replace("&lt;", "<")
        assert " ".join(plain.split()) in said or "|" in plain, option  # argparse breaks long words
        if default not in {"", "off", "**must be given**"}:
            assert f"(default: {default})" in said, option


def test_the_reference_tells_ranges():
    assert reference()["scene"]["--window"][0] == "whole number, 1 to 65,536"
    assert reference()["pretrain"]["--clip_grad"][0] == "number, above 0"
    assert reference()["data build"]["--window"][0] == "whole number, at least 64"
    assert reference()["data build"]["--overlap"][0] == "whole number, 0 to max(window // 2, 0)"
    assert reference()["simulate"]["--chips"][0] == "whole number, 0 to 100,000; 2 of them"


def test_links_of_the_site_lead_to_pages_or_become_text():
    pytest.importorskip("mkdocs", reason="the site needs pip install -e .[docs]")
    from mkdocs.config import load_config  # noqa: PLC0415
    from mkdocs.structure.files import File, Files  # noqa: PLC0415

    config = load_config(str(TOP / "mkdocs.yml"))
    hooks = config.plugins["docs/site_hooks.py"]
    named = [path for path in hooks.leaves(config.nav) if path != hooks.COMMANDS]
    assert {str(path.relative_to(TOP)) for path in DOCUMENTS} == set(named)
    files = Files([File(path, str(TOP), config.site_dir, use_directory_urls=False) for path in named])
    page = SimpleNamespace(file=files.get_file_from_path("docs/troubles.md"))
    text = "[a](../README.md#x) [b](cluster.md) [c](../saratrx/cores.py) [LICENSE](../LICENSE) [d](none.md) [e](http://e.e)"
    assert hooks.on_page_markdown(text, page, config, files) == (
        "[a](../README.md#x) [b](cluster.md) c (`saratrx/cores.py`) LICENSE [d](none.md) [e](http://e.e)"
    )


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
        known = reference()[f"data {words[0]}" if name == "data" else name]
        for word in words:
            if word.startswith("--"):
                assert word in known, f"saratrx {name} {word}"
            elif word.startswith(("detection/", "classification/", "example/", "pre-training/")):
                assert Path(TOP, word).exists(), word


def test_the_citation_is_that_of_the_readme():
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    article = cited["preferred-citation"]
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    text = re.search(r"@article{li2025saratrx,\n(.*?)\n}", readme, re.DOTALL)[1]
    fields = {key: re.sub("[{}]", "", value) for key, value in re.findall(r"(\w+) += {(.*)}", text)}
    authors = [f"{each['family-names']}, {each['given-names']}" for each in article["authors"]]
    assert fields == {
        "title": article["title"],
        "author": " and ".join(authors),
        "journal": article["journal"],
        "volume": str(article["volume"]),
        "pages": f"{article['start']}--{article['end']}",
        "year": str(article["year"]),
        "doi": article["doi"],
    }
