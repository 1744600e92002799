"""Bring the pages of the site together: MkDocs calls these functions, see mkdocs.yml.

The pages are those of mkdocs.yml's `nav`, from anywhere in the project, and stand in the site where they stand in the
project, so that the links between them are the same in a clone, on GitHub and in the site. What they link to beside
pages comes along if it is a picture; code and folders become their paths, as text.
"""

import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

TOP = Path(__file__).parents[1]
COMMANDS = "docs/commands.md"  # is made, and stands nowhere
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


def leaves(nav: Any) -> Iterator[str]:
    """Give the paths in a `nav`, in their order."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(each)


def target(page: str, link: str) -> str:
    """Give the path, from the top of the project, of what a page links to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the pages of `nav` and their pictures."""
    for file in [each for each in files if each.src_dir == config.docs_dir]:
        files.remove(file)
    pages = list(leaves(config.nav))
    beside = set(config.extra_css)
    for page in pages:
        if page == COMMANDS:
            script = [sys.executable, str(TOP / "docs/command_reference.py")]
            made = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout
            files.append(File.generated(config, page, content=made))
        else:
            files.append(File.generated(config, page, abs_src_path=str(TOP / page)))
            text = (TOP / page).read_text(encoding="utf-8")
            beside |= {target(page, link) for link in PICTURE.findall(text)}
    for path in sorted(beside):
        files.append(File.generated(config, path, abs_src_path=str(TOP / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to what is in the project and no page into text."""

    def as_text(link: re.Match[str]) -> str:
        path = target(page.file.src_uri, link[2])
        if "://" in link[2] or files.get_file_from_path(path) or not (TOP / path).exists():
            return link[0]  # a link that leads nowhere stays, for MkDocs to refuse
        return link[1] if path in link[1] else f"{link[1]} (`{path}`)"

    return LINK.sub(as_text, markdown)
