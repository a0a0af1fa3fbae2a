"""What stands where in a report: now and before, low and high, idle or not, told from single batches."""

import dataclasses
import datetime as dt
import functools
from types import SimpleNamespace

import pytest

from safetykit_analytics.formatting import hours, percent, points_between, points_interval
from safetykit_analytics.report import figures, headlines, weekly_report
from safetykit_analytics.report.document import Name, plain
from safetykit_analytics.report.sections import compose
from tests.report.helpers import MONDAY, NEXT_MONDAY, WEEK, batch, batch_rows, frame_of, together

HOUR = dt.timedelta(hours=1)
WEEK_LONG = dt.timedelta(days=7)


@functools.cache
def weeks(before, now):
    """Process so many errors of a hundred decisions, a few more or less, in 20 batches and then in 40."""
    return frame_of(
        [
            row
            for start, mean in ((MONDAY - WEEK_LONG, before), (MONDAY, now))
            for n in range(40 if start == MONDAY else 20)
            for errors in [mean - 2 + n % 5]
            for row in batch_rows(
                start + 4 * n * HOUR, (1, 100 - errors, errors), size=100, number=n + 100 * (start == MONDAY)
            )
        ]
    )


def table_of(report, anchor, number=0):
    section = next(one for one in compose(report.facts, {}).sections if one.anchor == anchor)
    found = [block for block in section.blocks if block.kind == "table"][number]
    return [dict(zip(found.header, row, strict=True)) for row in found.rows]


def words_of(report, anchor):
    section = next(one for one in compose(report.facts, {}).sections if one.anchor == anchor)
    return " ".join(plain(block.sentence) for block in section.blocks if block.kind == "paragraph")


def test_now_and_before_are_told_apart_wherever_they_stand():
    report = weekly_report(weeks(2, 9), week=WEEK, as_of=NEXT_MONDAY)
    row = table_of(report, "weeks")[1]
    assert (row["Policy"], row["Error rate"], row["Before"]) == (Name("spam"), "9.00 %", "2.00 %")
    assert row["Difference"] == "+7.00 pp"
    assert "rose from 2.00 % to 9.00 % (+7.00 pp" in report.to_dict()["headlines"][0]
    written = report.to_dict()
    assert [written[week][0]["processed"] for week in ("totals", "previous")] == [4000, 2000]
    tiles = {tile.label: (tile.value, tile.detail) for tile in compose(report.facts, {}).tiles}
    assert tiles["Decisions processed"] == ("4,000", "2,000 in the week before")
    assert tiles["Throughput per hour"] == ("24", "+100.0 % on the week before")
    assert tiles["Error rate"][0] == "9.00 %"
    assert tiles["Error rate"][1].startswith("+7.00 pp, 95 % interval ")
    fallen = weekly_report(weeks(9, 2), week=WEEK, as_of=NEXT_MONDAY)
    assert "fell from 9.00 % to 2.00 % (−7.00 pp" in fallen.to_dict()["headlines"][0]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.02388, 0.03484, "+1.09 pp"),
        (0.03484, 0.02388, "−1.09 pp"),
        (0.0995, 0.1004, "+0.05 pp"),
        (0.00012, 0.02, "+1.988 pp"),
        (0.02, 0.02, "0 pp"),
        (0.0, 1.0, "+100 pp"),
        (None, 0.02, "—"),
    ],
)
def test_a_difference_agrees_with_the_rates_that_it_stands_beside(before, after, shown):
    assert points_between(before, after) == shown
    if before is not None and 0 < abs(after - before) < 1:
        ends = [float(percent(value).removesuffix(" %")) for value in (before, after)]
        assert float(shown.removesuffix(" pp").replace("−", "-")) == pytest.approx(ends[1] - ends[0])


