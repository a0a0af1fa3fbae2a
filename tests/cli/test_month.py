"""Weeks of cron on a simulated clock: silence while all is well, and every alert once."""

import datetime as dt
import os
import resource

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from safetykit_analytics.simulator import make_fleet, serve

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
        self.fleet = make_fleet(seed=3, batches=12 * days, weeks=days / 7)
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

    def poll(self):
        with open("ids.txt", "w", encoding="ascii") as file:
            file.writelines(f"{one}\n" for one in self.fleet.batch_ids[: self.fleet.created_by(self.now)])
        # Answers of the simulator are stamped by its own clock.
        stamped = ["--clock", "server", "--timeout-s", "1"]
        self.run("poll", "--ids", "ids.txt", *stamped, "--new-since", "polled.json")

    def check(self):
        now = self.now.isoformat()
        self.run("check", "--limits", "limits.toml", "--new-since", "told.json", "--as-of", now)

    def probe(self, *, errors, batch=None, ended=True):
        """Observe a batch of a policy of its own, as another poller of the same store would."""
        self.probes += 1
        done = 1000 if ended else 500
        ska.SnapshotStore(os.environ["SAFETYKIT_STORE"]).append(
            pd.DataFrame(
                {
                    "batch_id": [batch or f"probe-{self.probes}"],
                    "observed_at": pd.Timestamp(self.now),
                    "created_at": pd.Timestamp(self.fleet.start),
                    "batch_status": "SUCCESS" if ended else "PENDING",
                    "batch_count": 1000,
                    "success_count": done - errors,
                    "error_count": errors,
                    "cancelled_count": 0,
                    "pending_count": 1000 - done,
                    "policy_id": "probe",
                    "policy_version": "v1",
                    "has_download": ended,
                    "is_terminal": ended,
                }
            )
        )


def play(cron, troubles, days):
    """Run cron; each trouble lasts from one hour to another."""
    with serve(cron.fleet, clock=lambda: cron.now, api_key=KEY) as url:
        while cron.hours < 24 * days:
            now = {name for name, begin, end in troubles if begin <= cron.hours < end}
            cron.monkeypatch.setenv("SAFETYKIT_BASE_URL", "http://127.0.0.1:9" if "down" in now else url)
            cron.monkeypatch.setenv("SAFETYKIT_API_KEY", "revoked" if "revoked" in now else KEY)
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            if "full" in now:
                resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
            try:
                if "stopped" not in now:
                    cron.poll()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            if "errors" in now:
                cron.probe(errors=80 if "doubled" in now else 40)
            if "stuck" in now:
                cron.probe(errors=10, batch="stuck", ended=False)
            if "goes on" in now:
                cron.probe(errors=10, batch="stuck")
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
    ("stopped", 15 * 24, 16 * 24),
    ("stuck", 18 * 24, 21 * 24),
    ("goes on", 21 * 24, 21 * 24 + 1),
    ("full", 24 * 24 + 12, 24 * 24 + 13),
]
MAILS = []


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    float(os.environ.get("SKA_HEAVY", "1")) < 1, reason="a month has no shorter form but the days above"
)
@pytest.mark.parametrize("place", ["folder", "s3"])
def test_a_month_of_cron_tells_each_trouble_once(place, cron, request):
    store, troubles = "snapshots", MONTH
    if place == "s3":
        # An object store is never full.
        troubles = [trouble for trouble in MONTH if trouble[0] != "full"]
        store = request.getfixturevalue("s3_bucket") + "/snapshots"
    month = cron(store, days=28)
    try:
        play(month, troubles, days=28)
    finally:
        for mail in month.mails:
            print(mail)
    found = [(at, command, text[-1]) for at, command, _, text in month.mails]
    assert found == [mail for mail in MAILS if place != "s3" or "No space" not in mail[2]]
