"""What `check`, `status` and `metrics` promise at a shell."""

import json
import os
import stat
import sys

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from tests.health.helpers import NOW, at, batch, ended, frame

STUCK = batch("stuck", (10, 100, 0), (9, 300, 0), (0.5, 300, 0))


def iso(instant):
    return instant.isoformat()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAFETYKIT_STORE", "snapshots")
    made = ska.SnapshotStore("snapshots")
    made.append(frame(batch("moving", (5, 100, 0), (0.5, 800, 0)), ended("done", 20, 3)))
    return made


def check(*arguments, as_of=NOW):
    return run(["check", "--as-of", iso(as_of), *map(str, arguments)])


def test_nothing_found_is_said_unless_quiet(store, capsys):
    assert check() == 0
    assert capsys.readouterr() == ("nothing found as of 2026-03-20 12:00 UTC\n", "")
    assert check("--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_findings_are_sentences_with_exit_code_5_and_one_line_on_stderr(store, capsys):
    store.append(STUCK)
    for arguments in ([], ["--quiet"]):
        assert check(*arguments) == 5
        out, err = capsys.readouterr()
        assert out.splitlines() == list(ska.check(store, as_of=NOW).sentences)
        assert err == "found 1 stalled\n"


def test_json_has_exactly_ok_as_of_and_findings(store, capsys):
    store.append(STUCK)
    assert check("--json") == 5
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"ok", "as_of", "findings"}
    assert (found["ok"], found["as_of"]) == (False, "2026-03-20T12:00:00Z")
    assert found["findings"][0]["batch_id"] == "stuck"
    assert found["findings"][0]["since"] == iso(at(9)).replace("+00:00", "Z")


def test_an_alert_comes_once_per_change_and_again_after_a_day_without_it(store, capsys):
    store.append(STUCK)
    assert check("--new-since", "told.json") == 5
    capsys.readouterr()
    hour = pd.Timedelta(hours=1)
    assert check("--new-since", "told.json", "--silent", "9d", as_of=NOW + hour) == 0
    assert capsys.readouterr() == ("nothing new; 1 found before\n", "")
    # However rarely it is run, what is still there is no news.
    assert check("--new-since", "told.json", "--silent", "9d", as_of=NOW + 60 * hour) == 0
    store.append(batch("stuck2", (10, 100, 0), (9, 300, 0), (-61, 300, 0)))
    assert check("--new-since", "told.json", "--silent", "9d", "--quiet", as_of=NOW + 62 * hour) == 5
    assert capsys.readouterr().out.splitlines()[-1].startswith("stuck2 ")


def test_a_finding_that_comes_back_is_news_after_a_day_without_it(store):
    hour = pd.Timedelta(hours=1)

    def told(hours):
        return check("--new-since", "told.json", "--silent", "9d", as_of=NOW + hours * hour)

    store.append(STUCK)
    assert told(0) == 5
    store.append(batch("stuck", (-1, 400, 0), (-20, 400, 0), created=11))
    # It moved at 1, and stands still again from then on.
    assert [told(hours) for hours in (2, 20)] == [0, 0]
    store.append(batch("stuck", (-21, 500, 0), (-60, 500, 0), created=11))
    assert [told(hours) for hours in (22, 47, 60)] == [0, 0, 5]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 1, "told": [{}]}'])
def test_a_damaged_state_file_is_said_and_everything_is_told(content, store, capsys):
    store.append(STUCK)
    with open("told.json", "w", encoding="utf-8") as file:
        file.write(content)
    assert check("--new-since", "told.json") == 5
    assert capsys.readouterr().err == (
        "found 1 stalled; told.json is damaged, so all findings are told; it is replaced\n"
    )
    assert check("--new-since", "told.json") == 0


def test_a_state_file_of_a_newer_release_is_said_and_left_as_it_is(store, capsys):
    store.append(STUCK)
    with open("told.json", "w", encoding="utf-8") as file:
        file.write('{"format": 2}')
    for _ in range(2):
        assert check("--new-since", "told.json") == 5
        assert "told.json is of a newer release" in capsys.readouterr().err
    with open("told.json", encoding="utf-8") as file:
        assert file.read() == '{"format": 2}'


def test_what_could_not_be_printed_is_told_again(store, capsys, monkeypatch):
    store.append(STUCK)
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert check("--new-since", "told.json") == 1
    assert capsys.readouterr().err == "error: cannot write to stdout: No space left on device\n"
    assert not os.path.exists("told.json")
    assert check("--new-since", "told.json") == 5


