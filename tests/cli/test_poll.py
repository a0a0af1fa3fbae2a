"""What `poll` promises."""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from safetykit_analytics import SnapshotStore
from safetykit_analytics.cli import run
from safetykit_analytics.simulator import Faults
from safetykit_analytics.store.local import LocalFiles
from tests.cli.conftest import KEY
from tests.cli.helpers import environment, on_pipe


def poll(capsys, *args, code=0):
    """Run `poll --json`; give the summary."""
    assert run(["poll", "--json", "--clock", "server", *map(str, args)]) == code
    return json.loads(capsys.readouterr().out)


def event(batch_id, **changes):
    data = {"batch_id": batch_id, "batch_status": "SUCCESS", "batch_count": 5, "success_count": 5}
    data |= {"error_count": 0, "cancelled_count": 0, "pending_count": 0}
    whole = {"event_type": "batch.completed", "received_at": "2025-09-03T00:00:01Z", "data": data}
    return json.dumps(whole | changes)


def test_open_batches_are_asked_again_and_settled_ones_are_not(simulated, capsys):
    ids = simulated.created()
    first = poll(capsys, *ids)
    assert (first["asked"], first["answered"], first["failed"]) == (len(ids), len(ids), 0)
    assert first["rows_appended"] == len(ids) == len(SnapshotStore("snapshots").read())
    still_open = SnapshotStore("snapshots").open_batch_ids()
    assert 0 < len(still_open) == first["open"] < len(ids)

    simulated.now += dt.timedelta(minutes=30)
    before = simulated.requests
    assert poll(capsys)["asked"] == len(still_open) == simulated.requests - before
    again = poll(capsys, *ids)
    assert again["settled_skipped"] == len(ids) - again["asked"] > 0
    assert poll(capsys, *ids, "--again")["asked"] == len(ids)
    assert poll(capsys, "--again")["asked"] == len(ids)


def test_observations_are_stamped_with_the_servers_time_when_asked_to(simulated, capsys):
    poll(capsys, *simulated.created()[:3])
    assert set(SnapshotStore("snapshots").read()["observed_at"]) == {pd.Timestamp(simulated.now)}
    assert run(["poll", *simulated.created()[3:5]]) == 0
    assert SnapshotStore("snapshots").read()["observed_at"].max() > pd.Timestamp(simulated.now)


def test_ids_come_from_a_file_from_stdin_and_from_arguments_each_asked_once(simulated, capsys, monkeypatch):
    ids = simulated.created()[:6]
    with open("ids.txt", "w", encoding="utf-8-sig") as file:
        file.write(f"# new\n{ids[0]}\r\n\n  {ids[1]}  \n{ids[0]}\n")
    assert poll(capsys, "--ids", "ids.txt", ids[2], ids[1])["asked"] == 3
    shown = on_pipe("poll", "--ids", "-", "--json", stdin=f"{ids[3]}\n{ids[4]}", **env(simulated))
    assert json.loads(shown.stdout)["asked"] == 2
    assert set(SnapshotStore("snapshots").read()["batch_id"]) == set(ids[:5])


def test_one_stdin_is_not_read_for_ids_and_for_events(simulated, capsys, tmp_path):
    assert run(["poll", "--ids", "-", "--events", "-"]) == 2
    assert "--ids and --events cannot both read stdin" in capsys.readouterr().err
    assert simulated.requests == 0
    assert not (tmp_path / "snapshots").exists()
    (tmp_path / "ids.txt").write_text(simulated.created()[0])
    shown = on_pipe("poll", "--ids", "ids.txt", "--events", "-", stdin=event("batch_x"), **env(simulated))
    assert shown.returncode == 0, shown.stderr
    assert len(SnapshotStore("snapshots").read()) == 2


@pytest.mark.parametrize("option", ["--ids", "--events"])
def test_a_file_that_is_no_text_is_named_with_its_first_wrong_byte_and_nothing_is_asked(
    simulated, capsys, tmp_path, option
):
    (tmp_path / "list.xlsx").write_bytes(b"batch_1\nbatch_\xe9\n")
    assert run(["poll", option, "list.xlsx"]) == 2
    assert "list.xlsx is not text: byte 14 is not UTF-8" in capsys.readouterr().err
    assert simulated.requests == 0


