"""What the pages on the command say can be typed as it stands."""

import itertools
import pathlib
import re
import shlex

import pytest
import typer

from safetykit_analytics.cli.app import app

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "command-line.md",
    ROOT / "docs" / "recipes.md",
    ROOT / "docs" / "operating.md",
]
COMMANDS = typer.main.get_command(app).commands
GLOBAL = {"--quiet", "--verbose", "--debug", "--install-completion"}


def invocations(page):
    """Every use of the command in a fenced block or between backquotes."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    quoted = re.findall(r"`(safetykit-analytics [^`]+)`", text)
    lines = [line for block in fenced for line in block.splitlines()] + quoted
    return [
        shlex.split(found, comments=True)[1:]
        for line in lines
        for found in re.findall(rf"safetykit-analytics (?:{'|'.join(COMMANDS)}|-).*", line)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_on_the_page_exists(page):
    found = invocations(page)
    assert found
    for words in found:
        name = next((word for word in words if word in COMMANDS), None)
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - GLOBAL
        if name is None:
            assert not options, words
            continue
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert options <= known, words


def test_a_file_never_stands_where_an_id_is_meant():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    found = [words for page in pages for words in invocations(page)]
    assert ["poll", "--ids", "ids.txt"] in found
    for words in found:
        for before, word in itertools.pairwise(words):
            assert not word.endswith((".txt", ".jsonl")) or before.startswith("-"), words


def test_the_page_names_every_command_and_every_exit_code():
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"safetykit-analytics {name}" in page
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert re.search(rf"^\| {code} \| ", page, re.MULTILINE)
