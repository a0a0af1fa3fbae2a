"""Every table as a command: what it writes is what the function of its name returns."""

import csv
import functools
import io
import os
import stat

import openpyxl
import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from safetykit_analytics.cli.files import _WRITERS
from safetykit_analytics.report import figures
from tests.cli.helpers import on_terminal
from tests.health.helpers import NOW, batch, ended, frame

OBSERVED = frame(
    batch("stuck", (30, 100, 0), (9, 300, 0), (0.5, 300, 0)),
    batch("moving", (50, 10, 1), (40, 100, 9), (20, 500, 30), (0.5, 800, 41), policy="hate", created=52),
    *(ended(f"=e{i}", 10 + i, 2 + i, version=f"v{i % 2}") for i in range(6)),
)
MARKETS = "batch_id,market\nstuck,de\nmoving,fr\n"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYKIT_STORE", "snapshots")
    (tmp_path / "markets.csv").write_text(MARKETS)
    made = ska.SnapshotStore("snapshots")
    made.append(OBSERVED)
    return made


def own():
    return pd.read_csv(io.StringIO(MARKETS), dtype="string")


CASES = [
    (["rates", "--start", "1d"], lambda s: ska.rates(s, start=NOW - pd.Timedelta(hours=24.5))),
    (
        ["rates", "--by", "market", "--batches", "markets.csv"],
        lambda s: ska.rates(s, by="market", batches=own()),
    ),
    (["rates", "--policy-id", "hate"], lambda s: ska.rates(s, policy_id="hate")),
    (
        ["rates", "--start", "2026-03-20T01:00", "--tz", "Asia/Tokyo"],
        lambda s: ska.rates(s, start="2026-03-20T01:00+09:00", tz="Asia/Tokyo"),
    ),
    (
        ["backlog", "--freq", "1D", "--by", "policy_id"],
        lambda s: ska.backlog(s, freq="1D", by="policy_id"),
    ),
    (["completion", "--confidence", "0.9"], lambda s: ska.completion_time(s, confidence=0.9)),
    (["completion", "--by", "none"], lambda s: ska.completion_time(s, by=())),
    (["stalled", "--idle", "6h"], lambda s: ska.stalled_batches(s, idle="6h")),
    (["quality"], ska.data_quality),
]


@pytest.mark.parametrize(("arguments", "expected"), CASES)
def test_a_command_writes_what_its_function_returns_and_shows_it(store, arguments, expected, capsys):
    table = expected(store)
    assert run([*arguments, "--parquet", "t.parquet", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    pd.testing.assert_frame_equal(pd.read_parquet("t.parquet"), table, check_dtype=False)
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == (len(table) + 1 if len(table) else 0)


def test_a_carriage_return_in_a_name_stays_in_its_cell_of_a_csv_file():
    table = pd.DataFrame({"policy_id": pd.array(["a\rb", None], dtype="string"), "n": [1, 2]})
    rows = csv.reader(io.StringIO(_WRITERS["csv"](table).decode(), newline=""))
    assert list(rows) == [["policy_id", "n"], ["a\rb", "1"], ["", "2"]]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "xlsx"])