@pytest.mark.parametrize("option", ["--ids", "--events"])
def test_stdin_that_is_no_text_is_told_in_one_line(simulated, option):
    shown = on_pipe("poll", option, "-", stdin=b"batch_1\nbatch_\xe9\n", **env(simulated))
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "standard input is not text: byte 14 is not UTF-8" in shown.stderr
    assert simulated.requests == 0


def env(simulated):
    return {"SAFETYKIT_API_KEY": KEY, "SAFETYKIT_BASE_URL": simulated.url}


def test_one_line_says_how_it_went(simulated, capsys):
    ids = simulated.created()[:4]
    assert run(["poll", *ids, "batch_unknown", "--store", "mine"]) == 3
    out, err = capsys.readouterr()
    still_open = len(SnapshotStore("mine").open_batch_ids())
    how_it_went = f"asked 5, answered 4, failed 1 (1 http_status 404); {still_open} still open"
    assert out == f"{how_it_went}; 4 rows appended to mine\n"
    why = "expected 200, found 404: the API knows no such batch; the id has 13 characters; ids have 32"
    assert err == f"failed: batch_unknown: http_status: {why}\n"
    os.mkdir("empty")
    assert run(["poll", "--store", "empty"]) == 0
    assert capsys.readouterr().out == "nothing to ask for in empty\n"
    assert os.listdir("empty") == []


