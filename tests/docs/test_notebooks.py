"""The notebooks run from top to bottom on a machine without a key, and are committed without output."""

import asyncio
import os
import re

import nbclient
import nbformat
import pytest

import safetykit_analytics as ska
from tests.docs.helpers import NOTEBOOKS, PACKAGE


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook_for_each_use():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_quickstart",
        "02_policy_versions",
        "03_weekly_report",
        "04_scaling",
    ]


async def _run(path, folder, environment):
    """Run a notebook in a folder; give its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    await client.async_execute(env=environment)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all notebooks run, as they do for a reader."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def outputs(folder):
    """The outputs of every notebook. They run side by side: most of the time is spent starting kernels."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAFETYKIT")}
    environment["PYTHONPATH"] = str(PACKAGE.parent)

    async def run_all():
        return await asyncio.gather(
            *(_run(path, folder, environment) for path in NOTEBOOKS), return_exceptions=True
        )

    return dict(zip(NOTEBOOKS, asyncio.run(run_all()), strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_top_to_bottom_without_a_key(path, outputs):
    if isinstance(outputs[path], BaseException):
        raise outputs[path]
    assert any("image/png" in output.get("data", {}) for output in outputs[path]), (
        "a notebook shows a picture"
    )
    assert "Traceback" not in str(outputs[path])
    assert "Warning" not in str(outputs[path])


@pytest.mark.timeout(300)
def test_what_one_notebook_writes_is_not_read_by_another(outputs, folder):
    # Three fleets in one store would be one report on all of them; and ./snapshots may be the reader's own.
    assert outputs
    assert sorted(path.name for path in folder.iterdir()) == ["monday", "quickstart", "year"]
    batches = {path.parent.name: len(ska.SnapshotStore(path).latest()) for path in folder.glob("*/snapshots")}
    assert batches == {"quickstart": 500, "monday": 800, "year": 6000}


def test_a_notebook_is_committed_without_output(notebook):
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_notebook_begins_with_a_heading_and_says_something_after_its_last_picture(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert re.match(r"# \w", notebook.cells[0].source)
    assert notebook.cells[-1].cell_type == "markdown"


def test_a_notebook_uses_public_names_only(notebook):
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert set(re.findall(r"\bska\.(\w+)", code)) <= set(dir(ska))
    assert set(re.findall(r"from (safetykit_analytics[\w.]*)", code)) <= {"safetykit_analytics.simulator"}
