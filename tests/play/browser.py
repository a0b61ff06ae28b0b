"""The page in headless Chromium."""

import asyncio
import shutil
import threading
from contextlib import contextmanager

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra dev (playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def serving(server):
    """The address of a Server, which runs in a thread."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found = {}

    def work():
        asyncio.set_event_loop(loop)
        found["runner"], found["address"] = loop.run_until_complete(server.start(0))
        ready.set()
        loop.run_forever()
        loop.run_until_complete(found["runner"].cleanup())

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(30)
    try:
        yield found["address"]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)


@contextmanager
def launched():
    """A headless browser."""
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(address):
    """The page in a browser, whose console stays empty."""
    with launched() as browser:
        page = browser.new_page()
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # what each view said, as the page got it
        page.add_init_script(
            """window.seen = [];
            const Plain = WebSocket;
            window.WebSocket = class extends Plain {
              constructor(...all) {
                super(...all);
                this.addEventListener("message", event => window.seen.push(JSON.parse(event.data)));
              }
            };"""
        )
        page.goto(address)
        until(page, "window.seen.length > 3")
        yield page
        assert complaints == []


def until(page, condition, seconds=20):
    """Wait for it; the page's own policy forbids Playwright's way, which evaluates strings."""
    for _ in range(seconds * 20):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never came to {condition}")
