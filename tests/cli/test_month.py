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
LIMITS = """
silent = "7h"
stalled = "36h"
[policy.probe]
max_error_rate = 0.05
"""


class Cron:
    """Polls and checks of a fleet; what they print is mailed."""

    def __init__(self, capsys, monkeypatch, *, days, every_h):
        self.fleet = make_fleet(seed=3, batches=30 * days, weeks=days / 7)
        self.now = self.fleet.start + 12 * HOUR
        self.every = every_h * HOUR
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.mails = []
        self.probes = 0

    def day_of(self, at):
        return (at - self.fleet.start).days

    def poll(self, *, disk_is_full=False):
        ids = list(self.fleet.batch_ids[: self.fleet.created_by(self.now)])
        with open("ids.txt", "w", encoding="ascii") as file:
            file.writelines(f"{one}\n" for one in ids)
        # Answers of the simulator are stamped by its own clock.
        command = ["poll", "--quiet", "--ids", "ids.txt", "--clock", "server", "--timeout-s", "1"]
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if disk_is_full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
        try:
            code = run(command)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        _, err = self.capsys.readouterr()
        self.mail("poll", code, err)

    def check(self):
        command = ["check", "--quiet", "--limits", "limits.toml", "--new-since", "told.json"]
        code = run([*command, "--as-of", self.now.isoformat()])
        out, err = self.capsys.readouterr()
        self.mail("check", code, out + err)

    def mail(self, command, code, text):
        assert bool(code) is bool(text), (command, code, text)
        if text:
            self.mails.append((self.day_of(self.now), command, code, text.splitlines()))

    def probe(self, *, errors, ended=True):
        """Observe a batch of a policy of its own, as another poller of the same store would."""
        self.probes += 1
        done = 1000 if ended else 500
        ska.SnapshotStore(os.environ["SAFETYKIT_STORE"]).append(
            pd.DataFrame(
                {
                    "batch_id": [f"probe-{self.probes if ended else 'stuck'}"],
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


def play(cron, trouble, days):
    """Run cron every few hours; `trouble` names what is wrong on which days."""
    with serve(cron.fleet, clock=lambda: cron.now, api_key=KEY) as url:
        while cron.day_of(cron.now) < days:
            what = trouble.get(cron.day_of(cron.now))
            cron.monkeypatch.setenv("SAFETYKIT_BASE_URL", "http://127.0.0.1:9" if what == "down" else url)
            cron.monkeypatch.setenv("SAFETYKIT_API_KEY", "revoked" if what == "revoked" else KEY)
            if what != "stopped":
                cron.poll(disk_is_full=what == "full")
                if what in {"doubled", "before"}:
                    cron.probe(errors=80 if what == "doubled" else 40)
                if what == "stuck":
                    cron.probe(errors=10, ended=False)
            cron.check()
            cron.now += cron.every


def kinds(mails):
    return [line for _, command, _, lines in mails if command == "check" for line in lines if "found" in line]


@pytest.fixture
def cron(capsys, monkeypatch, tmp_path):
    def start(**options):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SAFETYKIT_STORE", "snapshots")
        with open("limits.toml", "w", encoding="utf-8") as file:
            file.write(LIMITS)
        made = Cron(capsys, monkeypatch, **options)
        # Its first batches: a limit may name the policy from the first day on.
        made.probe(errors=10)
        return made

    return start


def test_cron_mails_nothing_on_healthy_days_and_once_that_polling_stopped(cron):
    days = cron(days=3, every_h=6)
    play(days, {1: "stopped"}, days=3)
    assert {day for day, *_ in days.mails} == {1}
    assert kinds(days.mails) == ["found 1 silent"]


@pytest.mark.heavy
@pytest.mark.skipif(
    float(os.environ.get("SKA_HEAVY", "1")) < 1, reason="a month has no shorter form but the days above"
)
def test_a_month_of_cron_tells_each_trouble_once(cron):
    month = cron(days=28, every_h=3)
    trouble = {3: "down", 6: "revoked", 9: "stopped", 12: "before", 13: "doubled", 16: "stuck", 17: "stuck",
               18: "stuck", 22: "full"}  # fmt: skip
    play(month, trouble, days=28)
    with open("mails.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{mail}\n" for mail in month.mails)
    polls = {(day, code) for day, command, code, _ in month.mails if command == "poll"}
    assert polls == {(3, 4), (6, 1), (22, 1)}
    found = kinds(month.mails)
    assert found.count("found 1 error_rate") == 1
    assert sum("stalled" in line for line in found) == 1
    # Nothing is observed while the API is down, the key revoked, polling stopped or the disk full.
    assert sum("silent" in line for line in found) == 4
    assert {day for day, *_ in month.mails} <= {3, 6, 9, 13, 14, 17, 18, 22}
