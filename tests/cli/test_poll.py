"""What `poll` promises."""

import datetime as dt
import json
import os
import signal
import subprocess
import time

import pandas as pd
import pytest

from safetykit_analytics import SnapshotStore
from safetykit_analytics.cli import run
from safetykit_analytics.simulator import Faults
from safetykit_analytics.store.local import LocalFiles
from tests.cli.conftest import KEY
from tests.cli.helpers import COMMAND, INTERRUPTIBLE, environment, on_pipe


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
def test_stdin_that_is_no_text_is_told_in_one_line(simulated, tmp_path, option):
    shown = subprocess.run(
        [*COMMAND, "poll", option, "-"],
        cwd=tmp_path,
        env=environment(**env(simulated)),
        input=b"batch_1\nbatch_\xe9\n",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (shown.returncode, shown.stdout) == (2, b"")
    assert b"standard input is not text: byte 14 is not UTF-8" in shown.stderr
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
    assert err == "failed: batch_unknown: http_status: expected 200, found 404: the API knows no such batch\n"
    assert run(["poll", "--store", "empty"]) == 0
    assert capsys.readouterr().out == "nothing to ask for in empty\n"
    assert not os.path.exists("empty")


def test_failures_are_listed_briefly_unless_asked_for_all_or_none(simulated, capsys):
    wrong = [f"batch_{i}" for i in range(8)]
    assert run(["poll", *wrong]) == 4
    assert capsys.readouterr().err.splitlines()[-1] == "failed: and 3 more (--verbose lists them all)"
    assert run(["poll", *wrong, "--verbose"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 8
    assert run(["poll", "--quiet", *wrong]) == 4
    out, err = capsys.readouterr()
    assert out.startswith("asked 8")
    assert err == ""


def test_the_exit_code_says_whether_some_or_all_failed(simulated, capsys):
    good = simulated.created()[0]
    assert poll(capsys, good)["failed"] == 0
    some = poll(capsys, simulated.created()[1], "batch_unknown", code=3)
    assert [failure["status_code"] for failure in some["failures"]] == [404]
    assert poll(capsys, "batch_unknown", "", code=4)["failed"] == 2


def test_without_a_key_or_with_a_wrong_one_nothing_is_asked_twice(simulated, capsys, monkeypatch):
    monkeypatch.delenv("SAFETYKIT_API_KEY")
    assert run(["poll"]) == 1
    assert "SAFETYKIT_API_KEY" in capsys.readouterr().err
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
    asked = []

    def clock():
        asked.append(simulated.now)
        simulated.now += dt.timedelta(minutes=20)
        return simulated.now

    simulated.clock = clock
    moved = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: (moved(min(s, 0.01)), advance())[0])

    def advance():
        simulated.now += dt.timedelta(hours=1)

    assert run(["poll", "--watch", "0.01s", "--clock", "server", "--json", *ids, "batch_unknown"]) == 3
    rounds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rounds) > 1
    assert [one["failed"] for one in rounds] == [1] + [0] * (len(rounds) - 1)
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


@pytest.mark.parametrize("simulated", [Faults(latency_s=0.2)], indirect=True)
def test_ctrl_c_keeps_what_arrived_and_ends_with_130(simulated, tmp_path):
    process = subprocess.Popen(
        [*INTERRUPTIBLE, "poll", "--concurrency", "2", *simulated.created()],
        cwd=tmp_path,
        env=environment(**env(simulated)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while simulated.requests < 8:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    kept = SnapshotStore(tmp_path / "snapshots").read()
    assert 4 <= len(kept) < len(simulated.created())


def test_ctrl_c_while_it_is_written_keeps_what_arrived_too(simulated, monkeypatch):
    publish = LocalFiles.publish
    interrupts = iter([KeyboardInterrupt])

    def interrupted(self, files):
        for interrupt in interrupts:
            raise interrupt
        publish(self, files)

    monkeypatch.setattr(LocalFiles, "publish", interrupted)
    ids = simulated.created()[:20]
    assert run(["poll", *ids]) == 130
    assert len(SnapshotStore("snapshots").read()) == 20


def test_overlapping_polls_do_no_harm(simulated, tmp_path):
    ids = simulated.created()
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    processes = [
        subprocess.Popen(
            [*COMMAND, "poll", "--ids", "ids.txt", "--clock", "server", "--again"],
            cwd=tmp_path,
            env=environment(**env(simulated)),
            stdout=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    stored = SnapshotStore(tmp_path / "snapshots").read()
    assert stored["batch_id"].tolist() == sorted(ids)
    assert not SnapshotStore(tmp_path / "snapshots").verify()