def test_the_pending_decisions_are_done_at_the_earliest_before_the_latest(report):
    found = report.facts.open.set_index("policy_id")
    assert (found["eta_low_h"] <= found["eta_high_h"]).all()
    assert (found["eta_low_h"] < found["eta_high_h"]).any()
    for row in table_of(report, "backlog"):
        low, high = found.loc[str(row["Policy"]), ["eta_low_h", "eta_high_h"]]
        assert row["Done in"].startswith(hours(low).partition(" ")[0])
        assert row["Done in"].endswith(hours(high))


@pytest.mark.parametrize(("idle", "is_listed"), [(5.9, False), (6.0, True)])
def test_a_batch_is_stuck_from_six_hours_without_progress_on(idle, is_listed):
    seen = NEXT_MONDAY - MONDAY
    last = seen / HOUR - idle
    waiting = together(
        weeks(2, 2),
        batch(MONDAY, (last - 1, 10, 0), (last, 20, 0), (seen / HOUR, 20, 0), size=50, number=999),
    )
    report = weekly_report(waiting, week=WEEK, as_of=NEXT_MONDAY)
    assert bool(len(report.facts.stalled)) == is_listed
    said = report.to_dict()["headlines"][1]
    if is_listed:
        assert said.startswith("1 batch was stuck at the end of the week, with 30 decisions pending")
        assert f"for at least {hours(idle)}." in said
    else:
        assert "none of them idle for as long as 6 h" in said
    assert "6 h" in report.to_markdown()


def test_an_idle_time_is_written_from_its_least_to_its_most(report):
    stalled = report.facts.stalled
    assert (stalled["idle_at_least_h"] < stalled["idle_at_most_h"]).any()
    for row, shown in zip(stalled.itertuples(), table_of(report, "backlog", 1), strict=True):
        assert shown["Idle for"].startswith(hours(row.idle_at_least_h).partition(" ")[0])
        assert shown["Idle for"].endswith(hours(row.idle_at_most_h))


def test_policies_with_points_outside_their_limits_are_drawn_with_these_in_the_colour_of_alarms():
    days = range(-7, 7)
    frame = frame_of(
        [
            row
            for policy, size, alarms in (("spam", 1000, {4: 300, 6: 200}), ("quiet", 2000, {}))
            for day in days
            for hour in range(1, 20, 3)
            for errors in [alarms.get(day, 20 + (7 * day + hour) % 5)]
            for row in batch_rows(
                MONDAY + day * 24 * HOUR + hour * HOUR,
                (1, size - errors * size // 1000, errors * size // 1000),
                size=size,
                policy=policy,
                number=100 * (day + 7) + hour + size,
            )
        ]
    )
    report = weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY)
    assert len(report.facts.outside) == 2
    worst = report.facts.outside.nlargest(1, "error_rate").iloc[0]
    limits = f"limits of {percent(worst['lower_limit'])} and {percent(worst['upper_limit'])}."
    first, second = compose(report.facts, {}).sections[4].blocks[1].items
    assert " on Sun 22 Nov 2026, " in plain(second)
    assert plain(first).endswith(limits)
    assert plain(first).startswith(f"spam v1: {percent(worst['error_rate'])} on Fri 20 Nov 2026, with ")
    assert "days of this week were out of control:" in words_of(report, "control")
    (chart,) = figures._pictures(figures._control(report.facts))
    assert "%23d0021b" in chart.source.lower()
    assert "error rate of spam" in plain(chart.alt)


def test_a_version_stands_before_its_baseline_in_every_column(report):
    found = list(report.facts.versions_compared())
    rows = table_of(report, "comparisons")
    assert len(rows) == len(found) > 1
    for shown, (row, base, _) in zip(rows, found, strict=True):
        assert (str(shown["Version"]), str(shown["Against"])) == (row.policy_version, base.policy_version)
        assert shown["Batches"] == f"{row.n_batches:,} vs {base.n_batches:,}"
        assert shown["Error rate"] == f"{percent(row.error_rate)} vs {percent(base.error_rate)}"
        low, high = row.difference_low, row.difference_high
        assert shown["95 % interval"] == points_interval(low, high)
        assert not low > high


