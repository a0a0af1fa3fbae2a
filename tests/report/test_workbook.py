"""The workbook, read back by openpyxl: real dates, formats, and no formula."""

import io
import sys
import zipfile

import openpyxl
import pandas as pd
import pytest

from safetykit_analytics import spreadsheet
from tests.report.hostile import NAMES


def read(path):
    return openpyxl.load_workbook(path)


@pytest.fixture(scope="module")
def workbook(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("workbook") / "report.xlsx"
    report.save(path)
    return read(path)


def columns(sheet):
    header, *rows = sheet.iter_rows()
    return {cell.value: [row[place] for row in rows] for place, cell in enumerate(header)}


def test_each_table_is_a_sheet_after_one_that_says_what_this_is(workbook, report, tmp_path):
    report.to_csv(tmp_path)
    first, *names = workbook.sheetnames
    assert set(names) == {path.stem for path in tmp_path.iterdir()}
    said = [cell.value for (cell,) in workbook[first].iter_rows()]
    assert said[0] == f"SafetyKit weekly report {report.facts.week}"
    assert any(line and line.startswith("Instants are in UTC.") for line in said)


def test_instants_are_real_naive_datetimes_in_utc_and_their_heading_says_so(workbook, report):
    cells = columns(workbook["versions"])["bucket_start (UTC)"]
    expected = report.facts.versions["bucket_start"].dt.tz_convert("UTC").dt.tz_localize(None)
    assert [cell.value for cell in cells] == list(expected.dt.to_pydatetime())
    assert {cell.number_format for cell in cells} == {"yyyy-mm-dd hh:mm:ss"}


def test_rates_are_shown_in_percent_and_counts_with_thousands(workbook, report):
    found = columns(workbook["totals"])
    assert [cell.value for cell in found["error_rate"]] == pytest.approx(
        report.facts.totals["error_rate"].tolist()
    )
    assert {cell.number_format for cell in found["error_rate"]} == {"0.00%"}
    assert {cell.number_format for cell in found["n_batches"]} == {"#,##0"}


def test_hostile_names_are_text_and_nothing_is_a_formula(hostile, tmp_path):
    hostile.save(tmp_path / "report.xlsx")
    found = read(tmp_path / "report.xlsx")
    cells = [cell for sheet in found for row in sheet.iter_rows() for cell in row]
    assert not [cell.value for cell in cells if cell.data_type in {"f", "e"}]
    shown = {cell.value for cell in columns(found["rollouts"])["policy_version"]}
    for name in NAMES:
        kept = name.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\r\n", "\n")
        assert kept in {str(value).replace("\r\n", "\n") for value in shown}


def test_text_that_looks_like_a_formula_or_an_error_stays_text(tmp_path):
    frame = pd.DataFrame(
        {"name": ["=1+1", "#N/A", "+1", "_x0041_", None], "n": [1.0, float("inf"), None, 2, 3]}
    )
    (tmp_path / "one.xlsx").write_bytes(spreadsheet.workbook({"one": frame}))
    found = columns(read(tmp_path / "one.xlsx")["one"])
    assert [cell.value for cell in found["name"]] == ["=1+1", "#N/A", "+1", "_x005F_x0041_", None]
    assert {cell.data_type for cell in found["name"][:4]} == {"s"}
    assert [cell.value for cell in found["n"]] == [1, None, None, 2, 3]


def test_a_workbook_holds_no_time_of_its_making(tmp_path):
    frame = pd.DataFrame({"at": pd.to_datetime(["2026-11-16T00:00:00+01:00"])})
    made = spreadsheet.workbook({"one": frame}, about=["about"])
    with zipfile.ZipFile(io.BytesIO(made)) as book:
        assert {entry.date_time for entry in book.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"dcterms:" not in book.read("docProps/core.xml").partition(b">")[2].partition(b">")[2]
    assert made == spreadsheet.workbook({"one": frame}, about=["about"])


def test_durations_are_hours_and_too_many_rows_are_an_error(tmp_path, monkeypatch):
    frame = pd.DataFrame({"idle": pd.to_timedelta(["90min", None]), "batch": ["a", "b"]})
    (tmp_path / "one.xlsx").write_bytes(spreadsheet.workbook({"one": frame}))
    found = columns(read(tmp_path / "one.xlsx")["one"])["idle (hours)"]
    assert [cell.value for cell in found] == [1.5, None]
    monkeypatch.setattr(spreadsheet, "_MOST_ROWS", 2)
    with pytest.raises(ValueError, match="table 'one': 2 rows are more than the 1 of an Excel sheet"):
        spreadsheet.workbook({"one": frame})


def test_without_openpyxl_the_error_says_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'safetykit-analytics\[excel\]'"):
        report.save(tmp_path / "report.xlsx")
    assert not list(tmp_path.iterdir())
