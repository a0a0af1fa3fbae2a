"""Document and pictures → an e-mail."""

from __future__ import annotations

from email.message import EmailMessage
from typing import TYPE_CHECKING

from safetykit_analytics.report.rendering import render_mail
from safetykit_analytics.report.text import cut, readable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from safetykit_analytics.report.document import Document, Picture

#: Larger pages are not attached: many mail servers refuse messages of 10 MB, and base64 adds a third.
LARGEST_PAGE = 5_000_000
# No sentence needs more; the body stays short whatever names there are.
_LONGEST_SENTENCE = 1500


def write_mail(
    document: Document, pictures: Mapping[Picture, bytes], page: str, *, week: str
) -> EmailMessage:
    """Return a report as an e-mail with neither sender nor recipients.

    Parameters
    ----------
    document : Document
    pictures : mapping of Picture to bytes
        PNG files of the pictures to show, whose sources are ``cid:`` and a content id.
    page : str
        The HTML page, which is attached unless it is larger than `LARGEST_PAGE` bytes.
    week : str

    Returns
    -------
    email.message.EmailMessage
        Text and HTML; no header and no boundary depends on when, where or by whom it is made.
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
