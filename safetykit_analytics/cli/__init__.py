"""``safetykit-analytics``: arguments, environment, printing; all else is a function of the library."""

from safetykit_analytics.cli.app import main, run
from safetykit_analytics.cli.demo import run_demo

__all__ = ["main", "run", "run_demo"]
