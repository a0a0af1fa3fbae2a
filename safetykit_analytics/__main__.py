"""``python -m safetykit_analytics``: the same command as ``safetykit-analytics``."""

from safetykit_analytics.cli import main

main()
