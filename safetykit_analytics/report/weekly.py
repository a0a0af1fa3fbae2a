"""One week's report, and the ways to show and write it."""

from __future__ import annotations

import email.policy
import errno
import functools
import html
import json
import os
import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from safetykit_analytics import __version__
from safetykit_analytics.atomic_files import atomic_write
from safetykit_analytics.calendar import zone
from safetykit_analytics.json_tables import json_value, records
from safetykit_analytics.rates import check_observations, data_quality, parse_as_of
from safetykit_analytics.report.document import plain, readable
from safetykit_analytics.report.facts import Facts, gather_facts
from safetykit_analytics.report.headlines import headlines
from safetykit_analytics.report.messages import short_markdown, slack_message, write_mail
from safetykit_analytics.report.reading import read_week
from safetykit_analytics.report.rendering import render_csv, render_html, render_markdown
from safetykit_analytics.report.sections import METHODS, compose
from safetykit_analytics.spreadsheet import workbook

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from email.message import EmailMessage

    from safetykit_analytics.report.document import Document


def weekly_report(
    observations: Any,
    *,
    week: str | None = None,
    tz: str = "UTC",
    as_of: dt.datetime | dt.date | str | None = None,
) -> WeeklyReport:
    """Report on one ISO week: changes, stuck batches, the quality of the data, and the numbers behind them.

    Parameters
    ----------
    observations : DataFrame or SnapshotStore
        Columns of `OBSERVATION_SCHEMA`. Of a store each cohort up to the week's end is read, those that the
        week and the week before depend on twice.
    week : str, optional
        Such as ``"2026-W47"``. Default: the last week that was over by `as_of`. A week that is not over is
        compared with the same hours of the week before; one without observations gives a report that says so.
    tz : str
        IANA zone of the calendar.
    as_of : aware datetime, date or str, optional
        Later observations are ignored as if never made. Default: the last observation.

    Returns
    -------
    WeeklyReport
        The same observations and `as_of` give the same bytes in every format.

    Raises
    ------
    ValueError
        No such week; `as_of` without a time zone; neither `week` nor `as_of` nor any observation to
        take it from.
    UnknownName
        No such time zone (also ValueError).
    InvalidFrame
        The DataFrame does not hold observations (also ValueError).

    Examples
    --------
    >>> import pandas as pd
    >>> import safetykit_analytics as ska
    >>> created = pd.date_range("2026-11-09", periods=14, freq="D", tz="UTC")
    >>> batches = pd.DataFrame({
    ...     "batch_id": [f"batch_{number}" for number in range(14)], "created_at": created,
    ...     "observed_at": created + pd.Timedelta("1h"), "batch_status": "SUCCESS", "batch_count": 1000,
    ...     "success_count": [980, 970] * 7, "error_count": [20, 30] * 7, "cancelled_count": 0,
    ...     "pending_count": 0, "policy_id": "spam", "policy_version": "v7", "has_download": True,
    ...     "is_terminal": True,
    ... })
    >>> report = ska.weekly_report(batches, week="2026-W47", as_of=pd.Timestamp("2026-11-23T08:00Z"))
    >>> report.to_dict()["totals"][0]["processed"]
    7000.0
    >>> report.save("report.html")
    """
    until = parse_as_of(as_of, zone(tz))
    check_observations(observations)
    reading = read_week(observations, week=week, tz=tz, as_of=until)
    # A selection holds one observation per key; that a frame held more is worth telling.
    checked = observations if isinstance(observations, pd.DataFrame) else reading.selection
    findings = data_quality(checked, as_of=reading.week.as_of)
    return WeeklyReport(gather_facts(reading, findings, store=getattr(observations, "name", None)))


