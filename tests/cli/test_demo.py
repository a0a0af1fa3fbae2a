"""The demo, made small: the same code with fewer batches."""

import numpy as np
import pandas as pd
import pytest

from safetykit_analytics import SnapshotStore, rates
from safetykit_analytics.cli import run, run_demo
from safetykit_analytics.flow import batch_work
from safetykit_analytics.simulator import make_fleet


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("demo") / "new", batches=40, weeks=0.25, seed=2)


def test_every_batch_was_polled_until_it_settled_or_the_fleet_ended(made):
    fleet = make_fleet(seed=2, batches=40, weeks=0.25)
    seen = SnapshotStore(made.store).latest()
    assert seen["batch_id"].tolist() == sorted(fleet.batch_ids)
    counts = fleet.counts_at(np.arange(40), int(fleet.end.timestamp() * 1000))
    expected = pd.DataFrame(
        {name: getattr(counts, name) for name in counts._fields[1:]}, index=fleet.batch_ids
    )
    shown = seen.set_index("batch_id").loc[list(fleet.batch_ids), list(counts._fields[1:])]
    assert (shown.to_numpy() == expected.to_numpy()).all()
    assert made.batches == 40
    assert made.polls == 14
    assert made.requests == len(SnapshotStore(made.store).read())


def test_buckets_sum_to_the_last_counts_of_every_batch(made):
    store = SnapshotStore(made.store)
    latest = store.latest().set_index("batch_id")
    hours = pd.date_range(latest["created_at"].min().floor("h"), periods=24 * 5, freq="h")
    work = batch_work(store, edges=hours.as_unit("us").asi8.tolist())
    summed = work.groupby("batch_id")[["success", "error", "cancelled"]].sum()
    summed = summed.reindex(latest.index, fill_value=0.0)
    assert latest["created_at"].notna().all()
    for name in summed.columns:
        np.testing.assert_allclose(summed[name], latest[f"{name}_count"], rtol=1e-9, atol=1e-9)
    table = rates(store, freq="1h")
    for name in ("success", "error", "cancelled"):
        assert table[name].sum() == pytest.approx(latest[f"{name}_count"].sum(), rel=1e-9)


def test_its_summary_has_a_row_per_policy_version_and_holds_all_work(made):
    latest = SnapshotStore(made.store).latest()
    assert made.summary[["policy_id", "policy_version"]].duplicated().sum() == 0
    processed = latest["success_count"].sum() + latest["error_count"].sum()
    assert made.summary["processed"].sum() == pytest.approx(processed, rel=1e-9)


def test_two_plots_are_pictures_and_nothing_else_lies_in_the_folder(made):
    names = sorted(path.name for path in made.folder.iterdir())
    assert names == ["error_rate.png", "snapshots", "throughput.png"]
    for path in made.plots:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 20_000


def test_a_folder_that_is_there_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert run(["demo", "--output", str(tmp_path)]) == 1
    assert f"error: {tmp_path}: exists already; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_whole_story_is_told_on_stdout_with_the_folder_last(made, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "safetykit-demo").mkdir()
    monkeypatch.setattr(
        "safetykit_analytics.cli.demo.run_demo", lambda folder, **_: made._replace(folder=folder)
    )
    assert run(["demo"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "policy" in shown[2]
    assert len(shown) > 10
    assert shown[-1] == f"Everything is in {tmp_path / 'safetykit-demo-2'}"
