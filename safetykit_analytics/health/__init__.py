"""Observations → what an operator must know: findings, the state of a store, metrics for Prometheus."""

from safetykit_analytics.health.check import CheckReport, check, examine, parse_limits, status
from safetykit_analytics.health.metrics import open_metrics, text_metrics

__all__ = ["CheckReport", "check", "examine", "open_metrics", "parse_limits", "status", "text_metrics"]
