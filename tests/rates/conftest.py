"""Published and constructed values, by name."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """Look up a case of tests/reference_cases.json."""
    path = pathlib.Path(__file__).parents[1] / "reference_cases.json"
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return lambda name: cases[name]
