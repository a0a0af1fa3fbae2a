"""A day with the command, from the first poll to the report, as a user would live it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from safetykit_analytics.schema import COUNT_COLUMNS
from safetykit_analytics.simulator import make_fleet, to_ms
from safetykit_analytics.simulator.app import batch_body
from tests.cli.helpers import COMMAND, environment

SEED = 11
KEY_AND_URL = ("SAFETYKIT_API_KEY", "SAFETYKIT_BASE_URL")
FAULTS = (
    "server_error=0.03,too_many_requests=0.02,retry_after_s=0.05,reset=0.02,truncated=0.02,not_found=0.002,"
    "latency_s=0.02,quota=400,quota_s=0.5,closing=0.05"
)


KILLED_LOSES_S = 10
STOPS = {2: signal.SIGTERM, 3: signal.SIGKILL, 5: signal.SIGTERM}
TURNS = 8 if float(os.environ.get("SKA_HEAVY", "1")) >= 1 else 4
# `simulate`, with a log of the answers that it sent whole: when, of which batch, as of when.
SIMULATE = """
import json, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from safetykit_analytics.simulator import server
make, log = server.simulator_app, open("answers.jsonl", "a", buffering=1)

def logged(*args, **options):
    app = make(*args, **options)

    async def wrapped(scope, receive, send):
        head = {}

        async def noting(message):
            head.update(message)
            await send(message)
            if head["status"] == 200 and message.get("more_body") is False:
                date = dict(head["headers"])[b"date"].decode()
                log.write(json.dumps([time.time(), scope["path"].rsplit("/", 1)[-1], date]) + "\\n")

        await app(scope, receive, noting)

    return wrapped

