"""Document and pictures → messages: an e-mail, short Markdown, Slack's Block Kit."""

from __future__ import annotations

import re
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any

from safetykit_analytics.formatting import shortened, visible
from safetykit_analytics.report.document import cut, markdown_code, readable, written
from safetykit_analytics.report.rendering import render_mail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safetykit_analytics.report.document import Document, Picture, Sentence

#: Larger pages are not attached: many mail servers refuse messages of 10 MB, and base64 adds a third.
LARGEST_PAGE = 5_000_000
# No sentence needs more; the body stays short whatever names there are.
_LONGEST_SENTENCE = 1500


def write_mail(
    document: Document, pictures: Mapping[Picture, bytes], page: str, *, week: str
) -> EmailMessage:
    """Return a report as an e-mail with neither sender nor recipients.

    `pictures` holds PNG files by pictures whose sources are ``cid:`` and a content id. A page beyond
    `LARGEST_PAGE` bytes is not attached. No header or boundary depends on when, where or by whom it is made.
    """
    attached = page.encode()
    fits = len(attached) <= LARGEST_PAGE
    name = f"report-{week}.html"
    rest = (
        f"The whole report is attached as {name}: open it in a browser."
        if fits
        else f"The whole report is too large to attach ({len(attached) / 1e6:.1f} MB): save it as {name}."
    )
    message = EmailMessage()
    # Mail servers and phones' lock screens show subjects: no name from the data is in it.
    message["Subject"] = f"SafetyKit weekly report {week}"
    message.set_content(_text(document, rest), cte="quoted-printable")
    body = render_mail(document, tuple(pictures), rest)
    message.add_alternative(body, subtype="html", cte="quoted-printable")
    _, html = message.iter_parts()
    for number, (picture, png) in enumerate(pictures.items(), 1):
        cid = f"<{picture.source.removeprefix('cid:')}>"
        html.add_related(png, "image", "png", cid=cid, disposition="inline", filename=f"picture-{number}.png")
    if fits:
        message.add_attachment(attached, "text", "html", filename=name, params={"charset": "utf-8"})
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        # Neither quoted-printable nor base64 can hold "=_".
        part.set_boundary(f"=_safetykit_{number}")
    return message


def _text(document: Document, rest: str) -> str:
    headlines = [
        f"{number}. {readable(cut(headline, _LONGEST_SENTENCE))}"
        for number, headline in enumerate(document.headlines, 1)
    ]
    tiles = [f"{tile.label}: {tile.value} ({tile.detail})" for tile in document.tiles]
    warnings = [readable(cut(warning, _LONGEST_SENTENCE)) for warning in document.warnings]
    return (
        "\n\n".join([document.title, document.subtitle, *warnings, *headlines, "\n".join(tiles), rest]) + "\n"
    )


#: Slack and Discord cut or refuse longer messages.
LONGEST_MARKDOWN = 2900
_LONGEST_HEADER, _LONGEST_SECTION, _LONGEST_FIELD = 150, 3000, 2000
# Shown characters of each sentence, tried in turn: escapes make a hostile name longer than it looks.
_LENGTHS = (1200, 600, 300, 150, 75)

_MARKUP = re.compile(r"([\\`*_\[\]|~$@<>&])")
_ENTITY = re.compile(r"&(#?\w+);")


def short_markdown(document: Document) -> str:
    """Return headlines and key numbers as Markdown for a chat: at most `LONGEST_MARKDOWN` characters."""

    def written(longest: int) -> str:
        sentences = [_markdown(cut(headline, longest)) for headline in document.headlines]
        parts = [
            f"**{_escaped(document.title)}**\n{_escaped(document.subtitle)}",
            *(f"> {_markdown(cut(warning, longest))}" for warning in document.warnings),
            "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)),
            "\n".join(
                f"- {_escaped(tile.label)}: **{_escaped(tile.value)}** ({_escaped(tile.detail)})"
                for tile in document.tiles
            ),
        ]
        return "\n\n".join(parts) + "\n"

    return _fitting(written, LONGEST_MARKDOWN)


def slack_message(document: Document) -> dict[str, Any]:
    """Return the headlines and the key numbers as a message of Slack's Block Kit.

    ``text`` is for notifications. Each text is within Slack's limits; names can neither mention nor link.
    """
    first, *_ = document.headlines
    warnings = [_section(("Note: ", *warning)) for warning in document.warnings]
    headlines = [
        _section((f"{number}. ", *headline)) for number, headline in enumerate(document.headlines, 1)
    ]
    fields = [
        _mrkdwn(
            shortened(f"*{_slack_text(tile.label)}*\n{_slack_text(tile.value)}", longest=200)
            + f"\n{_slack_text(tile.detail)}",
            _LONGEST_FIELD,
        )
        for tile in document.tiles
    ]
    context = [_fitting(lambda longest: _slack(cut((document.subtitle,), longest)), _LONGEST_SECTION)]
    title = {"type": "plain_text", "text": shortened(document.title, longest=_LONGEST_HEADER), "emoji": False}
    return {
        "text": _fitting(lambda longest: _slack(cut((f"{document.title}: ", *first), longest)), 3000),
        "blocks": [
            {"type": "header", "text": title},
            {"type": "context", "elements": [_mrkdwn(text, _LONGEST_SECTION) for text in context]},
            *warnings,
            *headlines,
            *([{"type": "section", "fields": fields}] if fields else []),
        ],
    }


def _section(sentence: Sentence) -> dict[str, Any]:
    text = _fitting(lambda longest: _slack(cut(sentence, longest)), _LONGEST_SECTION)
    return {"type": "section", "text": _mrkdwn(text, _LONGEST_SECTION)}


def _mrkdwn(text: str, longest: int) -> dict[str, Any]:
    # verbatim: Slack makes no links of addresses, channels and people in the text.
    return {"type": "mrkdwn", "text": shortened(text, longest=longest), "verbatim": True}


def _fitting(written: Callable[[int], str], most: int) -> str:
    """Return the first text that is short enough."""
    return next((text for text in map(written, _LENGTHS) if len(text) <= most), "")


def _markdown(sentence: Sentence) -> str:
    return written(sentence, _escaped, _markdown_span)


def _markdown_span(shown: str) -> str:
    # Chats show a backslash in a code span: a name that needs one is not in a span.
    needs_escape = set(shown) & set("|`&") or not shown.strip()
    return f"**{_escaped(shown)}**" if needs_escape else markdown_code(shown)


def _escaped(text: str) -> str:
    """Escape text for Markdown with backslashes alone: some chats show entities as they are."""
    without_entities = _ENTITY.sub("&\\1\0;", visible(text))
    return (
        _MARKUP.sub(r"\\\1", without_entities)
        .replace("\0;", r"\;")
        .replace("://", r"\://")
        .replace("www.", r"www\.")
    )


def _slack(sentence: Sentence) -> str:
    return written(sentence, _slack_text, _slack_span)


def _slack_span(shown: str) -> str:
    # Slack has no escape for a backtick inside of code: a grave accent looks like one.
    return "`" + _slack_text(shown).replace("`", "\u02cb") + "`"


def _slack_text(text: str) -> str:
    escaped = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A word joiner, which has no width, keeps "@" from calling anyone.
    return escaped.replace("@", "@\u2060")
