"""``safetykit-analytics``: arguments, environment and printing; everything else is a function of the library.

Place in the flow: on top of everything. Modules here import nothing heavy, so that ``--help`` answers at
once: the library's names load when a command uses them.
"""

from safetykit_analytics.cli.app import main, run
from safetykit_analytics.cli.demo import run_demo

__all__ = ["main", "run", "run_demo"]
