"""A SafetyKit that runs on this machine: a fleet of batches, and the HTTP in front of it.

Examples
--------
>>> import datetime as dt
>>> from safetykit_analytics.simulator import make_fleet
>>> fleet = make_fleet(seed=1, batches=100, weeks=1)
>>> fleet.created_by(fleet.end)
100
"""

from typing import TYPE_CHECKING, Any

from safetykit_analytics.simulator.app import AsgiApp, Faults, batch_body, parse_faults, simulator_app
from safetykit_analytics.simulator.fleet import (
    POLICIES,
    STATUSES,
    BatchCounts,
    Fleet,
    Policy,
    Version,
    make_fleet,
    to_ms,
)

if TYPE_CHECKING:
    from safetykit_analytics.simulator.server import serve

__all__ = [
    "POLICIES",
    "STATUSES",
    "AsgiApp",
    "BatchCounts",
    "Faults",
    "Fleet",
    "Policy",
    "Version",
    "batch_body",
    "make_fleet",
    "parse_faults",
    "serve",
    "simulator_app",
    "to_ms",
]


def __getattr__(name: str) -> Any:
    """Load the server when it is asked for: the model needs no uvicorn."""
    if name == "serve":
        try:
            from safetykit_analytics.simulator.server import serve  # noqa: PLC0415 -- needs the extra [demo]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error.name} is not installed: pip install 'safetykit-analytics[demo]'"
            ) from error
        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
