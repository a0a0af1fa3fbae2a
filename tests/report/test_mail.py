"""The e-mail: as Python's parser and a browser read it, for ordinary and for hostile fleets."""

import email
import email.policy
import re

import pytest

from safetykit_analytics.report import figures, messages, weekly_report
from tests.report.helpers import WEEK, nothing
from tests.report.hostile import NAMES


@pytest.fixture(scope="module", params=[pytest.param("report", marks=pytest.mark.heavy), "hostile", "empty"])
def one(request):
    return (
        weekly_report(nothing(), week=WEEK)
        if request.param == "empty"
        else request.getfixturevalue(request.param)
    )


@pytest.fixture(scope="module")
def saved(one, tmp_path_factory):
    path = tmp_path_factory.mktemp("mail") / "report.eml"
    one.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def parsed(saved):
    return email.message_from_bytes(saved, policy=email.policy.default)


def body_of(message):
    return next(part for part in message.walk() if part.get_content_type() == "text/html")


def pictures_of(message):
    return {
        part["Content-ID"].strip("<>"): part
        for part in message.walk()
        if part.get_content_maintype() == "image"
    }


def test_a_mail_has_a_fixed_subject_and_neither_sender_nor_recipients(parsed):
    assert parsed["Subject"] == f"SafetyKit weekly report {WEEK}"
    assert {name.lower() for name in parsed} == {"subject", "mime-version", "content-type"}
    assert not any(part.defects for part in parsed.walk())


def test_the_first_html_part_is_a_short_body_without_data_uris_scripts_and_drawings(parsed):
    html = body_of(parsed).get_content()
    assert len(html.encode()) <= 100_000
    assert "data:" not in html
    assert not re.search(r"<(script|svg|link|iframe|style)\b", html)


def test_each_picture_of_the_body_is_a_png_part_with_its_content_id(parsed, one):
    html = body_of(parsed).get_content()
    found = pictures_of(parsed)
    assert set(re.findall(r'src="cid:([^"]+)"', html)) == set(found)
    assert html.count("<img ") == len(found) == html.count(' alt="')
    assert bool(found) == bool(one.facts.n_observations)
    assert all(part.get_content().startswith(b"\x89PNG") for part in found.values())


def test_the_text_part_says_the_headlines_and_the_key_numbers(parsed, report):
    text = parsed.get_body(("plain",)).get_content()
    assert text.splitlines()[0] == f"SafetyKit weekly report {WEEK}"
    assert "\n1. " in text
    assert "\nBacklog: " in text
    assert "\u202e" not in text


def test_the_page_is_attached(parsed, one):
    (attached,) = parsed.iter_attachments()
    assert attached.get_filename() == f"report-{WEEK}.html"
    assert attached.get_content() == one.to_html()


def test_a_page_that_is_too_large_is_not_attached_and_the_mail_says_so(report, monkeypatch):
    monkeypatch.setattr(messages, "LARGEST_PAGE", 1000)
    monkeypatch.setattr(figures, "draw_for_mail", lambda _: {})
    message = report.to_email()
    assert not list(message.iter_attachments())
    for kind in ("plain", "html"):
        assert "too large to attach" in message.get_body((kind,)).get_content()


def test_a_browser_shows_the_body_with_its_pictures_and_asks_for_nothing_else(parsed, browser, tmp_path):
    html = body_of(parsed).get_content()
    for cid, part in pictures_of(parsed).items():
        (tmp_path / part.get_filename()).write_bytes(part.get_content())
        html = html.replace(f"cid:{cid}", part.get_filename())
    (tmp_path / "mail.html").write_text(html, encoding="utf-8")
    for width in (700, 400):
        page = browser.open((tmp_path / "mail.html").as_uri(), width=width)
        assert page.complaints == []
        names = sorted(url.rpartition("/")[2] for url in page.requests)
        assert names == sorted({"mail.html", *(part.get_filename() for part in pictures_of(parsed).values())})
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_lines_are_short_enough_for_every_mail_server(saved):
    assert max(map(len, saved.split(b"\r\n"))) <= 998
    assert b"\n" not in saved.replace(b"\r\n", b"")


def test_hostile_names_are_text_in_the_body(parsed):
    html = body_of(parsed).get_content()
    assert not any(name in html for name in NAMES if "<" in name)
    assert "\u202e" not in html
