"""One browser and one everyday report for all tests of this folder."""

import os
import pathlib

import pytest

from safetykit_analytics.report import weekly_report
from safetykit_analytics.simulator.fleet import POLICIES
from tests.report.browser import EXECUTABLE, Browser
from tests.report.helpers import WEEK, fleet_frame
from tests.report.hostile import hostile_frame


@pytest.fixture(scope="session")
def fleet():
    return fleet_frame(batches=950, policies=(*POLICIES[:2], POLICIES[4]))


@pytest.fixture(scope="session")
def report(fleet):
    return weekly_report(fleet, week=WEEK, tz="Europe/Berlin")


@pytest.fixture(scope="session")
def hostile():
    return weekly_report(hostile_frame(), week=WEEK)


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if EXECUTABLE is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def axe():
    """axe-core's own source, from where the environment says it is; it is nobody's to copy in here."""
    path = os.environ.get("SKA_AXE")
    if not path:
        pytest.skip("SKA_AXE does not name a copy of axe.min.js: npm pack axe-core")
    return pathlib.Path(path).read_text(encoding="utf-8")
