"""Fixtures for this stage."""

import pytest

from safetykit_analytics.fetch import pacing


@pytest.fixture
def no_waiting(monkeypatch):
    """Retries follow at once: for promises about how many there are, not about when."""
    monkeypatch.setattr(pacing, "backoff_s", lambda _: 0.001)
    monkeypatch.setattr(pacing, "jitter_s", lambda _: 0.0)
