# SPDX-License-Identifier: MIT
"""Chromium, driven by its own driver: the page as a person meets it.

The programs are Debian's packages `chromium` and `chromium-driver`, and selenium is in the extra `browser`.  A machine
without them skips these tests; where MCP_H11_REQUIRE_ALL=1 says that nothing may be missing, they fail.
"""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from provision import everything_required

T = TypeVar("T")

LIMIT = 30.0  # seconds for anything that a test waits for
WIDE = (1280, 900)
# The folder for pictures of the page, for people who work on it; none are made without it.
PICTURES = os.environ.get("MCP_H11_PICTURES")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--lang=en")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser without a window."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        driver = None
    if program is None or driver is None:
        reason = "chromium, chromium-driver (Debian) and selenium (the extra `browser`) are needed"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--window-size={WIDE[0]},{WIDE[1]}"):
        options.add_argument(flag)
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(running)
    finally:
        running.quit()


class Browser:
    """One tab; elements are named by CSS selectors."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def until(self, found: Callable[[], T], what: str) -> T:
        """The first result that is true.  `found` may act on an element: one that is drawn anew is looked for again."""
        from selenium.common.exceptions import StaleElementReferenceException

        end = time.monotonic() + LIMIT
        while True:
            try:
                if result := found():
                    return result
            except StaleElementReferenceException:
                pass  # it was drawn anew
            if time.monotonic() > end:
                raise AssertionError(f"no {what} in:\n{self.text()}\n{self.log()}")
            time.sleep(0.02)  # the browser is another process, and has no other way to be asked

    def open(self, url: str) -> None:
        """Open the page, and wait until it has its lists."""
        self.driver.get(url)
        self.see("#state.good")
        self.see("#tab-prompts", "(")

    def find(self, selector: str, text: str = "") -> list[Any]:
        """The elements that can be seen and have this text."""
        found = self.driver.find_elements("css selector", selector)
        return [one for one in found if one.is_displayed() and text in one.text]

    def see(self, selector: str, text: str = "") -> Any:
        """The first such element, when it is there."""
        return self.until(lambda: self.find(selector, text), f"{selector} {text!r}")[0]

    def gone(self, selector: str, text: str = "") -> None:
        """Wait until no such element can be seen."""
        self.until(lambda: not self.find(selector, text), f"end of {selector} {text!r}")

    def press(self, selector: str, text: str = "") -> None:
        """Click it; a browser scrolls to it first, as a person does."""

        def clicked() -> bool:
            for element in self.find(selector, text)[:1]:
                self.run("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
                return True
            return False

        self.until(clicked, f"{selector} {text!r}")

    def enter(self, selector: str, text: str, at: int = 0) -> None:
        """Replace the text of the field."""

        def entered() -> bool:
            for field in self.find(selector)[at:][:1]:
                field.clear()
                field.send_keys(text)
                return True
            return False

        self.until(entered, selector)

    def choose(self, selector: str, option: str) -> None:
        """Choose an option by its text."""
        from selenium.webdriver.support.ui import Select

        def chosen() -> bool:
            for element in self.find(selector)[:1]:
                Select(element).select_by_visible_text(option)
                return True
            return False

        self.until(chosen, selector)

    def keys(self, *keys: str) -> None:
        """Type where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run this as the driver does, past the policy of the page."""
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def text(self) -> str:
        """All text that can be seen."""
        return str(self.driver.find_element("css selector", "body").text)

    def log(self) -> list[str]:
        """The lines of the browser's console since the last look: errors, and violations of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def size(self, width: int, height: int) -> None:
        """Give the page a screen of this size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def like(self, **features: str) -> None:
        """Prefer these media features, such as prefers_color_scheme="dark"."""
        features = {"prefers_reduced_motion": "reduce", **features}  # or a colour is measured while it changes
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.command("Emulation.setEmulatedMedia", features=named)

    def picture(self, name: str) -> None:
        """Keep a picture of the whole page, where a folder is set for them."""
        if PICTURES:
            found = self.command("Page.captureScreenshot", captureBeyondViewport=True)
            Path(PICTURES, f"{name}.png").write_bytes(base64.b64decode(found["data"]))
