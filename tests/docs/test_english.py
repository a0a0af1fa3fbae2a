"""Errors, docstrings and pages are plain English: the patterns that CONTRIBUTING lists do not occur."""

import ast
import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCE = sorted((ROOT / "safetykit_analytics").rglob("*.py"))
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])

# The subject of a docstring is the function: it returns, reads, writes.
FIRST_WORDS = {"Give", "Gives", "Say", "Says", "Put", "Take", "Turn", "Tell"}
PATTERNS = {
    "an inversion: write 'is not a x' or 'invalid x'":
        r"(?<!there )(?<!There )\b(?:is|are) no (?!longer|more|less|later|earlier|other)\w+",
    "a clause as a noun: name the thing":
        r"(?:^|[.:;,] |\b(?:of|from|to|with|and) )what (?:is|was|are|were) (?!the\b)\w+",
    "an aphorism: state the fact":
        r"\b(?:nothing but|none but|whatever (?:happens|happened|else|it|is))\b",
    "a second 'so that' in one paragraph: write two sentences":
        r"so that\b[^\n]*(?:\n(?!\s*\n)[^\n]*)*\bso that\b",
}  # fmt: skip
QUESTION = re.compile(r"[^.?!]*\?")


@functools.cache
def nodes_of(path):
    """Every node of a module's syntax tree."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


def texts_of(path):
    """Every phrase among the literals of a module: docstrings, errors, help; with its line."""
    for node in nodes_of(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def found_in(text):
    """What is wrong with a text."""
    # A question may ask what is wrong.
    plain = QUESTION.sub("", text) if "?" in text else text
    return [
        f"{match[0].strip()!r} is {reason}"
        for reason, pattern in PATTERNS.items()
        for match in re.finditer(pattern, plain, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "freq 'x' is no frequency",
        "Describe, from what is odd",
        "the files, and what was asked",
        "holds nothing but ids",
        "so that one\nand so that two",
    ],
)
def test_each_pattern_finds_its_example(text):
    assert found_in(text)


@pytest.mark.parametrize(
    "text", ["The batch is no longer open.", "What is stuck? Whatever the cut, it is the same."]
)
def test_plain_sentences_pass(text):
    assert not found_in(text)


def test_the_source_is_in_plain_english():
    assert len(SOURCE) > 50
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {odd}"
        for path in SOURCE
        for line, text in texts_of(path)
        for odd in found_in(text)
    ]


def test_the_pages_are_in_plain_english():
    assert len(PAGES) > 20
    for path in PAGES:
        text = path.read_text("utf-8")
        if path.name == "CONTRIBUTING.md":
            text = text.split("| not | but |")[0]  # the table lists the patterns
        assert not found_in(text), path.name


def test_docstrings_begin_with_a_plain_verb():
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    for path in SOURCE:
        for node in nodes_of(path):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                assert text.split(maxsplit=1)[0] not in FIRST_WORDS, f"{path.name}:{node.lineno}"