def test_a_roll_out_is_new_with_its_work_of_this_week_and_gone_with_that_of_the_last():
    start = MONDAY - WEEK_LONG
    frame = together(
        batch(start + HOUR, (1, 90, 10), version="v1", number=1),
        batch(start + HOUR, (1, 40, 10), version="v2", number=2),
        batch(MONDAY + HOUR, (1, 100, 0), version="v2", number=3),
        batch(MONDAY + HOUR, (1, 300, 0), version="v3", number=4),
    )
    report = weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY)
    (section,) = [one for one in compose(report.facts, {}).sections if one.anchor == "rollouts"]
    gone, new = (plain(item) for item in section.blocks[0].items)
    assert gone == "Version v1 of spam had no more work, after 100 decisions the week before."
    assert new == (
        "Version v3 of spam is new since Mon 16 Nov 2026, 01:00 UTC: 300 decisions, 75.0 % of its policy’s."
    )
    shares = report.facts.rollouts.set_index("policy_version")[["share", "previous_share"]]
    assert shares.loc["v2"].tolist() == pytest.approx([0.25, 1 / 3])


def test_failed_batches_with_most_undone_stand_first():
    lost = [batch(MONDAY + HOUR, (1, 5, 5), size=size, status="ERROR", number=size) for size in (30, 90, 60)]
    rows = table_of(weekly_report(together(*lost), week=WEEK, as_of=NEXT_MONDAY), "failures")
    assert [row["Undone"] for row in rows] == ["80", "50", "20"]


def test_failed_and_cancelled_batches_are_counted_apart():
    ended = [
        batch(MONDAY + HOUR, (1, 5, 5), size=20, status=status, number=number)
        for number, status in enumerate(("ERROR", "CANCELLED", "CANCELLED"))
    ]
    ended.append(batch(MONDAY + HOUR, (1, 20, 0), size=20, number=9))
    said = "Of 4 batches that ended, 1 ended in ERROR and 2 in CANCELLED; 30 decisions stayed undone."
    assert words_of(weekly_report(together(*ended), week=WEEK, as_of=NEXT_MONDAY), "failures") == said


def test_what_became_of_stuck_batches_stands_beside_each_and_in_the_headline():
    begun, same = NEXT_MONDAY - 20 * HOUR, ((1, 5, 0), (19, 5, 0))
    frame = together(
        batch(begun, *same, (25, 41, 0), size=41, number=1),
        batch(begun, *same, (25, 9, 0), size=42, number=2),
        batch(begun, *same, (25, 5, 0), size=43, number=3),
        batch(begun, *same, (25, 44, 0), size=44, number=4),
    )
    report = weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY + WEEK_LONG / 7)
    since = {row["Pending"]: row["Since then"] for row in table_of(report, "backlog", 1)}
    assert since == {"36": "ended", "37": "moved", "38": "still stuck", "39": "ended"}
    assert report.to_dict()["headlines"][1].endswith(" Since then 2 ended and 1 moved.")
    tiles = {tile.label: (tile.value, tile.detail) for tile in compose(report.facts, {}).tiles}
    # At the end of the week, a sixth of what was done by the next poll.
    assert tiles["Backlog"] == ("137", "decisions pending in 4 open batches")


def test_what_was_seen_is_told_from_what_is_placed_roughly():
    frame = batch(MONDAY, (1, 30, 0), (49, 130, 0), size=130)
    said = words_of(weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY), "quality")
    assert " 100 % of the time in which batches were at work was observed." in said
    assert f" {percent(100 / 130)} of the decisions are placed on a day only roughly" in said


def test_the_policy_that_was_observed_least_is_named():
    frame = together(
        batch(MONDAY, (1, 30, 0), (100, 130, 0), size=200, policy="spam", number=1),
        batch(MONDAY, (1, 30, 0), (20, 130, 0), size=200, policy="scam", number=2),
    )
    report = weekly_report(frame, week=WEEK, as_of=NEXT_MONDAY)
    assert f"least for scam ({percent(20 / 168)}): " in report.to_dict()["headlines"][2]


