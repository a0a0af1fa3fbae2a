"""Prometheus itself reads what we write."""

import functools
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pandas as pd
import pytest

import safetykit_analytics as ska
from safetykit_analytics.health import text_metrics
from tests.health.helpers import NOW, batch, ended, frame
from tests.health.test_metrics import HOSTILE

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt-get install prometheus)",
)


@needs_promtool
def test_promtool_finds_nothing_to_say_about_hostile_names():
    observations = frame(
        batch("open", (4, 0, 0), (2, 700, 9), version="v2"),
        *(ended(f"b{i}", i + 1, 3, policy=name, version=name[::-1]) for i, name in enumerate(HOSTILE)),
    )
    for text in (text_metrics(observations, as_of=NOW), text_metrics(observations.iloc[:0], as_of=NOW)):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.fixture
def scraped(tmp_path):
    """Start Prometheus on a folder that an HTTP server serves; yield it and a function that queries."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(metrics))
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "200ms"},
                "scrape_configs": [
                    {
                        "job_name": "safetykit",
                        "metrics_path": "/safetykit.txt",
                        "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}],
                    }
                ],
            }
        )
    )
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def query(expression):
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []

    yield metrics, query
    process.terminate()
    process.wait(timeout=30)
    server.shutdown()
    server.server_close()


def until(condition, timeout_s=60):
    """Ask again until there is an answer."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("nothing came within the time")


@pytest.mark.heavy
@needs_prometheus
def test_prometheus_scrapes_the_file_and_its_increase_is_our_sum(scraped):
    metrics, query = scraped
    hours = range(11)
    steady = batch("steady", *[(10 - hour, 95 * hour, 5 * hour) for hour in hours], size=2000, created=10)

    def publish(as_of):
        temporary = metrics / "new"
        temporary.write_text(text_metrics(steady, as_of=as_of))
        temporary.rename(metrics / "safetykit.txt")

    # Ten hours of a steady fleet, a scrape or more for each.
    success = 'safetykit_decisions_total{outcome="success",policy_id="spam",policy_version="v1"}'
    for hour in hours:
        publish(NOW - pd.Timedelta(hours=10 - hour))
        want = str(95 * hour)
        until(lambda: [one for one in query(success) if one["value"][1] == want])  # noqa: B023 -- run at once
    seen = query(f"{success}[10m]")[0]["values"]
    increase = float(seen[-1][1]) - float(seen[0][1])
    assert increase == ska.rates(steady, by=(), freq="1D")["success"].sum()
    # increase() extrapolates to the ends of its range by at most 1.1 intervals on each side.
    span = float(seen[-1][0]) - float(seen[0][0])
    told = float(query(f"increase({success}[{span + 2:.0f}s])")[0]["value"][1])
    assert told == pytest.approx(increase, rel=2.2 / (len(seen) - 1))
    labels = {one["metric"]["outcome"] for one in query("safetykit_decisions_total")}
    assert labels == {"success", "error", "cancelled"}
