"""Draw the pictures of docs/report.md into docs/images: `python -m docs.make_report_pictures`.

Needs Chromium, and `pdftoppm` (poppler-utils) for the printed page. The report is the one of the tests.
"""

import io
import subprocess
import tempfile
from pathlib import Path

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
        shown = {}
        for name, (width, height, dark) in SCREENS.items():
            tab = browser.open(page.as_uri(), width=width, height=height, dark=dark)
            shown[name] = Image.open(io.BytesIO(tab.screenshot(full=False)))
        (folder / "report.pdf").write_bytes(tab.pdf())
    finally:
        browser.close()
    command = ["pdftoppm", "-png", "-singlefile", "-r", "80", folder / "report.pdf", folder / "page"]
    subprocess.run(command, check=True)
    return shown | {"report-print": Image.open(folder / "page.png")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        for name, picture in pictures(Path(made)).items():
            # Of 256 colours: a third of the bytes, and versions keep theirs apart.
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(IMAGES / f"{name}.png", optimize=True)
