"""Draw the pictures of docs/report.md into docs/images: `python -m docs.make_report_pictures`.

Needs Chromium, and pypdfium2 for the printed page. The report is the one that the tests look at.
"""

import io
import tempfile
from pathlib import Path

import pypdfium2
from PIL import Image

import safetykit_analytics as ska
from tests.report.browser import Browser
from tests.report.helpers import WEEK, fleet_frame

IMAGES = Path(__file__).parent / "images"
SCREENS = {
    "report-1280": (1280, 2600, False),
    "report-400": (400, 1600, False),
    "report-dark": (1280, 1600, True),
}


def pictures(folder: Path) -> dict[str, Image.Image]:
    """Show the report on each screen and on paper; `folder` is for the page and the browser's profile."""
    page = folder / "report.html"
    ska.weekly_report(fleet_frame(), week=WEEK, tz="Europe/Berlin").save(page)
    browser = Browser(folder)
    try:
        screens = {
            name: browser.open(page.as_uri(), width=width, height=height, dark=dark)
            for name, (width, height, dark) in SCREENS.items()
        }
        shown = {name: Image.open(io.BytesIO(tab.screenshot(full=False))) for name, tab in screens.items()}
        paper = pypdfium2.PdfDocument(screens["report-1280"].pdf())
    finally:
        browser.close()
    return shown | {"report-print": paper[0].render(scale=80 / 72).to_pil()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for name, picture in pictures(Path(made)).items():
            # Of 256 colours: a third of the bytes, and versions keep theirs apart.
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(IMAGES / f"{name}.png", optimize=True)
