"""What `rates`, `compare`, `compact` and `verify` promise."""

import csv
import datetime as dt
import json
import os
import stat
import threading
import uuid
from pathlib import Path

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from safetykit_analytics.simulator import make_fleet, to_ms
from safetykit_analytics.simulator.app import batch_body
from tests.cli.helpers import on_pipe


def observed(fleet, hours, rename=None):
    """Observations of a fleet, every some hours, as events would tell them but with policies."""
    lines = []
    for hour in range(hours, 24 * 7 + 1, hours):
        at = fleet.start + dt.timedelta(hours=hour)
        for batch in range(fleet.created_by(at)):
            body = batch_body(fleet, batch, to_ms(at))
            body["policy_id"] = (rename or {}).get(body["policy_id"], body["policy_id"])
            event = {"event_type": "batch.completed", "received_at": at.isoformat(), "data": body}
            lines.append(json.dumps(event))
    return ska.observations_from_events(lines)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """A store with a week of 60 batches."""
    path = tmp_path_factory.mktemp("tables") / "snapshots"
    fleet = make_fleet(seed=9, batches=60, weeks=1)
    ska.SnapshotStore(path).append(observed(fleet, 6))
    return path


@pytest.fixture(autouse=True)
def _as_a_user_has_it(monkeypatch, tmp_path, snapshots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYKIT_STORE", str(snapshots))
    monkeypatch.setenv("NO_COLOR", "1")


def exactly(table):
    """A table as JSON has it: every digit, instants as text, missing as None."""
    columns = {}
    for name in table.columns:
        column = table[name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            columns[name] = [at.isoformat().replace("+00:00", "Z") for at in column]
        elif column.dtype.kind == "m":
            columns[name] = [None if pd.isna(value) else value.total_seconds() / 3600 for value in column]
        else:
            columns[name] = [None if pd.isna(value) else value for value in column.astype(object)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


RATES_ARGUMENTS = [
    ([], {}),
    (
        ["--freq", "1D", "--by", "policy_id", "--tz", "Asia/Tokyo"],
        {"freq": "1D", "by": "policy_id", "tz": "Asia/Tokyo"},
    ),
    (
        ["--freq=6h", "--by=none", "--start=2025-09-02", "--end=2025-09-04", "--as-of=2025-09-05T12:00Z"],
        {"freq": "6h", "by": (), "start": "2025-09-02", "end": "2025-09-04", "as_of": "2025-09-05T12:00Z"},
    ),
    (
        ["--freq=W", "--by=policy_version", "--by=policy_id", "--confidence=0.8"],
        {"freq": "W", "by": ("policy_version", "policy_id"), "confidence": 0.8},
    ),
]


@pytest.mark.parametrize(("arguments", "keywords"), RATES_ARGUMENTS)
def test_rates_writes_what_the_function_returns_to_the_last_digit(snapshots, capsys, arguments, keywords):
    expected = ska.rates(ska.SnapshotStore(snapshots), **keywords)
    files = ["--csv", "r.csv", "--json", "r.json", "--parquet", "r.parquet"]
    assert run(["rates", *arguments, *files]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"wrote {name} ({len(expected):,} rows)" for name in files[1::2]]
    with open("r.json", encoding="utf-8") as file:
        assert json.load(file) == exactly(expected)
    pd.testing.assert_frame_equal(pd.read_parquet("r.parquet"), expected, check_dtype=False)
    with open("r.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, exactly(expected), strict=True):
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            if isinstance(value, bool | str) or value is None:
                text = row[name].replace(" ", "T").replace("+00:00", "Z")
                assert text == ("" if value is None else str(value)).replace(" ", "T")
            else:
                assert float(row[name]) == value


def test_rates_shows_a_row_per_bucket_on_the_terminal(snapshots, capsys):
    expected = ska.rates(ska.SnapshotStore(snapshots), freq="1D")
    assert run(["rates", "--freq", "1D"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["bucket", "policy_id", "policy_version"]
    assert len(lines) == len(expected)
    none = next(line for line in lines if "(none)" in line)
    assert none.count("(none)") == 2
    row = expected.iloc[0]
    assert lines[0].startswith("2025-09-01 00:00")
    assert f"{row['processed']:,.0f}" in lines[0]
    assert f"{row['error_rate']:.2%}".replace("%", " %") in lines[0]


@pytest.mark.parametrize("candidate", [None, "v8"])
def test_compare_writes_and_says_what_the_function_returns(snapshots, capsys, candidate):
    arguments = ["--policy-id=hate-speech", "--baseline=v7", "--confidence=0.9", "--correction=none"]
    expected = ska.compare_versions(
        ska.SnapshotStore(snapshots),
        policy_id="hate-speech",
        baseline="v7",
        candidate=candidate,
        confidence=0.9,
        correction="none",
    )
    if candidate:
        arguments += ["--candidate", candidate]
    assert run(["compare", *arguments, "--json", "c.json", "--plot", "c.svg"]) == 0
    with open("c.json", encoding="utf-8") as file:
        assert json.load(file) == exactly(expected.table)
    with open("c.svg", encoding="utf-8") as file:
        assert "<svg" in file.read()
    capsys.readouterr()
    assert run(["compare", *arguments]) == 0
    out = capsys.readouterr().out
    for sentence in expected.sentences:
        assert sentence in out.splitlines()


def test_compare_without_a_policy_scans_them_all(snapshots, capsys):
    expected = ska.compare_versions(ska.SnapshotStore(snapshots), policy_id=None, baseline=None)
    assert run(["compare"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.index("") == 1 + len(expected.table)


def test_a_plot_is_the_picture_of_the_table(capsys):
    assert run(["rates", "--freq", "1D", "--by", "policy_id", "--plot", "r.png"]) == 0
    assert capsys.readouterr().err == "wrote r.png\n"
    with open("r.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    assert run(["rates", "--plot", "r.docx"]) == 2
    assert "expected a name that ends in one of" in capsys.readouterr().err
    assert not os.path.exists("r.docx")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(capsys, monkeypatch):
    with open("r.csv", "w", encoding="ascii") as file:
        file.write("old")

    def full(path, data):
        path.write_text("half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(["rates", "--csv", "r.csv"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert os.listdir() == ["r.csv"]
    with open("r.csv", encoding="ascii") as file:
        assert file.read() == "old"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "plot"])
def test_a_pipe_or_a_device_is_written_to_and_not_replaced(kind, capsys):
    os.mkfifo("pipe.png")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe.png").read_bytes()), daemon=True)
    reader.start()
    assert run(["rates", "--freq", "W", "--by", "none", f"--{kind}", "pipe.png"]) == 0
    reader.join(60)
    assert stat.S_ISFIFO(os.stat("pipe.png").st_mode)
    assert os.listdir() == ["pipe.png"]
    begins = {"csv": b"bucket_start,", "json": b"[\n {", "parquet": b"PAR1", "plot": b"\x89PNG"}
    assert read[0].startswith(begins[kind])


def test_a_link_keeps_leading_to_what_is_written(capsys):
    os.mkdir("elsewhere")
    for name in ("latest.csv", "latest.png"):
        os.symlink("elsewhere/target", name)
        kind = "--plot" if name.endswith("png") else "--csv"
        assert run(["rates", "--freq", "W", "--by", "none", kind, name]) == 0
        assert os.readlink(name) == "elsewhere/target"
        with open("elsewhere/target", "rb") as file:
            assert file.read(4) == (b"\x89PNG" if name.endswith("png") else b"buck")
    assert os.listdir("elsewhere") == ["target"]


@pytest.mark.parametrize("url", ["memory://user:hunter2@{name}/x", "memory:/user:hunter2@{name}/x"])
def test_a_password_in_the_url_of_a_store_is_never_shown(url, capsys):
    place = url.format(name=uuid.uuid4().hex)
    run(["rates", "--store", place])
    run(["verify", "--store", place])
    run(["poll", "--store", place])
    with open("events", "w", encoding="ascii"):
        pass
    run(["poll", "--store", place, "--events", "events"])
    out, err = capsys.readouterr()
    assert "memory:/" in out + err
    assert "hunter2" not in out + err


def test_a_policy_named_like_a_formula_or_an_escape_sequence_does_no_harm(capsys, tmp_path):
    fleet = make_fleet(seed=9, batches=30, weeks=1)
    rename = {"spam": "\x1b[2J=cmd|' /C calc'!A0", "hate-speech": "=1+1", "counterfeit": "a\u202eb\nc"}
    ska.SnapshotStore(tmp_path / "odd").append(observed(fleet, 12, rename))
    assert run(["rates", "--store", "odd", "--freq", "1D"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J=cmd" in out
    assert "a\\u202eb\\nc" in out
    assert run(["rates", "--store", "odd", "--freq", "1D", "--csv", "r.csv"]) == 0
    names = set(pd.read_csv("r.csv", keep_default_na=False)["policy_id"])
    assert "'=1+1" in names
    assert "=1+1" not in names
    # An unknown name that is quoted in an error, too.
    assert run(["compare", "--store", "odd", "--policy-id", "\x1b]0;x\x07"]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_what_the_terminal_cannot_write_is_shown_as_an_escape(tmp_path):
    fleet = make_fleet(seed=9, batches=30, weeks=1)
    ska.SnapshotStore(tmp_path / "odd").append(observed(fleet, 12, {"spam": "スパム"}))
    shown = on_pipe("rates", "--store", "odd", "--freq", "1D", encoding="latin-1")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert r"\u30b9\u30d1\u30e0" in shown.stdout


def test_an_empty_store_gives_an_empty_table_and_says_so(capsys):
    os.mkdir("empty")
    assert run(["rates", "--store", "empty", "--json", "r.json"]) == 0
    assert "note: there are no observations in empty" in capsys.readouterr().err
    with open("r.json", encoding="utf-8") as file:
        assert json.load(file) == []
    assert os.listdir("empty") == []


READING = [
    "status", "check", "rates", "backlog", "completion", "stalled", "quality", "compare", "report", "metrics",
    "compact", "verify",
]  # fmt: skip


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("store", ["typo", "memory://typo/snapshots"])
def test_a_store_that_is_not_there_is_an_error_and_not_an_empty_one(command, store, capsys):
    assert run([command, "--store", store, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: there is no store at {store}; name one with --store")
    assert err.count("\n") == 1
    assert not os.path.exists("typo")


@pytest.mark.parametrize("command", READING)
def test_quiet_is_silent_on_success_but_for_what_was_asked_for(command, capsys):
    asked = {"rates", "backlog", "completion", "compare", "status", "metrics"}
    options = {"check": ["--as-of", "2025-08-01"], "report": ["--output", "r.md"]}
    assert run([command, "--quiet", *options.get(command, [])]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert bool(out) is (command in asked)


def test_a_time_without_any_work_says_so_beside_its_empty_table(capsys):
    assert run(["rates", "--start", "2030-01-01"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "note: no batch was at work in this time\n")
    assert run(["rates", "--freq", "1D"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["rates", "--store", "empty"],
        ["compare", "--store", "empty"],
        ["compact", "--store", "empty"],
        ["verify", "--store", "empty"],
        ["report", "--store", "empty", "--week", "2026-W47", "--output", "r.md"],
    ],
)
def test_notes_are_for_people_and_quiet_leaves_them_out(capsys, arguments):
    os.mkdir("empty")
    assert run(arguments) == 0
    assert "note: " in capsys.readouterr().err
    assert run([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rates", "--freq", "7h"], 2, "does not divide a day"),
        (["rates", "--tz", "Mars/Phobos"], 1, "no time zone 'Mars/Phobos'; known:"),
        (["rates", "--by", "colour"], 1, "'colour'; known:"),
        (["rates", "--confidence", "2"], 2, "confidence"),
        (["rates", "--confidence", "much"], 2, "Invalid value for '--confidence'"),
        (["rates", "--start", "yesterday"], 2, "start='yesterday'"),
        (["rates", "--csv", "nowhere/r.csv"], 1, "nowhere"),
        (["rates", "--json", "nowhere/r.json"], 1, "error: nowhere/r.json: No such file or directory\n"),
        (["rates", "--plot", "nowhere/r.png"], 1, "error: nowhere/r.png: No such file or directory\n"),
        (["rates", "--parquet", "."], 1, "expected the name of a file, found a folder"),
        (["rates", "--store", "foo://bucket"], 2, "which fsspec does not know"),
        (["report", "--output", "nowhere/r.md"], 1, "nowhere/r.md: No such file or directory\n"),
        (["report", "--output", "r.pdf"], 2, "cannot save a report as 'r.pdf'"),
        (["poll", "--ids", "nowhere.txt"], 1, "error: nowhere.txt: No such file or directory\n"),
        (["rates", "surplus"], 2, "unexpected extra argument"),
        (["compare", "--policy-id", "hate-speach"], 1, "no policy 'hate-speach'; known: 'hate-speech'"),
        (
            ["compare", "--policy-id", "spam", "--baseline", "v1"],
            1,
            "no version 'v1' in policy 'spam'; known:",
        ),
        (["compare", "--correction", "sidak"], 2, "'sidak' is not one of"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["poll", "--clock", "sundial"], 2, "'sundial' is not one of"),
        (["simulate", "--speed", "0"], 2, "expected a finite number greater than 0"),
        (["simulate", "--speed", "inf"], 2, "expected a finite number greater than 0"),
        (["simulate", "--seed", "-1"], 2, "Invalid value for '--seed'"),
        (["demo", "--seed", "-1"], 2, "Invalid value for '--seed'"),
        (["simulate", "--port", "99999"], 2, "Invalid value for '--port'"),
        (["simulate", "--faults", "gremlins=1"], 2, "unknown fault 'gremlins'; known:"),
    ],
)
def test_every_wrong_argument_is_one_line_on_stderr_and_its_exit_code(capsys, arguments, code, said):
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_debug_shows_where_an_error_comes_from(capsys):
    assert run(["rates", "--freq", "7h", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: ")


def test_an_error_of_our_own_is_one_line_too(capsys, monkeypatch):
    monkeypatch.setattr("safetykit_analytics.cli.options.open_store", lambda path, loudness: 1 / 0)
    assert run(["rates"]) == 1
    assert (
        capsys.readouterr().err
        == "error: unexpected ZeroDivisionError: division by zero (--debug shows where)\n"
    )


def test_a_folder_that_is_no_store_is_an_error(capsys, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    for command in ("rates", "verify", "compact"):
        assert run([command, "--store", "photos"]) == 1
        assert "photos" in capsys.readouterr().err


def test_compact_says_what_it_did_and_loses_nothing(snapshots, capsys, tmp_path):
    whole = ska.SnapshotStore(snapshots).read()
    store = ska.SnapshotStore(tmp_path / "parts")
    for _, part in whole.groupby(whole.index % 3):
        store.append(part)
    assert run(["compact", "--store", "parts"]) == 0
    assert capsys.readouterr().out.startswith("compacted 7 cohorts: 3 files → 7")
    pd.testing.assert_frame_equal(store.read(), whole)
    assert run(["compact", "--store", "parts"]) == 0
    assert capsys.readouterr().out.startswith("nothing to compact")


def test_compact_thins_before_a_time_and_no_table_as_of_later_changes(capsys, tmp_path):
    store = ska.SnapshotStore(tmp_path / "fleet")
    store.append(observed(make_fleet(seed=9, batches=30, weeks=1), 2))
    command = ["rates", "--store", "fleet", "--freq", "6h", "--as-of", "2025-09-05", "--csv", "-"]
    assert run(command) == 0
    table, whole = capsys.readouterr().out, store.read()
    assert run(["compact", "--store", "fleet", "--thin-before", "2025-09-04"]) == 0
    assert "thinned" in capsys.readouterr().out
    kept = store.read()
    before = whole["observed_at"] < pd.Timestamp("2025-09-04T00:00Z")
    assert len(kept) < len(whole)
    pd.testing.assert_frame_equal(
        kept[kept["observed_at"] >= pd.Timestamp("2025-09-04T00:00Z")].reset_index(drop=True),
        whole[~before].reset_index(drop=True),
    )
    assert run(command) == 0
    assert capsys.readouterr().out == table
    assert run(["compact", "--thin-before", "soon"]) == 2
    assert "thin_before='soon'" in capsys.readouterr().err


def test_verify_names_each_damaged_file_and_fails_and_only_mentions_foreign_ones(capsys, tmp_path):
    store = ska.SnapshotStore(tmp_path / "mine")
    store.append(observed(make_fleet(seed=9, batches=10, weeks=1), 24))
    assert run(["verify", "--store", "mine"]) == 0
    assert capsys.readouterr().out == "all is well: nothing is damaged\n"
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert run(["verify", "--store", "mine"]) == 0
    assert "notes.txt: ignored: " in capsys.readouterr().out
    damaged = next((tmp_path / "mine").glob("*/*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert run(["verify", "--store", "mine", "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert "notes.txt" not in out
    assert damaged.name in out
    assert err == "error: 1 damaged\n"
    assert run(["rates", "--store", "mine"]) == 1
    assert damaged.name in capsys.readouterr().err
