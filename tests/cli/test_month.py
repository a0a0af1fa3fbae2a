"""Weeks of cron on a simulated clock: silence while all is well, and every alert once."""

import datetime as dt
import itertools
import os
import resource

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from safetykit_analytics.simulator import STATUSES, make_fleet, serve, to_ms

KEY = "a-key-of-a-test"
HOUR = dt.timedelta(hours=1)
EVERY = 3
LIMITS = """
silent = "5h"
stalled = "36h"
[policy.probe]
max_error_rate = 0.05
"""


class Cron:
    """Polls and checks of a fleet every three hours, a compaction each night; what they print is mailed."""

    def __init__(self, capsys, monkeypatch, *, days):
        self.fleet = make_fleet(seed=3, batches=30 * days, weeks=days / 7)
        self.now = self.fleet.start + 12 * HOUR
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.mails = []
        self.probes = 0

    @property
    def hours(self):
        return (self.now - self.fleet.start) // HOUR

    def run(self, *command):
        code = run([*command, "--quiet"])
        out, err = self.capsys.readouterr()
        text = (out + err).splitlines()
        # A poll that fails as the one before did says nothing.
        assert code if text else not code or command[0] == "poll", (command, code, text)
        if text:
            day, hour = divmod(self.hours, 24)
            self.mails.append((f"day {day} {hour:02}:00", command[0], code, text))

    def poll(self, *, is_down, disk_is_full):
        with open("ids.txt", "w", encoding="ascii") as file:
            file.writelines(f"{one}\n" for one in self.fleet.batch_ids[: self.fleet.created_by(self.now)])
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if disk_is_full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
        try:
            # Answers of the simulator are stamped by its own clock. Only who waits in vain waits briefly.
            stamped = ["--clock", "server", "--timeout-s", "1" if is_down else "600"]
            self.run("poll", "--ids", "ids.txt", *stamped, "--new-since", "polled.json")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def check(self):
        now = self.now.isoformat()
        self.run("check", "--limits", "limits.toml", "--new-since", "told.json", "--as-of", now)

    def probe(self, *, errors):
        """Observe a batch of a policy of its own that has ended, as another poller of the store would."""
        self.probes += 1
        ska.SnapshotStore(os.environ["SAFETYKIT_STORE"]).append(
            pd.DataFrame(
                {
                    "batch_id": [f"probe-{self.probes}"],
                    "observed_at": pd.Timestamp(self.now),
                    "created_at": pd.Timestamp(self.fleet.start),
                    "batch_status": "SUCCESS",
                    "batch_count": 1000,
                    "success_count": 1000 - errors,
                    "error_count": errors,
                    "cancelled_count": 0,
                    "pending_count": 0,
                    "policy_id": "probe",
                    "policy_version": "v1",
                    "has_download": True,
                    "is_terminal": True,
                }
            )
        )

    def stuck(self):
        """The batches that stop for good and leave time to notice it."""
        stuck = (self.fleet.ending == STATUSES.index("PENDING")) & (
            self.fleet.stop_ms < to_ms(self.now - 42 * HOUR)
        )
        return set(itertools.compress(self.fleet.batch_ids, stuck))


def play(cron, troubles, days):
    """Run cron; each trouble lasts from one hour to another."""
    with serve(cron.fleet, clock=lambda: cron.now, api_key=KEY) as url:
        while cron.hours < 24 * days:
            now = {name for name, begin, end in troubles if begin <= cron.hours < end}
            cron.monkeypatch.setenv("SAFETYKIT_BASE_URL", "http://127.0.0.1:9" if "down" in now else url)
            cron.monkeypatch.setenv("SAFETYKIT_API_KEY", "revoked" if "revoked" in now else KEY)
            if "stopped" not in now:
                cron.poll(is_down="down" in now, disk_is_full="full" in now)
            if "errors" in now:
                cron.probe(errors=80 if "doubled" in now else 40)
            cron.check()
            if cron.hours % 24 == 3:
                cron.run("compact")
            cron.now += EVERY * HOUR


@pytest.fixture
def cron(capsys, monkeypatch, tmp_path):
    def start(store="snapshots", **options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SAFETYKIT_STORE", store)
        with open("limits.toml", "w", encoding="utf-8") as file:
            file.write(LIMITS)
        made = Cron(capsys, monkeypatch, **options)
        # Its first batch: a limit may name the policy from the first day on.
        made.probe(errors=10)
        return made

    return start


@pytest.mark.heavy
def test_cron_mails_nothing_on_healthy_days_and_once_that_polling_stopped(cron):
    days = cron(days=2)
    play(days, [("stopped", 24, 36)], days=2)
    assert [(at, command, text[-1]) for at, command, _, text in days.mails] == [
        ("day 1 03:00", "check", "found 1 silent")
    ]


MONTH = [
    ("down", 3 * 24 + 9, 3 * 24 + 15),
    ("revoked", 6 * 24, 7 * 24),
    ("errors", 10 * 24, 14 * 24),
    ("doubled", 12 * 24, 14 * 24),
    ("stopped", 16 * 24, 17 * 24),
    ("full", 24 * 24 + 12, 24 * 24 + 13),
]
MAILS = [
    ("day 3 09:00", "poll", "failed: "),
    ("day 3 12:00", "check", "found 1 silent"),
    ("day 6 00:00", "poll", "error: the API refuses the key"),
    ("day 6 03:00", "check", "found 1 silent"),
    ("day 12 15:00", "check", "found 1 error_rate"),
    ("day 16 03:00", "check", "found 1 silent"),
    ("day 24 12:00", "poll", "error: "),
]


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    float(os.environ.get("SKA_HEAVY", "1")) < 1, reason="a month has no shorter form but the days above"
)
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_month_of_cron_tells_each_trouble_once(place, cron, request):
    store, days, troubles, expected = "snapshots", 28, MONTH, MAILS
    if place == "s3":
        # An object store is never full, and is slower.
        days = 20
        store, troubles, expected = (
            request.getfixturevalue("s3_bucket") + "/snapshots",
            MONTH[:-1],
            MAILS[:-1],
        )
    month = cron(store, days=28)
    play(month, troubles, days=days)
    with open("mails.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{mail}\n" for mail in month.mails)
    stalled = [mail for mail in month.mails if "stalled" in mail[3][-1]]
    # Whatever else is mailed is about the fleet's own batches that stop for good.
    assert len(month.mails) == len(stalled) + len(expected)
    found = [(at, command, text[-1]) for at, command, _, text in month.mails if "stalled" not in text[-1]]
    assert [mail[:2] for mail in found] == [mail[:2] for mail in expected]
    assert all(said.startswith(begin) for (*_, said), (*_, begin) in zip(found, expected, strict=True))
    told = [line.split()[0].rstrip(":") for *_, text in stalled for line in text[:-1]]
    assert set(told) == month.stuck()
    assert len(told) == len(set(told)) > 2
