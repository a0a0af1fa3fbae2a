"""Many processes at one store, and processes that are killed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCALE = float(os.environ.get("SKA_HEAVY", "1.0"))


def run(what, folder, n):
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.processes", what, str(folder), str(n)],
        cwd=ROOT, capture_output=True, text=True, timeout=1700, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    return done.stdout


def check_kills(folder, n):
    text = run("kill", folder, n)
    assert "0 lost, 0 twice, 0 damaged" in text
    assert int(text.split()[2]) > n / 2  # writers got that far


def check_appends(folder, n):
    text = run("append", folder, n)
    assert f"{8 * n} appends acknowledged" in text
    assert "0 lost, 0 twice, 0 damaged" in text


def check_reads(folder, n):
    text = run("read", folder, n)
    assert int(text.split()[0]) >= n
    assert "0 missing, 0 twice, 0 before they were begun" in text


def test_a_few_kills_lose_nothing_that_was_acknowledged(tmp_path):
    check_kills(tmp_path / "store", 4)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_thousand_kills_lose_nothing_that_was_acknowledged(tmp_path):
    check_kills(tmp_path / "store", round(1000 * SCALE))


def test_eight_processes_append_at_once(tmp_path):
    check_appends(tmp_path / "store", 2)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_eight_processes_append_five_hundred_times_each(tmp_path):
    check_appends(tmp_path / "store", round(500 * SCALE))


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_ten_thousand_reads_beside_writers_and_a_compactor_see_every_key_once(tmp_path):
    check_reads(tmp_path / "store", round(10_000 * SCALE))
