"""What a person at a terminal sees, what a pipe gets, and how fast help comes."""

import contextlib
import inspect
import os
import re
import subprocess
import sys

import pytest

import safetykit_analytics
from safetykit_analytics.cli import run
from tests.cli.conftest import KEY
from tests.cli.helpers import COMMAND, as_process, environment, on_pipe, on_terminal

COMMANDS = (
    "demo", "poll", "status", "check", "rates", "backlog", "completion", "stalled", "quality", "compare",
    "report", "metrics", "compact", "verify", "simulate",
)  # fmt: skip
ESCAPE = "\x1b["


def env(simulated):
    return {"SAFETYKIT_API_KEY": KEY, "SAFETYKIT_BASE_URL": simulated.url}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_every_option_with_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    # Long lines wrap.
    assert f"Example: safetykit-analytics {command}" in " ".join(out.split())
    options = re.findall(r"^  (--[a-z-]+).*$", out, re.MULTILINE)
    undescribed = re.findall(r"^  --[a-z-]+(?: \S+)?\n  --", out, re.MULTILINE)
    assert options
    assert not undescribed


def test_help_names_every_command_and_every_global_option(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in (*COMMANDS, "--version", "--debug", "--quiet", "--verbose", "--install-completion"):
        assert name in out
    assert run([]) == 2
    assert capsys.readouterr().out == out


def test_help_and_version_load_nothing_that_takes_time():
    code = (
        "import sys; from safetykit_analytics.cli import run; run(['poll', '--help']); run(['--version']);"
        "heavy = ('pandas', 'pyarrow', 'numpy', 'matplotlib', 'scipy', 'statsmodels', 'aiohttp', 'httpx');"
        "heavy += ('jinja2', 'uvicorn', 'tqdm', 'rich', 'fsspec');"
        "print([name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-2:] == [f"safetykit-analytics {safetykit_analytics.__version__}", "[]"]


def test_no_option_takes_the_key():
    from safetykit_analytics.cli.app import app

    for command in app.registered_commands:
        parameters = inspect.signature(command.callback).parameters
        assert "api_key" not in parameters, command.callback


def test_a_pipe_gets_text_and_nothing_moves(simulated, tmp_path):
    ids = simulated.created()
    shown = on_pipe("poll", "--clock", "server", *ids, **env(simulated))
    assert shown.returncode == 0
    assert shown.stdout.count("\n") == 1
    assert shown.stderr == ""
    shown = on_pipe("rates", "--freq", "1D")
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert ESCAPE not in shown.stdout
    assert "\r" not in shown.stdout


def test_a_terminal_gets_progress_and_bold_headings_unless_it_says_no_color(simulated, tmp_path):
    ids = simulated.created()
    code, shown = on_terminal("poll", "--clock", "server", *ids, **env(simulated))
    assert code == 0
    assert "100%" in shown
    assert f"answered {len(ids)}" in shown
    code, shown = on_terminal("rates", "--freq", "1D")
    assert code == 0
    assert shown.startswith(f"{ESCAPE}1mbucket")
    code, plain = on_terminal("rates", "--freq", "1D", NO_COLOR="1")
    assert code == 0
    assert ESCAPE not in plain
    assert plain == shown.replace(f"{ESCAPE}1m", "").replace(f"{ESCAPE}0m", "")


def test_quiet_stands_anywhere_and_silences_all_but_results(simulated, tmp_path):
    ids = simulated.created()[:20]
    for arguments in (["--quiet", "poll", *ids], ["poll", "-q", *ids, "--again"]):
        code, shown = on_terminal(*arguments, **env(simulated))
        assert code == 0
        assert not shown
    code, shown = on_terminal("-q", "poll", "--json", *ids, "--again", **env(simulated))
    assert code == 0
    assert '"asked": 20' in shown


def test_what_stands_behind_two_dashes_is_an_id(simulated, capsys):
    assert run(["poll", "--", "--quiet"]) == 4
    assert "--quiet: http_status" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(simulated, capsys, monkeypatch):
    assert on_pipe("poll", "--clock", "server", *simulated.created()[:20], **env(simulated)).returncode == 0
    with unread_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert (run(["rates", "--freq", "1h"]), capsys.readouterr().err) == (0, "")
    # Python may add nothing when it ends.
    with unread_pipe() as pipe:
        shown = with_stdout(pipe, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")


@contextlib.contextmanager
def unread_pipe():
    read, write = os.pipe()
    os.close(read)
    pipe = open(write, "w")  # noqa: SIM115 -- it is closed below
    yield pipe
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def with_stdout(file, *args):
    """Run in a process of its own that prints to a file."""
    return subprocess.run(
        [*COMMAND, *args], env=environment(), stdout=file, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize(
    "closed", [">&-", *(pytest.param(more, marks=pytest.mark.heavy) for more in ("<&- 2>&-", "<&- >&- 2>&-"))]
)
def test_a_closed_stream_keeps_nothing_from_being_polled(closed, simulated, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text("\n".join(simulated.created()[:20]))
    shown = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, "poll", "--ids", str(ids)],
        cwd=tmp_path,
        env=environment(**env(simulated)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What was to be printed is lost, and that is said where it can be.
    lost = ">&-" in closed.split()
    said = "error: cannot write to stdout: Bad file descriptor\n" if closed == ">&-" else ""
    assert (shown.returncode, shown.stderr) == (int(lost), said)
    assert shown.stdout.startswith("asked 20") is not lost
    assert on_pipe("verify").stdout == "all is well: nothing is damaged\n"
    assert len(safetykit_analytics.SnapshotStore(tmp_path / "snapshots").read()) == 20


FULL = "error: cannot write to stdout: No space left on device\n"


def test_a_full_stdout_is_an_error_in_one_line(simulated, capsys, monkeypatch):
    assert on_pipe("poll", "--clock", "server", *simulated.created()[:20], **env(simulated)).returncode == 0
    for command in ("rates", "rates --csv -", "metrics"):
        with open("/dev/full", "w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert (run(command.split()), capsys.readouterr().err) == (1, FULL)
    with open("/dev/full", "w") as full:
        shown = with_stdout(full, "--help")
    assert (shown.returncode, shown.stderr) == (1, FULL)


def test_help_tells_every_exit_code(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert re.search(rf"^\s+{code}\s+\w", out, re.MULTILINE)


def test_a_closed_stdin_holds_no_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = on_pipe("poll", "--ids", "-", stdin=None, SAFETYKIT_API_KEY=KEY)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "nothing to ask for in snapshots\n", "")


def test_shells_complete_commands(tmp_path):
    shown = as_process(
        cwd=tmp_path,
        _SAFETYKIT_ANALYTICS_COMPLETE="complete_bash",
        COMP_WORDS="safetykit-analytics co",
        COMP_CWORD="1",
    )
    assert shown.stdout.split() == ["completion", "compare", "compact"]


def test_warnings_are_one_line_each(capsys, monkeypatch):
    import warnings

    monkeypatch.setattr(
        "safetykit_analytics.cli.options.open_store",
        lambda path, loudness: warnings.warn("odd\nthings", stacklevel=1),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(["compact"])
        assert capsys.readouterr().err.splitlines()[0] == "warning: odd\\nthings"
        run(["compact", "--quiet"])
        assert "warning" not in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line_with_the_way_out(simulated, tmp_path, capsys):
    port = simulated.url.rpartition(":")[2]
    ids = tmp_path / "ids.txt"
    ids.write_text("those of the one that has the port\n")
    assert run(["simulate", "--port", port, "--write-ids", str(ids)]) == 1
    assert ids.read_text() == "those of the one that has the port\n"
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert err.endswith("; port 0 takes a free one\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_a_command_whose_extra_is_not_installed_says_how_to_install_it(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "safetykit_analytics.simulator.server", raising=False)
    assert run([command]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: uvicorn is not installed: pip install 'safetykit-analytics[demo]'\n"
    assert list(tmp_path.iterdir()) == []
