"""What the documentation holds, and how its examples are run."""

import ast
import contextlib
import doctest
import io
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import safetykit_analytics as ska

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = pathlib.Path(ska.__file__).parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

PUBLIC = [
    str(alias.asname)
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]

_FENCE = re.compile(r"^(`{3,})([\w{}-]*)[^\n]*\n(.*?)^\1 *$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a Markdown page."""

    language: str
    text: str
    line: int


def fenced_blocks(markdown: str) -> list[Block]:
    """Every fenced block, in order; `line` counts from 0 and is that of the block's first line of text."""
    return [
        Block(match[2], match[3], markdown.count("\n", 0, match.start(3)))
        for match in _FENCE.finditer(markdown)
    ]


def without_code(markdown: str) -> str:
    """Take out the fenced blocks and what stands in backquotes."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", markdown))


def run_examples(text: str, globs: dict[str, object], name: str, line: int = 0) -> str:
    """Run the prompts of a text in a namespace; say what differs, "" for nothing."""
    test = doctest.DocTestParser().get_doctest(text, globs, name, name, line)
    found = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    runner.run(test, out=found.write, clear_globs=False)
    globs.update(test.globs)
    return found.getvalue()


def run_page(markdown: str, name: str, given: Mapping[str, object]) -> Iterator[str]:
    """Run the Python of a page, top to bottom in one namespace with some names given; yield what differs.

    A block without prompts runs as a script: if a `text` block comes next, that is what it prints.
    """
    globs: dict[str, object] = {"__name__": "__main__", **given}
    blocks = fenced_blocks(markdown)
    for block, after in itertools.zip_longest(blocks, blocks[1:]):
        if block.language not in {"python", "pycon"}:
            continue
        if ">>>" in block.text:
            yield run_examples(block.text, globs, name, block.line)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.text, name, "exec"), globs)
        between = (
            markdown.splitlines()[block.line + block.text.count("\n") + 1 : after.line - 1] if after else []
        )
        if after and after.language == "text" and not any(line.strip() for line in between):
            shown = after.text.strip()
            if printed.getvalue().strip() != shown:
                yield f"{name}:{after.line}: shown\n{shown}\nprinted\n{printed.getvalue()}"
