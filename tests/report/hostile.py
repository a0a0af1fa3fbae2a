"""Names that break reports: markup, quotes, formulas, mathematics, other directions, too long, invisible."""

import datetime as dt

from tests.report.helpers import MONDAY, batch, together

NAMES = (
    "<script>alert('x')</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></script><b>",
    "$\\frac{1}{2}$ and $x_1$ _{y}",
    "line one\nline two\r\n\tthree",
    "x" * 2000,
    "شرطة الرقابة \u202e txt.exe",
    "{{ 7 * 7 }}{% raw %}",
    '=HYPERLINK("http://evil.example","x")',
    "| a | b |\n|---|---|\n[link](javascript:alert(1)) `code` ``x` <!-- -->",
    "@everyone https://evil.example www.evil.example :smile: &amp; &lt;b&gt;",
    "\u200b\ufeff\x00\x1b[31m\u2028",
    "'; DROP TABLE x; --",
    "𝕊𝕡𝕒𝕞 👩‍👩‍👧 ﷽",
    " leading and trailing ",
    "%s %d {0} %(x)s",
    "(none)",
)


def hostile_frame(names=NAMES):
    """Make each name a policy, and a version of it, at work in both weeks, with one batch that is stuck."""
    frames = []
    for index, name in enumerate(names):
        for number in range(8):
            created = MONDAY + dt.timedelta(days=-6 + number * 1.5, minutes=index)
            frames.append(
                batch(
                    created,
                    (1, 40, 2 + number % 3),
                    (3, 90, 5 + number % 4),
                    policy=name,
                    version=name if number % 2 else "v1",
                    size=95 + number % 4 if number != 5 else 1000,
                    number=index * 10 + number,
                    status=("SUCCESS", "ERROR", "CANCELLED")[number % 3] if number != 5 else None,
                )
            )
        frames.append(
            batch(
                MONDAY + dt.timedelta(days=1, minutes=index),
                (1, 10, 1),
                (20, 10, 1),
                (40, 10, 1),
                policy=name,
                version=None,
                size=500,
                number=index * 10 + 9,
            )
        )
    return together(*frames)
