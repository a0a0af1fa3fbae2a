"""Write docs/quality.md: the shape of this package beside that of packages to learn from.

``pip install --no-deps --target FOLDER stamina skrub tea-tasting``, then ``python docs/make_quality.py
--peers FOLDER --tests ...``. Counts come from the source; the seconds of the tests are given.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OURS = HERE.parent / "safetykit_analytics"
PEERS = (("stamina", "stamina"), ("skrub", "skrub/_reporting"), ("tea-tasting", "tea_tasting"))
VERBS = 6


@dataclass(frozen=True)
class Shape:
    """What the source of a package looks like."""

    name: str
    files: int
    lines: int
    median: int
    largest: str
    documented: float
    verbs: str
    functions: int
    longest: str


def shape(name: str, folder: Path) -> Shape:
    """Count the files, functions and docstrings of a package, without its tests."""
    files = [path for path in sorted(folder.rglob("*.py")) if "tests" not in path.parts]
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    largest = max(sizes, key=lambda path: sizes[path])
    verbs: Counter[str] = Counter()
    documented, functions, longest = 0, 0, (0, "")
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            functions += 1
            text = ast.get_docstring(node)
            documented += text is not None
            if text:
                verbs[text.split(maxsplit=1)[0].strip(".,:`")] += 1
            body = node.body[1:] if text else node.body
            if body:
                longest = max(longest, ((node.end_lineno or 0) - body[0].lineno + 1, node.name))
    return Shape(
        name=name,
        files=len(files),
        lines=sum(sizes.values()),
        median=round(statistics.median(sizes.values())),
        largest=f"{largest.relative_to(folder)} ({sizes[largest]})",
        documented=documented / max(functions, 1),
        verbs=", ".join(f"{verb} {count}" for verb, count in verbs.most_common(VERBS)),
        functions=functions,
        longest=f"{longest[1]} ({longest[0]})",
    )


def _row(what: str, values: list[object]) -> str:
    return f"| {what} | " + " | ".join(str(value) for value in values) + " |"


def table(shapes: list[Shape], seconds: list[str]) -> str:
    """Write shapes as a table, one column each."""
    return "\n".join(
        [
            _row("", [some.name for some in shapes]),
            "| --- |" + " --- |" * len(shapes),
            _row("files", [some.files for some in shapes]),
            _row("lines", [f"{some.lines:,}" for some in shapes]),
            _row("median file, lines", [some.median for some in shapes]),
            _row("largest file", [f"`{some.largest}`" for some in shapes]),
            _row("functions", [f"{some.functions:,}" for some in shapes]),
            _row("longest body of a function", [f"`{some.longest}`" for some in shapes]),
            _row("functions with a docstring", [f"{some.documented:.0%}" for some in shapes]),
            _row("first words of docstrings", [some.verbs for some in shapes]),
            _row("tests", list(seconds)),
        ]
    )


def packages() -> str:
    """Write the size of each of our packages."""
    rows = ["| package | files | lines | median | largest file |", "| --- | ---: | ---: | ---: | --- |"]
    folders = [path.parent for path in sorted(OURS.glob("*/__init__.py"))]
    rows.extend(
        _row(f"`{some.name}`", [some.files, f"{some.lines:,}", some.median, f"`{some.largest}`"])
        for some in (shape(folder.name, folder) for folder in folders)
    )
    single = list(OURS.glob("*.py"))
    lines = [len(path.read_text(encoding="utf-8").splitlines()) for path in single]
    largest = max(single, key=lambda path: len(path.read_text(encoding="utf-8").splitlines()))
    rows.append(
        _row(
            "modules",
            [
                len(single),
                f"{sum(lines):,}",
                round(statistics.median(lines)),
                f"`{largest.name} ({max(lines)})`",
            ],
        )
    )
    return "\n".join(rows)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument(
        "--tests", nargs=1 + len(PEERS), required=True, help="number and seconds of the tests, ours first"
    )
    given = parser.parse_args()
    version = {
        name: next(importlib.metadata.distributions(name=name, path=[str(given.peers)])).version
        for name, _ in PEERS
    }
    shapes = [
        shape("safetykit-analytics", OURS),
        *(
            shape(f"{folder.replace('/', '.')} {version[name]}", given.peers / folder)
            for name, folder in PEERS
        ),
    ]
    page = f"""# Quality in figures

Made by `docs/make_quality.py`. Tests are not counted as source.

## Beside packages to learn from

{table(shapes, given.tests)}

This package does more than each of them. Comparable are the size of a file and of a function, and the
share of functions with a docstring.

## Its packages

{packages()}
"""
    (HERE / "quality.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
