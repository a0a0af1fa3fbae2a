"""Run every notebook and write its outputs into it, small: `python -m docs.make_notebooks`.

Pictures have at most 64 colours, and their words as alternative text. Needs the extras `demo` and `dask`,
duckdb and polars, as the notebooks do.
"""

import asyncio
import base64
import io
import os
import re
import tempfile
from pathlib import Path

import nbclient
import nbformat
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
WIDEST = 880  # pixels
# Runs before the cells of a notebook: pictures come with alternative text.
_SETUP = """
%matplotlib inline
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
import safetykit_analytics as ska
get_ipython().display_formatter.formatters["image/png"].for_type(
    Figure, lambda figure: (print_figure(figure, base64=True), {"alt": ska.alt_text(figure)})
)
"""


async def run(path: Path, folder: Path, environment: dict[str, str]) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a run in a folder."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(_SETUP))
    client = nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    await client.async_execute(env=environment)
    del notebook.cells[0]
    return notebook


def small(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook as it is committed: small pictures, and nothing that differs between two runs."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
        for output in cell.get("outputs", []):
            if "execution_count" in output:
                output["execution_count"] = None
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = _small_picture(output["data"]["image/png"])
    return notebook


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the text of all outputs, pictures as their alternative text, and seconds as "0.00 s"."""
    texts = []
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        text = alt if "image/png" in data else output.get("text") or data.get("text/plain", "")
        texts.append(re.sub(r" +[0-9]+\.[0-9]+ s\b", " 0.00 s", text or ""))
    return texts


def _small_picture(png: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        picture = image.convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
    target = io.BytesIO()
    picture.quantize(64, dither=Image.Dither.NONE).save(target, "png", optimize=True)
    return base64.b64encode(target.getvalue()).decode("ascii")


def main() -> None:
    """Run and write all notebooks."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SAFETYKIT")}
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            notebook = asyncio.run(run(path, Path(folder), environment))
        nbformat.write(small(notebook), path)


if __name__ == "__main__":
    main()
