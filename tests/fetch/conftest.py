"""Fixtures for this stage."""

import pytest
import stamina


@pytest.fixture
def no_waiting():
    """Retries follow at once: for promises about how many there are, not about when."""
    stamina.set_testing(True, attempts=1000)
    yield
    stamina.set_testing(False)
