"""The pictures of a report: nothing is cut, and marks mean what the words say."""

import itertools

import pytest

from safetykit_analytics.formatting import percent
from safetykit_analytics.report import figures, weekly_report
from safetykit_analytics.report.document import plain
from tests.report.helpers import MONDAY, WEEK, batch, together


def drawn(facts):
    return [
        *figures._trend(facts),
        *figures._versions(facts, most=8),
        *figures._comparisons(facts),
        *figures._control(facts),
        *figures._backlog(facts),
    ]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["report", "hostile"])
def test_no_tick_ring_or_word_is_cut(kind, request):
    found = drawn(request.getfixturevalue(kind).facts)
    assert len(found) > 5
    for figure, alt, _ in found:
        figure.draw_without_rendering()
        width, height = figure.get_size_inches()
        box = figure.get_tightbbox()
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.03, plain(alt)


def test_pictures_are_as_wide_as_the_page_where_they_stand_alone(report):
    for section in report._document.sections:
        for block in section.blocks:
            if block.kind == "pictures":
                widths = {picture.width for picture in block.items}
                assert widths == ({922} if len(block.items) == 1 else {499})


def test_the_trend_shows_up_to_eight_weeks(report):
    assert report.facts.trend["bucket_start"].nunique() == 3
    long = together(
        *(batch(MONDAY, (1, 90, 10), number=n).assign(batch_id=f"b{n}") for n in range(3)),
        *(
            batch(MONDAY.replace(month=9) + n * (MONDAY - MONDAY.replace(day=9)), (1, 90, 10), number=n + 9)
            for n in range(10)
        ),
    )
    found = weekly_report(long, week=WEEK).facts
    weeks = found.trend["bucket_start"]
    assert weeks.min() == found.trend["bucket_start"].iloc[0]
    assert (found.end - weeks.min().to_pydatetime()).days == 8 * 7
    assert weeks.nunique() <= 8


def test_policies_with_a_verdict_are_drawn_first(report):
    first = next(itertools.islice(figures._versions(report.facts, most=1), 1))
    week = report.facts.versions[report.facts.versions["bucket_start"] >= report.facts.start]
    sums = week[week["policy_id"] == "hate-speech"].groupby("policy_version")[["error", "processed"]].sum()
    parts = [f"{name} {percent(row.error / row.processed)}" for name, row in sums.iterrows() if row.processed]
    assert plain(first.caption) == f"hate-speech: {', '.join(parts)} in this week."


def test_policies_without_a_verdict_are_drawn_by_volume_and_all_charts_with_alarms_before_others(report):
    found = [plain(one.caption).partition(":")[0] for one in figures._versions(report.facts, most=8)]
    volume = report.facts.versions.groupby("policy_id")["processed"].sum().sort_values(ascending=False)
    first = {str(name) for name in figures._with_verdict(report.facts)}
    rest = [name for name in volume.index if name not in first]
    assert found[len(first) :] == rest
    outside = set(report.facts.outside["policy_id"])
    charts = [plain(one.caption).partition(":")[0] for one in figures._control(report.facts)]
    assert set(charts) == outside if outside else charts == [volume.index[0]]


def test_throughput_and_error_rate_of_a_policy_have_one_legend_and_one_time_axis(report):
    for figure, _, _ in figures._versions(report.facts, most=8):
        upper, lower = figure.axes
        assert upper.get_legend() is None
        assert lower.get_legend() is not None
        assert not upper.get_xlabel()
        assert lower.get_xlabel().startswith("time (")
