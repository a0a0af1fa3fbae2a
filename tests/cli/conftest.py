"""A simulated SafetyKit whose time the tests set."""

import datetime as dt
import uuid

import fsspec
import pytest

from safetykit_analytics.simulator import Faults, make_fleet, serve

KEY = "a-key-of-a-test"


class Simulated:
    """The fleet, its URL, and its time, which stands still unless a test moves it."""

    def __init__(self):
        self.fleet = make_fleet(seed=7, batches=150, weeks=1)
        self.now = self.fleet.start + dt.timedelta(days=2)
        self.requests = 0
        self.on_request = lambda: None

    def clock(self):
        self.requests += 1
        self.on_request()
        return self.now

    def created(self):
        return list(self.fleet.batch_ids[: self.fleet.created_by(self.now)])


@pytest.fixture
def simulated(monkeypatch, tmp_path, request):
    """The simulator on loopback; the environment, and the working folder, are as a user has them."""
    faults = getattr(request, "param", None) or Faults()
    made = Simulated()
    with serve(made.fleet, clock=made.clock, api_key=KEY, faults=faults) as url:
        made.url = url
        monkeypatch.setenv("SAFETYKIT_API_KEY", KEY)
        monkeypatch.setenv("SAFETYKIT_BASE_URL", url)
        monkeypatch.delenv("SAFETYKIT_STORE", raising=False)
        monkeypatch.chdir(tmp_path)
        yield made


@pytest.fixture
def s3_bucket(monkeypatch, s3_endpoint):
    """Return the URL of a new bucket, which the environment gives access to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    name = f"bucket-{uuid.uuid4().hex}"
    fs.mkdir(name)
    type(fs).clear_instance_cache()
    yield f"s3://{name}"
    type(fs).clear_instance_cache()
