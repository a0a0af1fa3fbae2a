"""The recipes hold: their commands run, and their files are what those who read them accept."""

import configparser
import datetime as dt
import fnmatch
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import httpx
import pytest

import safetykit_analytics as ska
from safetykit_analytics.cli import run
from tests.cli.conftest import KEY
from tests.cli.helpers import environment
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
def test_the_webhook_gets_new_findings_once_and_nothing_when_there_are_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ska.SnapshotStore("snapshots").append(batch("stuck", (10, 1, 0), (9, 3, 0), (0.5, 3, 0)))
    script = block("sh", "SLACK_WEBHOOK_URL")
    words = shlex.split(re.search(r"\$\(safetykit-analytics (.*?)\)", script)[1])
    (tmp_path / "curl").write_text("#!/bin/sh\ncat >> sent.json\n")
    (tmp_path / "safetykit-analytics").write_text("#!/bin/sh\ncat printed\n")
    for name in ("curl", "safetykit-analytics"):
        (tmp_path / name).chmod(0o755)
    env = environment(SLACK_WEBHOOK_URL="http://127.0.0.1:9/x")
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    for code in (5, 0):
        assert run(words) == code
        (tmp_path / "printed").write_text(capsys.readouterr().out)
        subprocess.run(["sh", "-c", script], env=env, check=True)
    sent = json.loads((tmp_path / "sent.json").read_text())
    assert "stuck (spam v1): " in sent["text"]


def units(tmp_path):
    """The units of the page, by name; what is installed elsewhere is in a folder of the test."""
    found = re.findall(
        r"^`/etc/systemd/system/([^`]+)`[^\n]*:\n\n```ini\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    return {name: re.sub(r"/(srv|etc)/safetykit/", f"{tmp_path}/", text) for name, text in found}


def parsed(unit):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(unit)
    return parser


def test_the_service_of_the_timer_polls_and_its_failure_has_a_unit(simulated, tmp_path, monkeypatch, capsys):
    found = units(tmp_path)
    assert set(found) == {"safetykit-poll.service", "safetykit-poll.timer", "mail-to-root@.service"}
    service = parsed(found["safetykit-poll.service"])
    assert service["Unit"]["OnFailure"] == "mail-to-root@%n.service"
    assert "OnCalendar" in parsed(found["safetykit-poll.timer"])["Timer"]
    name, credential = service["Service"]["LoadCredential"].split(":")
    (tmp_path / "ids.txt").write_text("\n".join(simulated.created()[:20]))
    pathlib.Path(credential).write_text(KEY)
    pathlib.Path(credential).chmod(0o600)
    monkeypatch.setenv(*service["Service"]["Environment"].split("="))
    monkeypatch.delenv("SAFETYKIT_API_KEY")
    program, *words = shlex.split(service["Service"]["ExecStart"].replace(f"%d/{name}", credential))
    assert program.endswith("/safetykit-analytics")
    assert run([*words, "--clock", "server"]) == 0
    assert capsys.readouterr() == ("", "")
    (tmp_path / "ids.txt").write_text("\n".join([*simulated.created()[20:22], "of-nobody"]))
    assert run([*words, "--clock", "server"]) == int(service["Service"]["SuccessExitStatus"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path):
    files = []
    for name, text in units(tmp_path).items():
        # A unit may only start what is there.
        (tmp_path / name).write_text(re.sub(r"/opt/\S+", sys.executable, text))
        files.append(tmp_path / name)
    shown = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")


LOGROTATE = shutil.which("logrotate", path="/usr/sbin:/sbin:/usr/bin")


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed")
def test_a_log_is_rotated_while_it_is_written_to(tmp_path):
    log, rules = tmp_path / "poll.log", tmp_path / "rules"
    rules.write_text(block("text", "copytruncate").replace("/var/log/safetykit", str(tmp_path)))
    rules.chmod(0o644)
    with log.open("a") as written:
        written.write("before\n")
        written.flush()
        command = [LOGROTATE, "--force", "--state", tmp_path / "state", rules]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (shown.returncode, shown.stderr) == (0, "")
        written.write("after\n")
    assert log.read_text() == "after\n"
    assert (tmp_path / "poll.log.1.gz").exists()


def test_the_policy_for_s3_is_enough_to_poll_for_days_and_readers_need_no_more_than_to_read(
    simulated, s3_bucket, s3_endpoint, monkeypatch, capsys
):
    import boto3
    import s3fs

    bucket = s3_bucket.removeprefix("s3://")
    policy = json.loads(block("json", "s3:ListBucket").replace("our-bucket", bucket))
    # The server does not know conditions on prefixes.
    prefixes = policy["Statement"][0].pop("Condition")["StringLike"]["s3:prefix"]
    real = s3fs.S3FileSystem._call_s3

    def conditional(self, method, *args, **kwargs):
        listed = kwargs.get("Prefix", "") if method.startswith("list_objects") else prefixes[0]
        if not any(fnmatch.fnmatchcase(listed, pattern) for pattern in prefixes):
            raise PermissionError(f"Access Denied: {method} {listed!r}")
        return real(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", conditional)
    iam = boto3.client("iam", endpoint_url=s3_endpoint, region_name="us-east-1")
    user = bucket

    def grant():
        check_rights("inf")
        iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=json.dumps(policy))
        check_rights("0")
        s3fs.S3FileSystem.clear_instance_cache()

    def check_rights(after):
        httpx.post(f"{s3_endpoint}/moto-api/reset-auth", content=after).raise_for_status()

    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.setenv("SAFETYKIT_STORE", f"{s3_bucket}/snapshots")
    try:
        grant()
        for _ in range(2):
            assert run(["poll", *simulated.created()[:5], "--again", "--clock", "server", "--quiet"]) == 0
            simulated.now += dt.timedelta(days=1)
        assert run(["compact", "--quiet"]) == 0
        policy["Statement"][1]["Action"] = ["s3:GetObject"]
        grant()
        assert run(["rates", "--freq", "1D", "--csv", "rates.csv", "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")
        assert run(["poll", *simulated.created()[:5], "--again", "--clock", "server", "--quiet"]) == 1
        assert capsys.readouterr().err == f"error: cannot append to {s3_bucket}/snapshots: Access Denied\n"
    finally:
        check_rights("inf")