#: Changes when a key or a column is renamed, removed, or means something else; new ones do not change it.
SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class WeeklyReport:
    """What `weekly_report` returns; a notebook shows it as the page itself.

    Attributes
    ----------
    facts : Facts
        Every number, before any formatting.

    Examples
    --------
    A store that is empty gives a report as well, which says so:

    >>> import safetykit_analytics as ska
    >>> report = ska.weekly_report(ska.SnapshotStore("snapshots"), week="2026-W47", as_of="2026-11-23")
    >>> print(report.to_markdown().splitlines()[0])
    # SafetyKit weekly report 2026-W47
    """

    facts: Facts

    @functools.cached_property
    def _document(self) -> Document:
        # Drawing needs matplotlib, which the other formats can do without.
        from safetykit_analytics.report.figures import draw_figures  # noqa: PLC0415

        return compose(self.facts, draw_figures(self.facts))

    def to_html(self) -> str:
        """Return the page: one HTML document that needs nothing else, runs no script and asks for nothing.

        Returns
        -------
        str
            For screens from 400 px and for A4, in light and in dark.
        """
        return render_html(self._document)

    def to_markdown(self, *, short: bool = False) -> str:
        """Return the words and tables as Markdown, for wikis, or the short form of it, for chats.

        Parameters
        ----------
        short : bool
            The headlines and the key numbers alone: at most 2,900 characters whatever the fleet, without
            tables and HTML entities.

        Returns
        -------
        str
            Names from the data are escaped and cannot become markup. Pictures are left to the page.
        """
        document = compose(self.facts, {})
        return short_markdown(document) if short else render_markdown(document)

    def to_email(self) -> EmailMessage:
        """Return an e-mail with the headlines, the key numbers and a few pictures.

        .. versionadded:: 0.2.0

        Returns
        -------
        email.message.EmailMessage
            A text part, a short HTML body with PNG pictures inside, and the page as an attachment if it has
            at most 5 MB. The subject names the week and nothing from the data. Set ``From`` and ``To``, then
            send it, as with ``smtplib.SMTP.send_message``.
        """
        from safetykit_analytics.report.figures import draw_for_mail  # noqa: PLC0415 -- needs matplotlib

        return write_mail(self._document, draw_for_mail(self.facts), self.to_html(), week=self.facts.week)

    def to_slack(self) -> dict[str, Any]:
        """Return the headlines and the key numbers as a Slack message in Block Kit.

        .. versionadded:: 0.2.0

        Returns
        -------
        dict
            ``text`` and ``blocks``, within Slack's limits: the JSON body for an incoming webhook, or keyword
            arguments of ``chat.postMessage``. No name in it mentions or links.
        """
        return slack_message(compose(self.facts, {}))

    def to_dict(self) -> dict[str, Any]:
        """Return all facts as values that JSON has, for other tools.

        Returns
        -------
        dict
            ``schema_version`` says which keys there are and changes when they do. Instants are ISO 8601
            in UTC, rates are fractions, missing values are None; names are unchanged.
        """
        facts = self.facts
        tables: dict[str, Any] = {name: records(_in_utc(table)) for name, table in _tables(facts).items()}
        tables["backlog"] = {"now": tables.pop("open"), "over_time": tables["backlog"]}
        del tables["trend"]
        about = ("week", "previous_week", "tz", "start", "end", "as_of", "partial", "elapsed_hours")
        return {
            "schema_version": SCHEMA_VERSION,
            "library_version": __version__,
            **{name: json_value(getattr(facts, name)) for name in about},
            "headlines": [plain(sentence) for sentence in headlines(facts)],
            **tables,
            "methods": list(METHODS),
        }

    def to_csv(self, folder: str | os.PathLike[str], *, encoding: str = "utf-8") -> None:
        """Write every table as a CSV file, private to the user: ``totals.csv``, ``change.csv`` and so on.

        Parameters
        ----------
        folder : path
            Made if it is not there. Files of the same names are replaced.
        encoding : {"utf-8", "utf-8-sig"}
            Excel needs ``"utf-8-sig"`` to read letters beyond ASCII.

        Raises
        ------
        NotADirectoryError
            There is a file of that name.
        ValueError
            Another encoding.

        Notes
        -----
        Text that a spreadsheet would take for a formula gets a leading apostrophe.
        """
        if encoding not in {"utf-8", "utf-8-sig"}:
            raise ValueError(f"unknown encoding: {encoding!r}; expected 'utf-8' or 'utf-8-sig'")
        target = pathlib.Path(folder)
        if target.is_file():
            raise NotADirectoryError(
                errno.ENOTDIR, "expected a folder for the tables, found a file", str(target)
            )
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, table in _tables(self.facts).items():
            rows = table.astype(object).where(table.notna(), None).itertuples(index=False, name=None)
            _write(target / f"{name}.csv", render_csv(table.columns, rows).encode(encoding))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report whole or not at all, private to the user.

        Parameters
        ----------
        path : path
            Its suffix says what to write: ``.html``, ``.md``, ``.json``, ``.eml`` (the e-mail of `to_email`)
            or ``.xlsx`` (every table as a sheet of a workbook, instants in UTC; needs the extra ``excel``). A
            file that is there is replaced.

        Raises
        ------
        ValueError
            Another suffix.
        ModuleNotFoundError
            openpyxl is needed for ``.xlsx`` and not installed.
        OSError
            It cannot be written there: no such folder, or a folder of that name.
        """
        target = pathlib.Path(path)
        writers: dict[str, Callable[[], bytes]] = {
            ".html": lambda: self.to_html().encode(),
            ".md": lambda: self.to_markdown().encode(),
            ".json": self._json,
            ".eml": lambda: self.to_email().as_bytes(policy=email.policy.SMTP),
            ".xlsx": self._workbook,
        }
        if (suffix := target.suffix.lower()) not in writers:
            *most, last = writers
            raise ValueError(f"cannot save a report as {target.name!r}: expected {', '.join(most)} or {last}")
        _write(target, writers[suffix]())

    def _json(self) -> bytes:
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
        return text.encode()

    def _workbook(self) -> bytes:
        document = compose(self.facts, {})
        about = [
            document.title,
            document.subtitle,
            "",
            *map(readable, (*document.warnings, *document.headlines)),
            "",
            "Instants are in UTC. Rates, shares and differences of rates are shown in percent; columns that "
            "end in _h are in hours.",
            "",
            *document.methods,
        ]
        return workbook(_tables(self.facts), about=about)

    def _repr_html_(self) -> str:
        """Return the page inside a frame, which keeps its style apart from the notebook's."""
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox title="SafetyKit weekly report {self.facts.week}" '
            f'width="100%" height="900" style="border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        """Return the week and the three headlines."""
        lines = [
            f"WeeklyReport {self.facts.week} ({self.facts.tz}), as of {self.facts.as_of:%Y-%m-%d %H:%M} UTC"
        ]
        return "\n".join([*lines, *(f"  - {headline}" for headline in self.to_dict()["headlines"])])


def _tables(facts: Facts) -> dict[str, pd.DataFrame]:
    """Return every table of a report by name, in the order of the page."""
    return {
        "totals": facts.totals,
        "previous": facts.previous,
        "change": facts.change,
        "versions": facts.versions,
        "trend": facts.trend,
        "comparisons": facts.comparison.table,
        "rollouts": facts.rollouts,
        "control_chart": facts.control,
        "backlog": facts.backlog,
        "open": facts.open,
        "stalled": facts.stalled,
        "failures": facts.failures,
        "data_quality": facts.data_quality,
    }


def _in_utc(table: pd.DataFrame) -> pd.DataFrame:
    instants = table.select_dtypes("datetimetz")
    return table.assign(**{name: instants[name].dt.tz_convert("UTC") for name in instants})


def _write(target: pathlib.Path, content: bytes) -> None:
    """Write a file that its owner alone may read."""
    with atomic_write(target) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