server.simulator_app = logged
from safetykit_analytics.cli import main
main()
"""


@pytest.fixture
def simulate(tmp_path, monkeypatch):
    """`simulate` in the background: twenty of the fleet's minutes in a second."""
    arguments = ["simulate", "--seed", str(SEED), "--speed=1200", "--faults", FAULTS, "--write-ids=ids.txt"]
    process = subprocess.Popen(
        [sys.executable, "-c", SIMULATE, *arguments],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for _ in range(2):
        export, _, assignment = process.stdout.readline().rstrip("\n").partition(" ")
        assert export == "export"
        monkeypatch.setenv(*assignment.split("=", 1))
    monkeypatch.delenv("SAFETYKIT_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    yield process
    process.kill()
    process.communicate()


def answers():
    """What the simulator sent: seconds since 1970, and the key of the observation that it is."""
    with open("answers.jsonl", encoding="ascii") as file:
        rows = [json.loads(line) for line in file if line.endswith("\n")]
    dates = {date: pd.Timestamp(parsedate_to_datetime(date)) for _, _, date in rows}
    return [(at, (batch_id, dates[date])) for at, batch_id, date in rows]


def lost(store, *, before=math.inf):
    """The answers of before some time that are not in the store."""
    rows = store.read(columns=["batch_id", "observed_at"])
    kept = set(zip(rows["batch_id"], rows["observed_at"], strict=True))
    return {key for at, key in answers() if at < before} - kept


def poll_and_stop(store, stop):
    """Poll slowly, stop it, and return what was lost; SIGKILL waits for 30 answers that must be kept."""
    n_before, lost_before = len(answers()), lost(store)
    # Answers must grow older than what a kill may lose while the poll still runs: it takes 25 s or more.
    rate = f"--max-rate={max(2, len(ids_written()) // 25)}"
    process = subprocess.Popen(
        [*COMMAND, "poll", "--ids=ids.txt", "--clock=server", "--again", "--concurrency=4", rate],
        env=environment(**{name: os.environ[name] for name in KEY_AND_URL}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    age_s = KILLED_LOSES_S if stop == signal.SIGKILL else 0
    while sum(at < time.time() - age_s for at, _ in answers()[n_before:]) < 30:
        assert process.poll() is None
        time.sleep(0.5)
    stopped_at = time.time()
    process.send_signal(stop)
    process.wait()
    now_lost = lost(store) - lost_before
    if stop == signal.SIGKILL:
        assert not lost(store, before=stopped_at - KILLED_LOSES_S) - lost_before
    else:
        # The answers to the four requests in flight may have been on their way.
        assert len(now_lost) <= 4
    return now_lost


def ids_written():
    with open("ids.txt", encoding="ascii") as file:
        return file.read().split()


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_day_of_polls_faults_stops_and_a_kill_loses_nothing_and_every_number_is_the_librarys(
    simulate, capsys
):
    store = ska.SnapshotStore("snapshots")
    ids_in_the_morning = ids_written()
    appended = 0
    gone = set()
    for turn in range(TURNS):
        if stop := STOPS.get(turn):
            gone |= poll_and_stop(store, stop)
            appended = len(store.read())
        # A few per thousand answers are a 404 that is none: those ids are asked for again next time.
        assert run(["poll", "--ids", "ids.txt", "--clock", "server", "--json"]) in {0, 3}
        said = json.loads(capsys.readouterr().out)
        assert said["asked"] == said["answered"] + said["failed"]
        appended += said["rows_appended"]
        assert len(store.read()) == appended
        assert lost(store) == gone
    observations = store.read()
    assert len(ids_written()) > len(ids_in_the_morning)
    assert set(observations["batch_id"]) >= set(ids_in_the_morning)
    hours = observations["observed_at"].max() - observations["observed_at"].min()
    assert hours > pd.Timedelta(hours=4)

    # Each observation is what the fleet looked like at that second.
    fleet = make_fleet(seed=SEED)
    index = {batch_id: i for i, batch_id in enumerate(fleet.batch_ids)}
    for row in observations.itertuples():
        body = batch_body(fleet, index[row.batch_id], to_ms(row.observed_at))
        assert [getattr(row, name) for name in COUNT_COLUMNS] == [body[name] for name in COUNT_COLUMNS]
        assert row.batch_status == body["batch_status"]

    simulate.send_signal(signal.SIGINT)
    assert simulate.wait(timeout=30) == 130

    assert run(["rates", "--freq", "1h", "--csv", "rates.csv", "--parquet", "rates.parquet"]) == 0
    expected = ska.rates(observations, freq="1h")
    written = pd.read_parquet("rates.parquet")
    assert len(written) == len(expected) == len(pd.read_csv("rates.csv"))
    for name in expected.columns:
        if pd.api.types.is_float_dtype(expected[name].dtype):
            # A store is read day by day, a frame at once: the same sums in another order.
            pd.testing.assert_series_equal(
                written[name], expected[name], rtol=1e-9, atol=1e-9, check_dtype=False
            )
        else:
            assert written[name].astype(object).where(written[name].notna(), None).tolist() == (
                expected[name].astype(object).where(expected[name].notna(), None).tolist()
            )

    assert run(["compare", "--policy-id", "counterfeit", "--json", "compare.json"]) == 0
    compared = ska.compare_versions(store, policy_id="counterfeit", baseline=None)
    with open("compare.json", encoding="utf-8") as file:
        assert [row["error"] for row in json.load(file)] == compared.table["error"].tolist()

    assert run(["report", "--week", "2025-W36", "--output", "report.json"]) == 0
    assert run(["report", "--week", "2025-W36"]) == 0
    made = ska.weekly_report(store, week="2025-W36")
    with open("report.json", encoding="utf-8") as file:
        assert json.load(file) == json.loads(json.dumps(made.to_dict()))
    with open("report-2025-W36.html", encoding="utf-8") as file:
        assert file.read() == made.to_html()

    assert run(["compact"]) == 0
    assert run(["verify"]) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    pd.testing.assert_frame_equal(store.read(), observations)
    assert not [finding for finding in store.verify() if finding.is_damage]
