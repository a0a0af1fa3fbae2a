"""What every test may use."""

import gc
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.effort import load_profile

load_profile()

# Importing and collecting makes millions of objects that stay: see pytest_collection_finish.
gc.disable()

# Without bytecode, each worker rewrites every test again, and each command compiles the library.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Each core has a worker: threads of linear algebra would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Draw without a screen. Let pandas 2 run on NumPy 2.5, which deprecates how it makes a Timedelta."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
        # Not in the process that only hands out tests: its workers wait for it.
        import matplotlib as mpl

        mpl.use("Agg")
    if int(importlib.metadata.version("pandas").split(".")[0]) < 3:
        config.addinivalue_line(
            "filterwarnings", "ignore:The 'generic' unit for NumPy timedelta:DeprecationWarning"
        )


def pytest_collection_finish() -> None:
    """Keep the modules and the collected tests, which live to the end, out of every garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give each file to one process, which makes its fixtures once, and each heavy test to any."""
    is_heavy = config.getoption("markexpr") == "heavy"

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            # Two reports and a browser, five notebooks, and a server of objects serve several files.
            shared = {
                "tests/docs/": 1,
                "tests/report/": 2,
                "tests/cli/test_recipes": 3,
                "tests/store/test_objects": 3,
            }
            scope = next((str(number) for start, number in shared.items() if file.startswith(start)), None)
            return scope or (nodeid if is_heavy else file)

    return ByFile(config, log)


HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def reference_cases() -> dict:
    """Published values, by name."""
    return json.loads((HERE / "reference_cases.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="session")
def documented_example() -> bytes:
    """The body that the API's documentation shows, byte for byte."""
    return (HERE / "documented_example.json").read_bytes()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start an S3 server on loopback, in a process of its own, and return its URL."""
    pytest.importorskip("moto", reason="no moto: pip install '.[full]'")
    code = (
        "import sys, moto.server as m; s = m.ThreadedMotoServer(ip_address='127.0.0.1', port=0); s.start();"
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read(); s.stop()"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        port = next(line for line in server.stdout if line.strip().isdigit())
        yield f"http://127.0.0.1:{port.strip()}"
        server.stdin.close()


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    """Close the figures that plots opened: pyplot keeps them, and warns of more than twenty."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
