"""What every test may use."""

import json
import pathlib

import matplotlib as mpl
import pytest

# No test may need a screen, whatever the machine offers.
mpl.use("Agg")

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def reference_cases() -> dict:
    """Published values, by name."""
    return json.loads((HERE / "reference_cases.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="session")
def documented_example() -> bytes:
    """The body that the API's documentation shows, byte for byte."""
    return (HERE / "documented_example.json").read_bytes()
