"""The week's page for a trust-and-safety lead: HTML, Markdown, JSON and CSV from the same facts."""

from safetykit_analytics.report.weekly import WeeklyReport, weekly_report

__all__ = ["WeeklyReport", "weekly_report"]