def test_many_findings_are_twenty_lines_and_a_count(store, capsys):
    store.append(frame(*(batch(f"s{i:02}", (10, 1, 0), (9, 3, 0), (0.5, 3, 0)) for i in range(25))))
    assert check() == 5
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 21
    assert out[-1] == "and 5 more (--verbose or --json lists them all)"
    assert check("--verbose") == 5
    assert len(capsys.readouterr().out.splitlines()) == 25


def limits(text):
    with open("limits.toml", "w", encoding="utf-8") as file:
        file.write(text)
    return "--limits", "limits.toml"


HOT = frame(*(ended(f"h{i}", 70 + i, 2 + i, policy="hate") for i in range(6)))


def test_limits_come_from_a_file_and_options_come_first(store, capsys):
    store.append(frame(STUCK, HOT))
    assert check(*limits('stalled = "10h"\n[policy.hate]\nmax_error_rate = 0.03\n')) == 5
    assert capsys.readouterr().err == "found 1 error_rate\n"
    assert check(*limits('stalled = "10h"\nmax_error_rate = 0.2\n')) == 0
    assert check(*limits('stalled = "10h"\n'), "--stalled", "8h") == 5
    assert check(*limits('stalled = "10h"\n'), "--max-error-rate", "0.03") == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stalled = ", "not TOML"),
        ("stale = '6h'", "unknown limit 'stale'; known: max_error_rate, stalled"),
        (
            "[policy.spam]\nmax_errors = 1",
            "unknown limit 'max_errors' in [policy.\"spam\"]; known: max_error_rate",
        ),
        ("policy = 3", "expected tables such as"),
        ("stalled = 6", "stalled=6 has no unit"),
        ("max_error_rate = 3", "max_error_rate=3: expected a fraction"),
        ("[policy.spam]\nmax_error_rate = '3%'", "max_error_rate['spam']='3%': expected a fraction"),
    ],
)
def test_a_wrong_file_of_limits_is_one_line_that_names_what_is_wrong(text, said, store, capsys):
    assert check(*limits(text)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_an_unknown_policy_in_the_file_is_said_after_the_findings(store, capsys):
    file = limits("[policy.spma]\nmax_error_rate = 0.03\n")
    assert check(*file) == 1
    assert capsys.readouterr().err == "error: no policy 'spma'; known: 'spam'\n"
    store.append(STUCK)
    assert check(*file) == 5
    out, err = capsys.readouterr()
    assert out.startswith("stuck ")
    assert err == "found 1 stalled; error: no policy 'spma'; known: 'spam'\n"


def test_status_is_one_screen_and_json(store, capsys):
    store.append(STUCK)
    assert run(["status", "--as-of", iso(NOW)]) == 0
    out = capsys.readouterr().out
    assert "last observation  2026-03-20 11:30 UTC, 30 min ago" in out
    assert "open batches      2" in out
    assert "stalled           1 " in out
    assert run(["status", "--as-of", iso(NOW), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("bytes") == store.info().bytes
    assert found == {
        "last_observed_at": "2026-03-20T11:30:00Z", "age_s": 1800.0, "open": 2, "stalled": 1, "unanswered": 0,
        "last_compaction_at": None,
    }  # fmt: skip
    store.compact()
    assert run(["status", "--as-of", iso(NOW), "--json"]) == 0
    compacted = pd.Timestamp(json.loads(capsys.readouterr().out)["last_compaction_at"])
    assert abs(pd.Timestamp.now(tz="UTC") - compacted) < pd.Timedelta(hours=1)


def test_metrics_go_to_stdout_or_into_a_file_that_all_may_read(store, capsys):
    assert run(["metrics", "--as-of", iso(NOW)]) == 0
    assert capsys.readouterr().out == ska.open_metrics(store, as_of=NOW)
    before = os.umask(0o077)
    try:
        assert run(["metrics", "--as-of", iso(NOW), "--output", "s.prom"]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("s.prom").st_mode) == 0o644
    with open("s.prom", encoding="utf-8") as file:
        text = file.read()
    assert "# TYPE safetykit_decisions_total counter" in text
    assert "# EOF" not in text
    capsys.readouterr()
    assert run(["metrics", "--output", "nowhere/s.prom"]) == 1
    assert capsys.readouterr().err == "error: nowhere/s.prom: No such file or directory\n"


def test_metrics_without_prometheus_client_say_how_to_install_it(store, capsys, monkeypatch):
    import importlib

    real = importlib.import_module

    def missing(name):
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError("no", name="prometheus_client")
        return real(name)

    monkeypatch.setattr("safetykit_analytics.health.metrics.importlib.import_module", missing)
    assert run(["metrics"]) == 1
    assert capsys.readouterr().err == (
        "error: prometheus_client is not installed: pip install 'safetykit-analytics[metrics]'\n"
    )
