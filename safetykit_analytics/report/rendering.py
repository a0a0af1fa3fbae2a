"""Document → HTML and Markdown; table → CSV text."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from typing import TYPE_CHECKING

import jinja2
import markupsafe

from safetykit_analytics.formatting import csv_cell, in_markdown, visible
from safetykit_analytics.report.document import Code, Name, markdown_code, plain, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from safetykit_analytics.report.document import Cell, Document, Picture, Sentence

_CODE, _NAME = markupsafe.Markup("<code>{}</code>"), markupsafe.Markup("<bdi>{}</bdi>")
_LOADER = jinja2.PackageLoader("safetykit_analytics", "report/templates")


def render_html(document: Document) -> str:
    """Return a document as one HTML page that needs nothing else and runs nothing.

    Its content security policy allows its own style sheet, by its hash, and pictures from data URIs.
    """
    environment = _html_environment()
    css = (_LOADER.get_source(environment, "report.css")[0]).strip()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        document=document,
        css=markupsafe.Markup(css),  # noqa: S704 -- a file of this package
        style_hash=digest,
    )


def render_mail(document: Document, pictures: Sequence[Picture], rest: str) -> str:
    """Return the head of a document as the short HTML body of an e-mail.

    Styles stand at each element, as mail programs drop style sheets; no script, no SVG, no data URI. `rest`
    says where the rest of the report is.
    """
    template = _html_environment().get_template("mail.html.j2")
    return template.render(document=document, pictures=pictures, rest=rest)


def render_markdown(document: Document) -> str:
    """Return a document as Markdown: its words and tables, without pictures.

    Names stand in code spans, in which Markdown reads nothing. All other words are escaped.
    """
    environment = _environment(
        autoescape=False,
        cell=_markdown_cell,
        sentence=lambda sentence: written(sentence, in_markdown, markdown_code),
        words=in_markdown,
        whole=lambda name: markdown_code(name.visible),
    )
    return environment.get_template("report.md.j2").render(document=document)


def render_csv(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table as CSV in which no cell is a formula; missing values are empty."""
    text = io.StringIO(newline="")
    # With the line ends of RFC 4180: before Python 3.13 the writer quotes only its own line ends.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _html_environment() -> jinja2.Environment:
    return _environment(
        autoescape=True,
        cell=_html_part,
        sentence=_html_sentence,
        words=_html_words,
        # For an attribute, where there is no markup.
        alternative=lambda sentence: visible(plain(sentence)),
    )


def _environment(*, autoescape: bool, **filters: Callable[..., str]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=_LOADER,
        autoescape=autoescape,  # noqa: S701 -- off for Markdown alone, for which the filters escape
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment


def _html_part(part: str | Name | Code) -> markupsafe.Markup:
    if isinstance(part, str):
        return _html_words(part)
    return (_CODE if isinstance(part, Code) else _NAME).format(part.short)


def _html_words(text: str) -> markupsafe.Markup:
    # A number and its unit stay on one line.
    return markupsafe.escape(re.sub(r"(?<=\d) (?=(%|pp|h|min|days)\b|%)", "\u00a0", visible(text)))


def _html_sentence(sentence: Sentence) -> markupsafe.Markup:
    return markupsafe.Markup("").join(map(_html_part, sentence))


def _markdown_cell(cell: Cell) -> str:
    return markdown_code(cell.short, in_table=True) if isinstance(cell, Name) else in_markdown(cell)
