"""Names that break reports: markup, quotes, formulas, mathematics, other directions, too long, invisible."""

import datetime as dt

from tests.report.helpers import MONDAY, batch_rows, frame_of

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


def hostile_frame():
    """Make every name a version at work in both weeks, every sixth one a policy; one batch each is stuck."""
    rows = []
    for index, policy in enumerate(NAMES[::6]):
        versions = (*NAMES[6 * index : 6 * index + 6], "v1")
        for number in range(10):
            created = MONDAY + dt.timedelta(days=-6 + number * 1.25, minutes=index)
            rows.extend(
                batch_rows(
                    created,
                    (1, 40, 2 + number % 3),
                    (3, 90, 5 + number % 4),
                    policy=policy,
                    version=versions[number % len(versions)],
                    size=95 + number % 4,
                    number=index * 20 + number,
                    status=("SUCCESS", "ERROR", "CANCELLED")[number * 3 // 10],
                )
            )
        rows.extend(
            batch_rows(
                MONDAY + dt.timedelta(days=1, minutes=index),
                *((hours, 10, 1) for hours in (1, 20, 40)),
                policy=policy,
                version=None,
                size=500,
                number=index * 20 + 19,
            )
        )
    return frame_of(rows)