@pytest.mark.parametrize(("verdict", "more"), [("higher since", "more"), ("lower since", "fewer")])
def test_a_hand_over_names_its_side_and_that_the_versions_never_ran_together(verdict, more):
    row = SimpleNamespace(
        policy_id="spam", policy_version="v2", verdict=verdict, difference_raw=-0.01, processed=9
    )
    said = plain(headlines._handed_over(row, SimpleNamespace(policy_version="v1")).sentence)
    assert said.startswith(
        f"Since version v2 of spam there are {more} errors (−1.00 pp); it never ran beside v1"
    )


def test_a_change_of_the_mix_alone_is_no_change_of_rates_and_the_other_way_round():
    def two_weeks(sizes, errors):
        return together(
            *(
                batch(
                    start + HOUR, (1, size - size * rate // 100, size * rate // 100), policy=policy, number=n
                )
                for start, week in ((MONDAY - WEEK_LONG, 0), (MONDAY, 1))
                for n, policy in enumerate(("spam", "scam"), 1 + 2 * week)
                for size, rate in [(sizes[policy][week], errors[policy][week])]
            )
        )

    mix = two_weeks({"spam": (300, 100), "scam": (100, 300)}, {"spam": (1, 1), "scam": (9, 9)})
    found = weekly_report(mix, week=WEEK, as_of=NEXT_MONDAY).facts.change.iloc[0]
    assert (found["mix_effect"], found["rate_effect"]) == pytest.approx((0.04, 0.0))
    own = two_weeks({"spam": (200, 200), "scam": (200, 200)}, {"spam": (1, 5), "scam": (9, 9)})
    found = weekly_report(own, week=WEEK, as_of=NEXT_MONDAY).facts.change.iloc[0]
    assert (found["mix_effect"], found["rate_effect"]) == pytest.approx((0.0, 0.02))


@pytest.mark.parametrize(("hours_without", "is_outage"), [(6, False), (12, True)])
def test_an_outage_is_twelve_hours_without_work(hours_without, is_outage):
    resumes = 12 + hours_without
    steps = [(12, 1_000, 10), *((hour, 1_000, 10) for hour in range(18, resumes + 6, 6)), (60, 9_000, 90)]
    found = weekly_report(batch(MONDAY, *steps, size=9_090), week=WEEK, as_of=NEXT_MONDAY).facts.outage
    assert (found is not None) == is_outage
    if found:
        assert found.end - found.start == hours_without * HOUR


def test_a_week_that_is_not_over_says_so_in_every_message(monkeypatch):
    monkeypatch.setattr(figures, "draw_figures", lambda _: {})
    monkeypatch.setattr(figures, "draw_for_mail", lambda _: {})
    report = weekly_report(weeks(2, 2), week=WEEK, as_of=MONDAY + 72 * HOUR)
    warning = "The week is not over: these are its first"
    texts = [block["text"]["text"] for block in report.to_slack()["blocks"] if "text" in block]
    assert any(text.startswith(f"Note: {warning}") for text in texts)
    assert f"> {warning}" in report.to_markdown(short=True)
    assert f"> {warning}" in report.to_markdown()
    assert "in the same hours of the week before" in report.to_markdown(short=True)
    mail = report.to_email()
    for kind in ("plain", "html"):
        assert warning in mail.get_body((kind,)).get_content()


def test_a_day_within_the_limits_is_said_to_end_a_run(report):
    control = report.facts.control.copy()
    inside = control["error_rate"].between(control["lower_limit"], control["upper_limit"])
    control["out_of_control"] = False
    control.loc[control.index[inside][-1], "out_of_control"] = True
    row = control.loc[control.index[inside][-1]]
    facts = dataclasses.replace(report.facts, control=control)
    (said,) = compose(facts, {}).sections[4].blocks[1].items
    side = "above" if row["error_rate"] > row["center"] else "below"
    text = f"at least the ninth day in a row {side} the center of {percent(row['center'])}."
    assert plain(said).endswith(text)
