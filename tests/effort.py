"""How many examples a property is tried on: a few every day, all of them with SKA_EFFORT=1."""

import os

from hypothesis import HealthCheck, settings

EFFORT = float(os.environ.get("SKA_EFFORT", "0.1"))
# What is tried every day on a machine that many share must be the same for all of them.
_IS_CI = "CI" in os.environ


def examples(most: int, *suppressed: HealthCheck) -> settings:
    """At most so many examples at full effort; no example may fail because the machine is busy."""
    count = max(5, round(most * EFFORT))
    return settings(max_examples=count, deadline=None, suppress_health_check=suppressed)


def load_profile() -> None:
    """For properties that do not say how many."""
    settings.register_profile(
        "effort", max_examples=max(5, round(100 * EFFORT)), deadline=None, derandomize=_IS_CI, print_blob=True
    )
    settings.load_profile("effort")
