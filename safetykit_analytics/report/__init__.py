"""The week's page for a trust-and-safety lead: HTML, Markdown, JSON and CSV from the same facts.

Place in the flow: rates, compare, plots → **report** → a file, a notebook, the command. Three steps:
`facts` computes (pure), `figures` draws, `rendering` writes.
"""

from safetykit_analytics.report.weekly import WeeklyReport, weekly_report

__all__ = ["WeeklyReport", "weekly_report"]
