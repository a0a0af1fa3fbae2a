"""What the README shows is what happens: its Python runs on a demo's store, and the demo conserves work."""

import doctest
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli.demo import run_demo

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# The demo takes half a minute on an idle machine, and much longer beside other work.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo, whole, as the README's first command runs it."""
    return run_demo(tmp_path_factory.mktemp("readme") / "safetykit-demo", progress=False)


@pytest.mark.heavy
def test_the_python_in_the_readme_prints_what_it_says(demo, monkeypatch):
    monkeypatch.chdir(demo.folder.parent)
    (code,) = re.findall(r"^```python\n(.+?)^```$", README, re.MULTILINE | re.DOTALL)
    test = doctest.DocTestParser().get_doctest(code, {}, "README.md", None, 0)
    assert len(test.examples) >= 7
    # pandas fits tables to the terminal, and there is none here.
    monkeypatch.setenv("COLUMNS", "120")
    out: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=out.append)
    assert not result.failed, "".join(out)


@pytest.mark.heavy
@pytest.mark.parametrize("freq", ["1h", "1D", "W"])
def test_every_batch_of_the_demo_is_conserved(demo, freq):
    store = ska.SnapshotStore(demo.store)
    last = store.latest()
    assert last["created_at"].notna().all()
    total = ska.rates(store, freq=freq, by=())[["success", "error", "cancelled"]].sum()
    counts = last[["success_count", "error_count", "cancelled_count"]].sum()
    np.testing.assert_allclose(total, counts, rtol=1e-9)
    # One by one as well: a sum over all batches could hide what one lost and another gained.
    observations = store.read()
    for batch_id in last["batch_id"].iloc[:: len(last) // 40]:
        alone = ska.rates(observations[observations["batch_id"] == batch_id], freq=freq, by=())
        counts = last.loc[last["batch_id"] == batch_id, ["success_count", "error_count", "cancelled_count"]]
        np.testing.assert_allclose(
            alone[["success", "error", "cancelled"]].sum(), counts.iloc[0].astype(float), rtol=1e-9
        )


@pytest.mark.heavy
def test_the_demo_leaves_what_the_readme_names(demo):
    assert demo.folder.name in README
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in demo.plots)
    assert demo.batches >= 2000
    assert demo.summary["error_rate"].between(0, 1).all()


def test_ci_runs_the_two_commands_that_the_readme_promises():
    script = ROOT / ".ci" / "readme_commands.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "pip install '.[demo]' && safetykit-analytics demo",
        "pip install '.[dev]' && pytest",
    ]