def test_failures_are_listed_briefly_unless_asked_for_all_or_none(simulated, capsys):
    wrong = [f"batch_{i}" for i in range(8)]
    assert run(["poll", *wrong]) == 4
    assert capsys.readouterr().err.splitlines()[-1] == "failed: and 3 more (--verbose lists them all)"
    assert run(["poll", *wrong, "--verbose"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 8
    assert run(["poll", "--quiet", *wrong]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "failed: 8 of 8 ids (8 http_status 404)\n"


def test_the_exit_code_says_whether_some_or_all_failed(simulated, capsys):
    good = simulated.created()[0]
    assert poll(capsys, good)["failed"] == 0
    some = poll(capsys, simulated.created()[1], "batch_unknown", code=3)
    assert [failure["status_code"] for failure in some["failures"]] == [404]
    assert poll(capsys, "batch_unknown", "", code=4)["failed"] == 2


def test_without_a_key_or_with_a_wrong_one_nothing_is_asked_twice(simulated, capsys, monkeypatch):
    monkeypatch.delenv("SAFETYKIT_API_KEY")
    assert run(["poll", "batch_x"]) == 1
    assert "SAFETYKIT_API_KEY" in capsys.readouterr().err
    assert run(["poll", "--store", "mistyped"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no store at mistyped: ")
    monkeypatch.setenv("SAFETYKIT_API_KEY", "not-the-key")
    assert run(["poll", *simulated.created()]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "401" in err
    assert "not-the-key" not in err


@pytest.mark.parametrize("simulated", [Faults(unauthorized=0.1, seed=1)], indirect=True)
def test_what_arrived_before_the_key_was_refused_is_kept(simulated, capsys):
    assert run(["poll", "--concurrency", "1", *simulated.created()]) == 1
    assert "refuses the key" in capsys.readouterr().err
    assert 0 < len(SnapshotStore("snapshots").read()) < len(simulated.created())


def test_the_key_may_come_from_a_file_and_never_from_the_command_line(
    simulated, capsys, monkeypatch, tmp_path
):
    monkeypatch.delenv("SAFETYKIT_API_KEY")
    for written in (f"{KEY}\n", f"\ufeff{KEY}\r\n", KEY):
        (tmp_path / "key").write_bytes(written.encode())
        arguments = ("--api-key-file", tmp_path / "key", "--again", simulated.created()[0])
        assert poll(capsys, *arguments)["answered"] == 1
    assert run(["poll", "--api-key", KEY]) == 2
    (tmp_path / "key").write_text(" \n")
    assert run(["poll", "--api-key-file", "key"]) == 2
    assert run(["poll", "--api-key-file", "nowhere"]) == 1
    out, err = capsys.readouterr()
    assert KEY not in out + err


def test_download_urls_reach_neither_the_output_nor_the_store(simulated, capsys):
    assert run(["poll", "--json", "--verbose", "--debug", *simulated.created()]) == 0
    shown = capsys.readouterr()
    assert "Signature" not in shown.out + shown.err
    assert SnapshotStore("snapshots").read()["has_download"].any()
    for path in (p for p in os.scandir("snapshots") if p.is_dir()):
        for file in os.scandir(path):
            with open(file, "rb") as opened:
                assert b"Signature" not in opened.read()


def test_events_alone_are_appended_without_a_request_or_a_key(simulated, capsys, monkeypatch):
    monkeypatch.delenv("SAFETYKIT_API_KEY")
    batch_id = simulated.created()[0]
    with open("events.jsonl", "w", encoding="utf-8") as file:
        file.write(event(batch_id) + "\n\n" + '{"event_type": "other"}\n' + event("batch_x"))
    assert run(["poll", "--events", "events.jsonl"]) == 0
    assert capsys.readouterr().out == "3 events; 1 of other types skipped; 2 rows appended to snapshots\n"
    assert simulated.requests == 0
    assert run(["poll", "--events", "events.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"events": 3, "rows_appended": 2, "skipped": 1}
    stored = SnapshotStore("snapshots").read()
    assert stored["batch_id"].tolist() == [batch_id, "batch_x"]
    assert stored["observed_at"].tolist() == [pd.Timestamp("2025-09-03T00:00:01Z")] * 2


def test_events_and_ids_together_do_both(simulated, capsys):
    with open("events.jsonl", "w", encoding="utf-8") as file:
        file.write(event("batch_x"))
    assert run(["poll", "--events", "events.jsonl", simulated.created()[0]]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(SnapshotStore("snapshots").read()) == 2


def test_a_bad_line_among_events_is_one_error_and_nothing_is_appended(simulated, capsys):
    with open("events.jsonl", "w", encoding="utf-8") as file:
        file.write(event("batch_x") + "\n" + event("batch_y", received_at="today"))
    assert run(["poll", "--events", "events.jsonl"]) == 1
    assert capsys.readouterr().err.startswith("error: line 2 of the events: received_at: expected a time")
    assert SnapshotStore("snapshots").read().empty


def test_watch_asks_until_all_are_settled_and_gives_up_on_the_unknown(simulated, capsys, monkeypatch):
    ids = [
        batch_id
        for i, batch_id in enumerate(simulated.created())
        if simulated.fleet.ending[i] == 2 and simulated.fleet.stop_ms[i] > 2**62
    ][-4:]
    moved = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: (moved(min(s, 0.01)), advance())[0])

    def advance():
        simulated.now += dt.timedelta(hours=1)

    assert run(["poll", "--watch", "0.01s", "--clock", "server", "--json", *ids, "batch_unknown"]) == 3
    rounds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rounds) > 1
    # One 404 may pass; after three rounds in a row the id is believed to be gone.
    assert [one["failed"] for one in rounds] == [1, 1, 1] + [0] * (len(rounds) - 3)
    assert all(one["at"].endswith("Z") for one in rounds)
    assert rounds[-1]["open"] == 0
    latest = SnapshotStore("snapshots").latest()
    assert latest["is_terminal"].all()
    assert set(latest["batch_id"]) == set(ids)


def test_watch_reads_the_file_of_ids_anew_each_time(simulated, capsys, monkeypatch):
    ids = simulated.created()
    with open("ids.txt", "w", encoding="ascii") as file:
        file.write("\n".join(ids[-2:]))
    rounds = []

    def sleep(_):
        rounds.append(1)
        with open("ids.txt", "a", encoding="ascii") as more:
            more.write(f"\n{ids[len(rounds)]}")
        if len(rounds) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("safetykit_analytics.cli.poll.time.sleep", sleep)
    assert run(["poll", "--watch", "1h", "--ids", "ids.txt"]) == 130
    assert ids[1] in set(SnapshotStore("snapshots").read()["batch_id"])


@pytest.mark.parametrize("wrong", ["5", "0s", "m", "-1m", "1d", "1 m"])
def test_an_interval_that_is_none_is_refused(simulated, capsys, wrong):
    assert run(["poll", f"--watch={wrong}"]) == 2
    assert "expected an interval such as 30s, 5m or 1h" in capsys.readouterr().err
    assert simulated.requests == 0


STOPS = {signal.SIGINT: ("Ctrl-C", 130), signal.SIGTERM: ("SIGTERM", 143), signal.SIGHUP: ("SIGHUP", 129)}


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
@pytest.mark.parametrize("simulated", [Faults(latency_s=0.05)], indirect=True)
def test_a_poll_that_is_stopped_keeps_what_arrived_and_says_by_what(simulated, stop):
    # As a shell in the foreground starts it, however the tests were started.
    found = {number: signal.signal(number, signal.SIG_DFL) for number in STOPS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    simulated.on_request = lambda: simulated.requests == 8 and os.kill(os.getpid(), stop)
    try:
        shown = on_pipe("poll", "--concurrency", "2", *simulated.created(), **env(simulated))
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
    name, code = STOPS[stop]
    assert (shown.returncode, shown.stderr) == (code, f"stopped by {name}\n")
    kept = SnapshotStore("snapshots").read()
    assert 4 <= len(kept) < len(simulated.created())


IN_QUICK_PIECES = (
    "from safetykit_analytics import polling; polling._PIECE_S = 0.2;"
    "from safetykit_analytics.cli import main; main()"
)


@pytest.mark.parametrize("simulated", [Faults(latency_s=0.2)], indirect=True)
def test_a_poll_that_is_killed_keeps_what_it_wrote_during_the_round(simulated, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", IN_QUICK_PIECES, "poll", "--concurrency", "2", *simulated.created()],
        cwd=tmp_path,
        env=environment(**env(simulated)),
    )
    store = SnapshotStore(tmp_path / "snapshots")
    while not (store.exists() and len(store.read())):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert 0 < len(store.read()) < len(simulated.created())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_that_is_ignored_stays_ignored_as_under_nohup(name):
    from safetykit_analytics.cli.app import stoppable

    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stoppable():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_sigterm_stops_a_background_job_whose_ctrl_c_is_ignored(simulated, monkeypatch):
    found = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    found[signal.SIGTERM] = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(
        "safetykit_analytics.cli.poll.time.sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    try:
        shown = on_pipe("poll", "--watch", "1h", *simulated.created()[-5:], **env(simulated))
    finally:
        for number, handler in found.items():
            signal.signal(number, handler)
    assert (shown.returncode, shown.stderr) == (143, "stopped by SIGTERM\n")


WITHOUT_POSIX = """
import aiohttp, httpx, matplotlib, numpy, os, pandas, pyarrow.dataset, signal, sys  # not ours
for module, names in {
    signal: ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_kill", "pthread_sigmask", "alarm"],
    os: ["O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "fork", "getuid", "geteuid", "fchmod", "uname"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "pwd", "grp", "resource", "termios", "pty", "tty"):
    sys.modules[name] = None  # as if there were none
from safetykit_analytics.fetch import client, run, transport
from safetykit_analytics.cli import app, ids, poll
with app.stoppable() as stop:
    pass
import safetykit_analytics as ska
print(len(ska.fetch_batches(sys.argv[1:], progress=False).frame))
"""


def test_fetching_and_the_command_need_no_name_that_only_posix_has(simulated):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *simulated.created()[:3]],
        env=environment(**env(simulated)),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "3\n", done.stderr


def test_one_dead_id_among_settled_ones_is_some_and_not_all(simulated, capsys):
    simulated.now += dt.timedelta(days=5)
    poll(capsys, *simulated.created()[:20])
    latest = SnapshotStore("snapshots").latest()
    settled = latest.loc[latest["is_terminal"], "batch_id"].tolist()[:3]
    assert poll(capsys, *settled, "batch_gone", code=3)["settled_skipped"] == len(settled) > 0
    assert poll(capsys, "batch_gone", code=4)["failed"] == 1


def test_the_summary_counts_all_open_batches_of_the_store(simulated, capsys):
    simulated.now = simulated.fleet.start + dt.timedelta(days=1, hours=18)
    poll(capsys, *simulated.created())
    still_open = SnapshotStore("snapshots").open_batch_ids()
    assert poll(capsys, still_open[0])["open"] == len(still_open) > 1


def test_ids_come_from_a_column_of_csv_and_parquet(simulated, capsys):
    ids = simulated.created()[:4]
    table = pd.DataFrame({"market": ["a;", "b,", 'c"', "d"], "batch_id": [f" {one} " for one in ids]})
    table.to_csv("batches.csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    table.to_csv("excel.csv", index=False, sep=";")
    table.rename(columns={"batch_id": "id"}).to_csv("other.csv", index=False)
    table.to_parquet("batches.parquet")
    with open("quoted.txt", "w", encoding="utf-8-sig") as file:
        file.write("".join(f'  "{one}",\r\n' for one in ids) + "\n# a note\n")
    for number, source in enumerate(["batches.csv", "excel.csv", "batches.parquet", "quoted.txt"]):
        said = poll(capsys, "--ids", source, "--again", "--store", f"store{number}")
        assert (said["answered"], said["failed"]) == (4, 0)
    assert poll(capsys, "--ids", "other.csv", "--column", "id", "--again")["answered"] == 4
    assert run(["poll", "--ids", "other.csv"]) == 1
    assert "no column 'batch_id' in the file of ids (--column names it)" in capsys.readouterr().err


def test_answers_are_stored_even_if_a_warning_is_an_error(simulated, monkeypatch):
    import warnings

    from safetykit_analytics import UnknownStatusWarning
    from safetykit_analytics import poll as poll_store
    from safetykit_analytics.simulator import app

    body = app.batch_body
    monkeypatch.setattr(app, "batch_body", lambda *args: body(*args) | {"batch_status": "NEW"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnknownStatusWarning):
            poll_store(SnapshotStore("snapshots"), simulated.created()[:5])
    assert len(SnapshotStore("snapshots").read()) == 5


def test_a_poll_compacts_when_a_day_has_closed_since_the_last_one(simulated, monkeypatch):
    from safetykit_analytics import poll as poll_store

    compactions = []
    monkeypatch.setattr(SnapshotStore, "compact", lambda self: compactions.append(simulated.now))
    store = SnapshotStore("snapshots")
    for hours in (0, 1, 30, 1):
        simulated.now += dt.timedelta(hours=hours)
        poll_store(store, simulated.created()[:5], again=True, clock="server")
    assert len(compactions) == 1


def test_watch_goes_by_file_and_store_and_takes_an_empty_file_for_being_written(
    simulated, capsys, monkeypatch
):
    ids = simulated.created()
    poll(capsys, *ids)
    still_open = SnapshotStore("snapshots").open_batch_ids()
    with open("ids.txt", "w", encoding="ascii") as file:
        file.write(still_open[0])
    rounds = []

    def sleep(_):
        rounds.append(1)
        if len(rounds) == 1:
            os.truncate("ids.txt", 0)
        elif len(rounds) == 2:
            os.remove("ids.txt")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("safetykit_analytics.cli.poll.time.sleep", sleep)
    assert run(["poll", "--watch", "1h", "--ids", "ids.txt", "--json", "--clock", "server"]) == 130
    out, err = capsys.readouterr()
    assert [json.loads(line)["asked"] for line in out.splitlines()] == [len(still_open)] * 3
    assert err.count("is it being written?") == 2


def test_watch_takes_one_404_for_passing(simulated, capsys, monkeypatch):
    from safetykit_analytics.simulator import app

    poll(capsys, *simulated.created())
    ids = SnapshotStore("snapshots").open_batch_ids()
    body, hidden = app.batch_body, [True, False, True, False]
    rounds = []

    def sleep(_):
        rounds.append(1)
        if len(rounds) == 4:
            raise KeyboardInterrupt

    def changing(fleet, batch, at_ms):
        document = body(fleet, batch, at_ms)
        if document["batch_id"] == ids[0] and hidden[len(rounds)]:
            document["batch_id"] = "batch_of_another"
        return document

    monkeypatch.setattr(app, "batch_body", changing)
    monkeypatch.setattr("safetykit_analytics.cli.poll.time.sleep", sleep)
    assert run(["poll", "--watch", "1h", "--json", *ids]) == 130
    assert [json.loads(line)["failed"] for line in capsys.readouterr().out.splitlines()] == [1, 0, 1, 0]


def test_ctrl_c_while_it_is_written_keeps_what_arrived_too(simulated, monkeypatch):
    publish = LocalFiles.publish
    interrupts = iter([KeyboardInterrupt])

    def interrupted(self, path, data):
        for interrupt in interrupts:
            raise interrupt
        publish(self, path, data)

    monkeypatch.setattr(LocalFiles, "publish", interrupted)
    ids = simulated.created()[:20]
    assert run(["poll", *ids]) == 130
    assert len(SnapshotStore("snapshots").read()) == 20


def test_overlapping_polls_do_no_harm(simulated):
    from safetykit_analytics import poll as poll_store

    ids, store = simulated.created(), SnapshotStore("snapshots")
    with ThreadPoolExecutor(2) as both:
        made = both.map(lambda _: poll_store(store, ids, again=True, clock="server"), range(2))
        assert [one.failed for one in made] == [0, 0]
    assert store.read()["batch_id"].tolist() == sorted(ids)
    assert not store.verify()


def test_with_new_since_a_poll_prints_its_line_only_when_the_outcome_changes(simulated, capsys, monkeypatch):
    def told(*ids):
        code = run(["poll", "--again", "--new-since", "last.json", *ids])
        out, err = capsys.readouterr()
        return code, out.partition(",")[0], err.partition(":")[0]

    good = simulated.created()[:2]
    assert told(*good) == (0, "asked 2", "")
    assert told(*good) == (0, "", "")
    assert told(*good, "batch_gone") == (3, "asked 3", "failed")
    assert told(*good, "batch_gone", "batch_too") == (3, "", "")
    # Another kind is a change, and so is the end of the trouble.
    assert told(*good, "batch_gone", "") == (3, "asked 4", "failed")
    assert told(*good) == (0, "asked 2", "")
    monkeypatch.setenv("SAFETYKIT_API_KEY", "another")
    assert told(*good) == (1, "", "error")
    assert told(*good) == (1, "", "")
    monkeypatch.setenv("SAFETYKIT_API_KEY", KEY)
    assert told(*good) == (0, "asked 2", "")


def test_new_since_leaves_json_alone_and_silences_what_quiet_says_of_failures(simulated, capsys):
    arguments = ["poll", "--new-since", "last.json", "--quiet", "batch_gone"]
    assert [run(arguments), run(arguments)] == [4, 4]
    assert capsys.readouterr() == ("", "failed: 1 of 1 ids (1 http_status 404)\n")
    assert run([*arguments, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["failed"] == 1


@pytest.mark.parametrize(
    ("content", "trouble", "is_replaced"),
    [("{", "is damaged", True), ('{"format": 9}', "is of a newer release", False)],
)
def test_an_outcome_is_printed_where_the_last_one_cannot_be_read(
    simulated, capsys, content, trouble, is_replaced
):
    with open("last.json", "w", encoding="utf-8") as file:
        file.write(content)
    assert run(["poll", "--new-since", "last.json", simulated.created()[0]]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("asked 1")
    assert err.startswith(f"last.json {trouble}, so the outcome is printed; ")
    with open("last.json", encoding="utf-8") as file:
        assert (file.read() != content) is is_replaced
