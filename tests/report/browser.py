"""A headless Chromium, driven over its DevTools socket: no driver to install and nothing to download."""

import asyncio
import base64
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field

import aiohttp

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # root has no sandbox, and the only page opened is our own
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "about:blank",
)


@dataclass
class Page:
    """One tab, and everything it complained about or asked for since it was opened."""

    browser: "Browser"
    session: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    loaded: bool = False

    def call(self, method, **parameters):
        return self.browser.call(method, session=self.session, **parameters)

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def look(self, *, width=1280, height=900, dark=False):
        """Show the page in a window of so many pixels, on a light or a dark desktop."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, *, full=True):
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        return base64.b64decode(answer["data"])

    def pdf(self):
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        return base64.b64decode(answer["data"])


class Browser:
    """One Chromium process with a new profile; closed with everything that it started."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._process = subprocess.Popen(
            [EXECUTABLE, f"--user-data-dir={folder}", *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"HOME": str(folder)},
        )
        self._runner = asyncio.Runner()
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}
        self._http = self._socket = None
        try:
            self._runner.run(self._connect(*self._announced(folder / "DevToolsActivePort")))
        except BaseException:
            self.close()
            raise

    def _announced(self, file):
        """Wait until Chromium has written where it listens."""
        deadline = time.monotonic() + 30
        while not (file.exists() and file.read_text().count("\n")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Chromium did not start")
            time.sleep(0.05)
        return file.read_text().split("\n")[:2]

    async def _connect(self, port, path) -> None:
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0)

    def call(self, method, *, session=None, **parameters):
        return self._runner.run(self._call(method, session, parameters))

    async def _call(self, method, session, parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        while True:
            answer = await self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def _receive(self):
        message = await self._socket.receive_json(timeout=60)
        if page := self._pages.get(message.get("sessionId", "")):
            _note(page, message)
        return message

    def open(self, address, **look):
        """Open an address in a new tab and wait until it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.look(**look)
        self._pages[session] = page
        page.call("Page.navigate", url=address)
        self._runner.run(self._until_loaded(page))
        return page

    async def _until_loaded(self, page):
        while not page.loaded:
            await self._receive()

    def close(self):
        async def leave():
            if self._socket is not None:
                await self._socket.close()
            if self._http is not None:
                await self._http.close()

        self._runner.run(leave())
        self._runner.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _note(page, message):
    parameters = message.get("params", {})
    match message.get("method"):
        case "Page.loadEventFired":
            page.loaded = True
        case "Network.requestWillBeSent":
            page.requests.append(parameters["request"]["url"])
        case "Runtime.exceptionThrown":
            page.complaints.append(str(parameters["exceptionDetails"]))
        case "Runtime.consoleAPICalled":
            page.complaints.append(str(parameters["args"]))
        case "Log.entryAdded":
            page.complaints.append(parameters["entry"]["text"])
