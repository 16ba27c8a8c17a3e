# SPDX-License-Identifier: MIT
"""A browser without a screen: it follows redirects, keeps cookies, and fills in and sends the forms that it meets.

As a program: ``python form_browser.py ADDRESS [FILE]`` for the variable BROWSER; FILE gets the last page.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, ProxyHandler, build_opener

LIMIT = 30.0  # seconds for each page
MAX_FORMS = 5
PERSON = {"login": "ann", "username": "ann", "password": "any"}


class _Forms(HTMLParser):
    """The first form of a page: where it goes, and its fields."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form" and self.action is None:
            self.action, self._inside = found.get("action") or "", True
        elif self._inside and tag in ("input", "button") and found.get("name"):
            # Of several buttons the first is pressed, which agrees.
            self.fields.setdefault(str(found["name"]), found.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class FormBrowser:
    """A browser with its cookies.  `visited` are the addresses of the pages."""

    def __init__(self) -> None:
        # No proxy of the environment: all addresses are on this machine.
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))
        self.visited: list[str] = []

    def open(self, url: str) -> str:
        """The text of the page at which the person ends."""
        page = self._page(url, None)
        for _ in range(MAX_FORMS):
            forms = _Forms()
            forms.feed(page)
            if forms.action is None:
                return page
            filled = {name: PERSON.get(name, value) for name, value in forms.fields.items()}
            page = self._page(urljoin(self.visited[-1], forms.action), urlencode(filled).encode())
        raise AssertionError(f"more than {MAX_FORMS} forms: {self.visited}")

    def _page(self, url: str, body: bytes | None) -> str:
        answer: Any
        try:
            answer = self._opener.open(url, body, timeout=LIMIT)
        except HTTPError as error:
            answer = error
        with answer:
            self.visited.append(answer.url)
            return str(answer.read().decode())


if __name__ == "__main__":
    text = FormBrowser().open(sys.argv[1])
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as file:
            file.write(text)
