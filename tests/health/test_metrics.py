"""What `open_metrics` promises."""

import pandas as pd
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_classic

import safetykit_analytics as ska
from safetykit_analytics.health import text_metrics
from tests.health.helpers import NOW, at, batch, ended, frame

HOSTILE = ['quote"d', "back\\slash", "new\nline", "\u202ereversed", "emoji 🙂", '{a="b"}', "# EOF"]


def samples(text, parse=parse_open):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def metrics(observations):
    return samples(ska.open_metrics(observations, as_of=NOW))


def test_decisions_are_the_sums_of_rates():
    observations = frame(
        batch("a", (5, 100, 3), (3, 400, 6), (1, 990, 10, "SUCCESS")),
        batch("b", (4, 0, 0), (2, 700, 9), version="v2"),
        ended("c", 25, 40, policy="hate"),
    )
    found = metrics(observations)
    table = ska.rates(observations, freq="1D").groupby(["policy_id", "policy_version"])
    for (policy, version), sums in table[["success", "error", "cancelled"]].sum().iterrows():
        for outcome, value in sums.items():
            assert found["safetykit_decisions_total", outcome, policy, version] == pytest.approx(value)


def test_gauges_are_of_the_last_observations():
    observations = frame(
        batch("a", (5, 100, 3), (3, 400, 6), created=9),
        ended("c", 25, 40, policy="hate"),
    )
    found = metrics(observations)
    assert found["safetykit_batches", "spam", "v1", "PENDING"] == 1
    assert found["safetykit_batches", "hate", "v1", "SUCCESS"] == 1
    assert found["safetykit_backlog_decisions", "spam", "v1"] == 594
    assert found["safetykit_backlog_decisions", "hate", "v1"] == 0
    assert found["safetykit_oldest_open_seconds",] == 9 * 3600
    assert found["safetykit_last_observation_age_seconds",] == 3 * 3600
    assert found["safetykit_decisions_created", "error", "spam", "v1"] == at(9).timestamp()


def test_a_counter_never_falls_where_a_batch_is_reprocessed_or_labelled_late():
    seen = batch("a", (5, 100, 3), (4, 400, 6), (3, 200, 2), (1, 990, 10, "SUCCESS"))
    seen.loc[:1, ["policy_id", "policy_version"]] = pd.NA
    before = {}
    for hours in (4.5, 3.5, 2, 0):
        found = samples(ska.open_metrics(seen, as_of=at(hours)))
        counters = {key: value for key, value in found.items() if key[0] == "safetykit_decisions_total"}
        assert all(counters[key] >= value for key, value in before.items())
        if hours > 3:
            assert not counters
        before = counters
    assert before["safetykit_decisions_total", "success", "spam", "v1"] == 400 + 790


def test_a_batch_that_ended_without_labels_counts_as_none():
    seen = ended("a", 10, 3)
    seen[["policy_id", "policy_version"]] = pd.NA
    assert metrics(seen)["safetykit_decisions_total", "success", "(none)", "(none)"] == 990


def test_a_store_gives_what_a_frame_gives_however_it_is_cut(tmp_path):
    pieces = [ended(f"c{i}", i, 400 - i, policy=f"p{i % 3}") for i in range(40)]
    observations = frame(*pieces, batch("b", (4, 0, 0), (2, 700, 9)))
    store = ska.SnapshotStore(tmp_path / "snapshots")
    for piece in pieces:
        store.append(piece)
    store.append(observations)
    store.compact()
    assert ska.open_metrics(store, as_of=NOW) == ska.open_metrics(observations, as_of=NOW)


def test_names_come_through_verbatim_in_both_formats():
    observations = frame(*(ended(f"b{i}", i + 1, 3, policy=name) for i, name in enumerate(HOSTILE)))
    for text, parse in (
        (ska.open_metrics(observations, as_of=NOW), parse_open),
        (text_metrics(observations, as_of=NOW), parse_classic),
    ):
        found = samples(text, parse)
        for i, name in enumerate(HOSTILE):
            assert found["safetykit_decisions_total", "error", name, "v1"] == i + 1


def test_only_the_backlog_shares_the_word_decisions():
    for text in (ska.open_metrics(ended("a", 1, 2), as_of=NOW), text_metrics(ended("a", 1, 2), as_of=NOW)):
        families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert {name for name in families if "decisions" in name} <= {
            "safetykit_decisions", "safetykit_decisions_total", "safetykit_backlog_decisions",
        }  # fmt: skip


def test_no_observations_have_no_age():
    found = metrics(ended("a", 1, 2).iloc[:0])
    assert found == {("safetykit_oldest_open_seconds",): 0}
