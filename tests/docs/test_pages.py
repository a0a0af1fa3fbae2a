"""The pages are true: their code runs, their links lead somewhere."""

import json
import re
import runpy

import pytest

from safetykit_analytics.simulator import make_fleet, serve
from tests.docs.helpers import NOTEBOOKS, PAGES, ROOT, fenced_blocks, run_page, without_code

MARKDOWN = sorted(
    path for folder in (".", "docs", "benchmarks", "notebooks") for path in (ROOT / folder).glob("*.md")
)
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)")


@pytest.fixture(scope="module")
def simulated():
    """A SafetyKit that answers on this machine: its base URL and the ids of its batches."""
    fleet = make_fleet(seed=1, batches=20, weeks=1)
    with serve(fleet, clock=lambda: fleet.end, api_key="a-key") as url:
        yield url, fleet.batch_ids


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_code_of_every_page_runs_and_prints_what_is_shown(page, simulated, tmp_path, monkeypatch):
    # The reader of a page has a key in the environment, and batches whose ids they know.
    url, batch_ids = simulated
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYKIT_API_KEY", "a-key")
    monkeypatch.setenv("SAFETYKIT_BASE_URL", url)
    given = {"batch_ids": list(batch_ids), "batch_id": batch_ids[0]}
    assert not "".join(run_page(page.read_text("utf-8"), page.name, given))


@pytest.mark.parametrize(
    ("markdown", "complaint"),
    [
        ("```python\n>>> 1 + 1\n3\n```\n", "Expected"),
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "shown"),
        ("```python\n>>> x = given\n```\n\n```python\nprint(x)\n```\n```text\n1\n```\n", ""),
    ],
)
def test_a_page_whose_output_differs_is_caught(markdown, complaint):
    found = "".join(run_page(markdown, "page.md", {"given": 1}))
    assert complaint in found
    assert bool(found) == bool(complaint)


def _anchors(markdown: str) -> set[str]:
    """The anchors that code hosts and the site give to headings."""
    headings = re.findall(
        r"^#+ +(.+?) *$", re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).lower()).replace(" ", "-")
        for text in headings
    }


def _broken(markdown: str, folder) -> list[str]:
    broken = []
    for link in _LINK.findall(without_code(markdown)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (folder / target).resolve() if target else None
        if (path and not path.exists()) or (
            anchor and anchor not in _anchors(path.read_text("utf-8") if path else markdown)
        ):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_to_a_file_and_a_heading(page):
    assert _broken(page.read_text("utf-8"), page.parent) == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_relative_link_of_a_notebook_leads_to_a_file_and_a_heading(notebook):
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert _broken(text, notebook.parent) == []


def test_a_broken_link_is_caught(tmp_path):
    (tmp_path / "there.md").write_text("# One `two` three\n")
    text = (
        "# Top\n[a](there.md) [b](there.md#one-two-three) [c](#top) [d](gone.md) [e](there.md#four) [f](#x)\n"
    )
    assert _broken(text, tmp_path) == ["gone.md", "there.md#four", "#x"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_of_a_page_says_its_language(page):
    unnamed = [block.line for block in fenced_blocks(page.read_text("utf-8")) if not block.language]
    assert unnamed == []


def test_the_picture_is_what_its_script_draws():
    script = runpy.run_path(str(ROOT / "docs" / "flow_svg.py"))
    assert (ROOT / "docs" / "flow.svg").read_text("utf-8") == script["draw"]()
