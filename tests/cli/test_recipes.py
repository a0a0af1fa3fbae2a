"""The recipes hold: their commands run, and their files are what those who read them accept."""

import json
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from tests.cli.conftest import KEY
from tests.cli.helpers import COMMAND, environment
from tests.health.helpers import batch

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def block(language, containing):
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in found if containing in text)


def test_the_lines_of_the_crontab_run_and_print_nothing_when_all_is_well(simulated, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("\n".join(simulated.created()[:20]))
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "limits.toml").write_text("max_error_rate = 1.0\n")
    lines = [line for line in block("text", "MAILTO").splitlines() if "safetykit-analytics" in line]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)[5:]
        assert words[0] == "safetykit-analytics"
        words = [re.sub(r"^/(srv|etc)/safetykit/", f"{tmp_path}/", word) for word in words[1:]]
        if "check" in words:
            words += ["--as-of", simulated.now.isoformat()]
        elif "poll" in words:
            words += ["--clock", "server"]
        assert run(words) == 0, words
        out, err = capsys.readouterr()
        assert err == ""
        # What a poll prints when it is quiet is tested with the poll.
        assert out == "" or "poll" in words
    assert (tmp_path / "monday.html").stat().st_size > 1000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_accepts_the_alert_rule(tmp_path):
    (tmp_path / "rules.yml").write_text(block("yaml", "SafetyKitNotPolled"))
    checked = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "1 rules found" in checked.stdout


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_webhook_gets_new_findings_once_and_nothing_when_there_are_none(tmp_path):
    ska.SnapshotStore(tmp_path / "snapshots").append(batch("stuck", (10, 1, 0), (9, 3, 0), (0.5, 3, 0)))
    (tmp_path / "curl").write_text("#!/bin/sh\ncat >> sent.json\n")
    (tmp_path / "safetykit-analytics").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    for name in ("curl", "safetykit-analytics"):
        (tmp_path / name).chmod(0o755)
    env = environment(SLACK_WEBHOOK_URL="http://127.0.0.1:9/x")
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    for _ in range(2):
        subprocess.run(["sh", "-c", block("sh", "SLACK_WEBHOOK_URL")], cwd=tmp_path, env=env, check=True)
    sent = json.loads((tmp_path / "sent.json").read_text())
    assert "stuck (spam v1): " in sent["text"]


def test_the_policy_for_s3_is_json_and_lets_nobody_delete():
    policy = json.loads(block("json", "s3:ListBucket"))
    assert "s3:DeleteObject" not in json.dumps(policy)
