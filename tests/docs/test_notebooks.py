"""The notebooks run from top to bottom on a machine without a key, and are committed with what they print."""

import asyncio
import os
import re

import pytest

import safetykit_analytics as ska
from tests.docs.helpers import NOTEBOOKS, PACKAGE

nbformat = pytest.importorskip("nbformat", reason="no nbformat: pip install '.[full]'")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook_for_each_use():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_quickstart",
        "02_policy_versions",
        "03_weekly_report",
        "04_scaling",
        "05_own_dimensions",
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all notebooks run, as they do for a reader."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def outputs(folder):
    """The outputs of every notebook. They run side by side: most of the time is spent starting kernels."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAFETYKIT")}
    environment["PYTHONPATH"] = str(PACKAGE.parent)

    from docs.make_notebooks import run

    async def run_all():
        return await asyncio.gather(
            *(run(path, folder, environment) for path in NOTEBOOKS), return_exceptions=True
        )

    return dict(zip(NOTEBOOKS, asyncio.run(run_all()), strict=True))


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom_without_a_key_and_says_what_is_committed(path, outputs):
    if isinstance(outputs[path], BaseException):
        raise outputs[path]
    from docs.make_notebooks import said

    printed = said(outputs[path])
    assert "Traceback" not in str(printed)
    assert "Warning" not in str(printed)
    assert printed == said(nbformat.read(path, as_version=4)), "run `python -m docs.make_notebooks`"


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_what_one_notebook_writes_is_not_read_by_another(outputs, folder):
    # Three fleets in one store would be one report on all of them; and ./snapshots may be the reader's own.
    assert outputs
    expected = {"01": "quickstart", "02": "versions", "03": "monday", "04": "year", "05": "markets"}
    assert {path.name for path in folder.iterdir()} == {expected[path.stem[:2]] for path in NOTEBOOKS}
    batches = {path.parent.name: len(ska.SnapshotStore(path).latest()) for path in folder.glob("*/snapshots")}
    sizes = {"quickstart": 500, "versions": 900, "monday": 800, "year": 6000, "markets": 600}
    assert batches == {name: sizes[name] for name in batches}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_pictures_with_words_and_nothing_of_the_run(path):
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    for picture in pictures:
        assert len(picture["metadata"]["image/png"]["alt"]) > 30
    assert {cell.get("execution_count") for cell in notebook.cells} == {None}
    assert "/tmp/" not in str(outputs)


def test_notebooks_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) <= 1_000_000


def test_a_notebook_begins_with_a_heading_and_says_something_after_its_last_picture(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(r"# \w", notebook.cells[0].source)
    assert notebook.cells[-1].cell_type == "markdown"


def test_a_notebook_uses_public_names_only(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert set(re.findall(r"\bska\.(\w+)", code)) <= set(dir(ska))
    assert set(re.findall(r"from (safetykit_analytics[\w.]*)", code)) <= {"safetykit_analytics.simulator"}