def test_a_dash_is_stdout(store, kind, capfdbinary):
    assert run(["stalled", "--idle", "6h", f"--{kind}", "file"]) == 0
    capfdbinary.readouterr()
    assert run(["stalled", "--idle", "6h", f"--{kind}", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert err == b""
    if kind == "xlsx":
        assert openpyxl.load_workbook(io.BytesIO(out)).active["A2"].value == "stuck"
    else:
        with open("file", "rb") as file:
            assert file.read() == out


def test_only_one_table_goes_to_stdout(store, capsys):
    assert run(["stalled", "--csv", "-", "--json", "-"]) == 2
    assert "only one of --csv, --json, --parquet and --xlsx can go to stdout" in capsys.readouterr().err


def test_excel_gets_utc_hours_and_text_that_is_no_formula(store):
    odd = ended("=1+1", 3, 1, policy="=cmd|'/C calc'!A0\x07")
    store.append(odd)
    assert run(["completion", "--xlsx", "c.xlsx", "--quiet"]) == 0
    sheet = openpyxl.load_workbook("c.xlsx").active
    heads = [cell.value for cell in sheet[1]]
    assert "median_high (hours)" in heads
    cell = next(row[0] for row in sheet.iter_rows(min_row=2) if row[0].value.startswith("=cmd"))
    assert cell.data_type == "s"
    assert cell.value.endswith("\ufffd")
    assert run(["rates", "--xlsx", "r.xlsx", "--tz", "Asia/Tokyo", "--quiet"]) == 0
    sheet = openpyxl.load_workbook("r.xlsx").active
    table = ska.rates(store, tz="Asia/Tokyo")
    assert sheet["A1"].value == "bucket_start (UTC)"
    assert sheet["A2"].value == table["bucket_start"][0].tz_convert("UTC").tz_localize(None).to_pydatetime()


def test_excel_without_openpyxl_says_how_to_install_it(store, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    assert run(["rates", "--xlsx", "r.xlsx"]) == 1
    assert capsys.readouterr().err == (
        "error: openpyxl is not installed: pip install 'safetykit-analytics[excel]'\n"
    )
    assert not os.path.exists("r.xlsx")


def test_a_terminal_shows_the_last_rows_and_says_so(store, tmp_path):
    n = len(ska.rates(store))
    assert n > 40
    code, shown = on_terminal("rates", SAFETYKIT_STORE="snapshots")
    lines = shown.splitlines()
    assert code == 0
    assert lines[-1] == f"note: the last 40 of {n:,} rows; --csv FILE writes all of them"
    assert len(lines) == 42


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rates", "--by", "colour", "--batches", "markets.csv"], 1, "'colour'; known:"),
        (["rates", "--batches", "nowhere.csv"], 1, "error: nowhere.csv: No such file or directory"),
        (["rates", "--batches", "empty.csv"], 2, "--batches empty.csv: not a CSV file"),
        (["stalled", "--idle", "long"], 2, "idle='long' is not a length of time"),
        (["completion", "--policy-id", "hat"], 1, "no policy 'hat'; known: 'hate'"),
        (["report", "--mode", "rw"], 2, "--mode rw: expected an octal number such as 0644"),
        (["report", "--mode", "0644", "--output", "-"], 2, "--mode needs a file of this machine"),
    ],
)
def test_a_wrong_argument_is_one_line(store, arguments, code, said, capsys):
    with open("empty.csv", "w", encoding="ascii"):
        pass
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_key_file_that_others_can_read_is_warned_of(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("empty")
    key = tmp_path / "key"
    key.write_text("secret-key\n")
    poll = ["poll", "--store", "empty", "--api-key-file", "key"]
    warning = "warning: others can read the key in key; run: chmod 600 key\n"
    for mode, options, said in ((0o644, [], warning), (0o644, ["--quiet"], ""), (0o600, [], "")):
        key.chmod(mode)
        assert run([*poll, *options]) == 0
        assert capsys.readouterr().err == said


def test_a_report_goes_to_stdout_to_an_object_to_csv_and_to_a_file_for_others(
    store, capfdbinary, monkeypatch
):
    week = ["report", "--week", "2026-W12"]
    monkeypatch.setattr(ska, "weekly_report", functools.cache(ska.weekly_report), raising=False)
    monkeypatch.setattr(figures, "draw_figures", lambda _: {})
    assert run([*week, "--output", "r.md", "--mode", "0644"]) == 0
    assert capfdbinary.readouterr() == (b"", b"wrote r.md\n")
    week.append("--quiet")
    assert stat.S_IMODE(os.stat("r.md").st_mode) == 0o644
    with open("r.md", "rb") as file:
        text = file.read()
    assert run([*week, "--output", "memory://reports/r.md"]) == 0
    import fsspec

    assert fsspec.filesystem("memory").cat("/reports/r.md") == text
    assert run([*week, "--output", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"<!DOCTYPE html>")
    assert run([*week, "--csv", "tables"]) == 0
    assert "totals.csv" in os.listdir("tables")
    assert not [name for name in os.listdir() if name.startswith("report-")]


def test_compare_passes_on_the_window_and_the_looks(store, monkeypatch, capsys):
    given = {}
    real = ska.compare_versions

    def recorded(observations, **keywords):
        given.update(keywords)
        return real(observations, **keywords)

    monkeypatch.setattr(ska, "compare_versions", recorded, raising=False)
    assert run(["compare", "--policy-id", "spam", "--start", "2026-03-20", "--looks", "once"]) == 0
    assert (given["start"], given["looks"]) == ("2026-03-20", "once")
    assert given["end"] is None


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (["rates", "--csv", "nowhere/r.csv"], "rates"),
        (["rates", "--plot", "nowhere/r.png"], "rates"),
        (["backlog", "--xlsx", "nowhere/r.xlsx"], "backlog"),
        (["report", "--output", "nowhere/r.html"], "weekly_report"),
    ],
)
@pytest.mark.usefixtures("store")
def test_a_missing_folder_is_found_before_anything_is_computed(monkeypatch, capsys, command, function):
    monkeypatch.setattr(ska, function, lambda *_, **__: pytest.fail("computed first"))
    assert run(command) == 1
    assert capsys.readouterr().err == f"error: {command[-1]}: No such file or directory\n"
