# SPDX-License-Identifier: MIT
"""The page for browsers in a real Chromium: forms, questions, progress, resources, errors, keyboard, colours, size.

`tests/endpoint/test_browsers.py` has the bytes of it.  One browser and one server for the module; each test opens the
page anew, and at its end the console of the browser is empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chromium import WIDE, Browser, chromium
from ports import free_port
from shop import BIG, MARKUP, Shop

from mcp_h11 import MCPServer, start_in_thread
from mcp_h11.cli.installing.clients import CLIENTS, Wanted

pytestmark = pytest.mark.interop
ERAS = {"session": "2025-11-25, session", "stateless": "2026-07-28"}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def thread(shop: Shop) -> Iterator[Any]:
    running = start_in_thread(shop, port=0, page=True, legacy_sse=True, retry=20)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(tab: Browser, thread: Any) -> Iterator[Browser]:
    """The page, opened by the address without a path; afterwards its console has no error and no violation."""
    tab.size(*WIDE)
    tab.like(prefers_color_scheme="light")
    tab.log()
    tab.open(f"http://127.0.0.1:{thread.port}/")
    yield tab
    assert tab.log() == []


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest, page: Browser) -> Browser:
    """The page, speaking one era."""
    if request.param != "session":
        page.choose("#era", ERAS[request.param])
        page.see("#journal .label", "result of server/discover")
        page.see("#state.good")
    return page


def tool(page: Browser, name: str, *, call: bool = True) -> None:
    """Choose a tool, and call it as its form is."""
    page.press(f'#panel-tools [data-key="{name}"]')
    page.see("#panel-tools .detail h3")
    if call:
        page.press("#panel-tools .detail button.main")


def done(page: Browser, text: str, state: str = "done") -> str:
    """The newest run, when it has ended so."""
    page.see(f"#panel-tools .run:first-child.{state}", text)
    return str(page.find("#panel-tools .run")[0].text)


def field(page: Browser, label: str) -> str:
    """The selector of the field that has this label."""
    script = """return [...document.querySelectorAll('main label')]
        .find(one => one.checkVisibility() && one.textContent.trim().startsWith(arguments[0]))?.htmlFor"""
    return f"#{page.until(lambda: page.run(script, label), f'field {label!r}')}"


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_mistake_is_shown_at_its_field_and_nothing_is_sent(page: Browser, shop: Shop) -> None:
    tool(page, "order")
    wrong = page.see(".field .wrong", "This is required")
    focused = page.run("return document.activeElement")
    assert focused.get_attribute("aria-invalid") == "true"
    assert wrong.get_attribute("id") in focused.get_attribute("aria-describedby")
    page.enter(field(page, "Your name"), "Ann")
    page.enter(field(page, "count"), "0")
    page.press(".detail button.main")
    page.see(".field .wrong", "at least 1")
    page.enter(field(page, "count"), "1.5")
    page.press(".detail button.main")
    page.see(".field .wrong", "whole number")
    assert not page.find(".run") and shop.calls == []


def test_arguments_can_be_written_as_json(page: Browser, shop: Shop) -> None:
    tool(page, "order", call=False)
    page.press(".detail button.plain", "Edit as JSON")
    page.enter(".detail textarea.code", "{")
    page.press(".detail button.main")
    page.see(".wrong", "This is not JSON")
    page.enter(
        ".detail textarea.code", json.dumps({"name": "Bob", "count": 1, "size": "small", "place": {"x": 0, "y": 0}})
    )
    page.press(".detail button.plain", "Edit as a form")
    assert page.see(field(page, "Your name")).get_attribute("value") == "Bob"
    page.press(".detail button.main")
    done(page, "taken")
    assert shop.calls.pop()["name"] == "Bob"


def test_a_call_is_watched_while_it_runs_and_cancelled(era: Browser, shop: Shop, thread: Any) -> None:
    era.choose("#level", "info")
    tool(era, "wait")
    bar = era.see(".run progress")
    assert (bar.get_attribute("value"), bar.get_attribute("max")) == ("1", "3")
    era.see(".run", f"one of three {MARKUP}")
    era.see(".run .logs", f"it began {MARKUP}")
    era.picture("progress")
    thread._loop.call_soon_threadsafe(shop.go.set)
    done(era, "over")
    assert not era.find(".run progress")
    thread._loop.call_soon_threadsafe(shop.go.clear)
    before = shop.cancelled
    era.press(".detail button.main")
    era.see(".run progress")
    era.press(".run button", "Cancel")
    done(era, "", "cancelled")
    era.until(lambda: shop.cancelled == before + 1, "cancelled call")


def test_each_kind_of_content_is_shown(page: Browser) -> None:
    tool(page, "show")
    done(page, MARKUP)
    picture = page.see(".run img")
    assert page.run("return arguments[0].naturalWidth", picture) == 1  # the policy lets it through
    assert page.find(".run audio")
    page.press(".run button", "Read")
    page.see("#panel-resources .run.done", f"Terms {MARKUP}")
    page.picture("resource")


def test_a_tool_is_called_through_its_form(page: Browser, shop: Shop) -> None:
    tool(page, "order", call=False)
    page.enter(field(page, "Your name"), "Ann")
    page.enter(field(page, "count"), str(BIG))
    page.choose(field(page, "size"), "large")
    page.choose(field(page, "express"), "false")
    for coordinate, value in (("x", "1.5"), ("y", "-2e3")):
        page.enter(field(page, f"{coordinate} number"), value)
    page.press("legend label", "parcel")
    page.press("fieldset button", "Add an item")
    page.enter(".items textarea", "first")
    page.press("fieldset label", "Friday")
    page.enter(field(page, "extra"), '{"deep": [1, {"a": null}]}')
    page.press(".detail button.main", "Call")
    text = done(page, "taken")
    assert shop.calls.pop() == {
        "name": "Ann", "count": BIG, "price": 1.5, "gift": True, "express": False, "size": "large", "colour": "g",
        "tags": ["first"], "days": ["Friday"], "place": {"x": 1.5, "y": -2000}, "parcel": {"weight": 3},
        "extra": {"deep": [1, {"a": None}]},
    }  # fmt: skip
    assert str(BIG) in text  # shown as it was sent, with all its digits
    page.picture("form")


def test_errors_are_shown(page: Browser) -> None:
    tool(page, "fail")
    assert "reports an error" in done(page, f"no luck {MARKUP}", "error")
    page.press(".detail button.plain", "Edit as JSON")
    page.enter(".detail textarea.code", '{"how": 5}')
    page.press(".detail button.main")
    page.see(".run:first-child .wrong")
    tool(page, "add", call=False)
    page.picture("errors")


# --- questions --------------------------------------------------------------------------------------------------------


def test_questions_are_forms(era: Browser) -> None:
    tool(era, "ask_form")
    era.see(".question", f"Who are you? {MARKUP}")
    era.picture("question")
    era.press(".question button", "Accept")
    era.see(".question .wrong", "required")
    era.enter(field(era, "name"), "Ann")
    era.press(".question button", "Accept")
    era.see(".question", "Sure?")
    era.press(".question button", "Accept")
    done(era, "Ann, 30, accept")
    assert not era.find(".question")


def test_a_question_can_be_refused_and_ends_with_its_call(page: Browser) -> None:
    for button, action in (("Decline", "decline"), ("Cancel", "cancel")):
        tool(page, "ask_form")
        page.see(".question")
        page.press(".question button", button)
        done(page, f"it was {action}")
    tool(page, "ask_form")
    page.see(".question")
    page.press(".run button", "Cancel")
    page.gone(".question")


def test_the_answer_of_a_model_is_written_by_hand(page: Browser) -> None:
    tool(page, "ask_model")
    page.see(".question", "A joke, please")
    page.enter(field(page, "Answer"), "knock knock")
    page.press(".question button", "Send")
    done(page, "it said knock knock")


def test_folders_are_written_by_hand(page: Browser) -> None:
    tool(page, "ask_roots")
    page.enter(field(page, "Folders"), "file:///a\nfile:///b")
    page.press(".question button", "Send")
    done(page, "roots ['file:///a', 'file:///b']")


def test_an_address_is_shown_before_it_is_opened(page: Browser) -> None:
    tool(page, "ask_url")
    page.see(".question strong", "shop.example")
    page.see(".question button", "Open in a new tab")
    page.press(".question button", "Decline")
    done(page, "it was decline")
    page.enter(field(page, "address"), "javascript:alert(1)")
    page.press(".detail button.main")
    card = page.see(".question", "javascript:alert(1)")
    assert "Open" not in [one.text for one in card.find_elements("css selector", "button")]
    page.press(".question button", "Cancel")
    done(page, "it was cancel")


# --- resources, prompts, notices, clients, messages -----------------------------------------------------------------


def test_resources_are_read(page: Browser) -> None:
    page.press("#tab-resources")
    page.press('[data-key="shop://logo"]')
    page.press("#panel-resources button.main")
    page.see("#panel-resources .run.done img")
    page.press('[data-key="shop://data"]')
    page.press("#panel-resources button.main")
    page.see("#panel-resources figcaption", "application/zip, 2.0 KiB")
    page.enter(field(page, "number"), "7/8")
    page.enter(field(page, "colour"), "ap")
    page.press(".offers button", "apricot")
    page.run("arguments[0].form.requestSubmit()", page.find(field(page, "colour"))[0])
    page.see("#panel-resources .run.done", "Order 7/8 in apricot.")
    page.picture("resources")


def test_a_stream_that_ends_early_is_read_on(page: Browser) -> None:
    tool(page, "cut")
    done(page, "the answer came later")
    page.see("#journal .label", "GET, the rest of a stream")


def test_a_schema_that_grows_without_end_has_a_form(page: Browser) -> None:
    tool(page, "tree", call=False)
    page.press("legend label", "root")
    assert 100 < page.run("return document.querySelectorAll('.detail textarea').length") <= 400
    page.press("legend label", "root")
    page.press(".detail button.main")
    done(page, "{}")


def test_it_comes_back_after_the_server_was_started_again(tab: Browser) -> None:
    port = free_port()
    first = start_in_thread(MCPServer("first"), port=port, page=True)
    try:
        tab.open(first.url)
        tab.see("#panel-tools", "The server has no tools")
    finally:
        first.stop()
    tab.see("#state.bad", "trying again")
    second = MCPServer("second")
    second.add_tool(lambda: "new", name="new")
    again = start_in_thread(second, port=port, page=True)
    try:
        tab.see('[data-key="new"]')
        tab.see("#state.good")
        tab.see("#name", "second")
        tab.driver.get("about:blank")
    finally:
        again.stop()
    assert all("Failed to load resource" in line for line in tab.log())


def test_a_prompt_is_made(page: Browser) -> None:
    page.press("#tab-prompts")
    page.enter(field(page, "product"), "apples")
    page.press("#panel-prompts button.main")
    page.see("#panel-prompts .run.done", f"Praise apples! {MARKUP}")


def test_changes_of_lists_and_of_resources_are_told(era: Browser, shop: Shop) -> None:
    tool(era, "grow")
    era.see('#panel-tools [data-key="grown"]')
    done(era, "grown")  # the view of the tool that is shown stays
    shop.remove_tool("grown")
    era.gone('#panel-tools [data-key="grown"]')
    era.press("#tab-resources")
    era.press('[data-key="shop://terms"]')
    era.press("#panel-resources .tick")
    asked = "result of resources/subscribe" if era.find("#era option:checked", "session") else "acknowledged"
    era.until(lambda: asked in era.see("#journal").text.rsplit("→", 1)[-1], asked)
    shop.notify_resource_updated("shop://terms")
    era.see("#panel-resources [role=status]", "changed 1")


def test_it_says_what_to_paste_into_which_client(page: Browser, thread: Any) -> None:
    page.press("#tab-connect")
    for known in CLIENTS.values():
        card = page.see(f'.clients [aria-label="{known.title}"]')
        assert f"http://127.0.0.1:{thread.port}/mcp" in card.text
    wanted = Wanted(url=f"http://127.0.0.1:{thread.port}/mcp")
    for word in ("cursor", "vscode", "gemini"):  # as `install` writes it
        client = CLIENTS[word]
        shown = json.loads(page.see(f'[aria-label="Configuration for {client.title}"]').text)
        assert shown == {client.servers: {"shop": client.make(client, "shop", wanted).members}}
    page.press('[aria-label="Claude Code"] button')
    page.see("#said", "Cop")
    page.picture("clients")


def test_the_messages_are_shown_as_they_were_sent(page: Browser) -> None:
    page.press("#journal-clear")
    assert page.find("#journal li") == []
    tool(page, "add", call=False)
    page.enter(field(page, "a"), "2")
    page.enter(field(page, "b"), "3")
    page.press(".detail button.main")
    done(page, "5")
    sent, received = page.find("#journal summary")
    assert "tools/call add" in sent.text and "result of tools/call" in received.text
    sent.click()
    assert json.loads(page.see("#journal pre").text)["params"]["arguments"] == {"a": 2, "b": 3}


# --- safety -----------------------------------------------------------------------------------------------------------


def test_the_texts_of_a_server_are_text(page: Browser, shop: Shop) -> None:
    assert page.see("#name").text == f"Shop {MARKUP}"
    assert MARKUP in page.see("#instructions").text
    tool(page, "hostile", call=False)
    assert page.see(".detail h3").text == MARKUP and page.find(".badges li", "may destroy")
    assert page.run("return document.querySelectorAll('main img, main b, main script, [onerror]').length") == 0
    # What the page does not do by itself, its policy forbids: no markup of texts, no script of an element.
    refused = page.run("try { document.body.innerHTML = '<b>x</b>'; return ''; } catch (error) { return error.name; }")
    assert refused == "TypeError"
    page.run("""const made = document.createElement('script');
        try { made.textContent = 'alert(3)'; } catch {}
        document.head.append(made)""")
    assert any("trusted" in line.lower() for line in page.log())  # and so the console has these lines, and no others


def test_another_page_cannot_hold_it_in_a_frame(page: Browser, thread: Any) -> None:
    page.driver.get("data:text/html,<title>other</title>")
    page.run(
        "const frame = document.createElement('iframe'); frame.src = arguments[0]; document.body.append(frame)",
        thread.url,
    )

    page.driver.switch_to.frame(0)
    page.until(lambda: page.run("return location.href").startswith("chrome-error:"), "refused frame")
    page.driver.switch_to.default_content()
    page.log()


def test_a_token_is_asked_for_and_kept_in_memory_alone(tab: Browser, shop: Shop) -> None:
    guarded = start_in_thread(Shop(), port=0, page=True, token="s3cret")
    try:
        tab.driver.get(guarded.url)
        for token in ("wrong", "s3cret"):
            tab.see("#token-form", "This server asks for a token")
            tab.enter("#token", token)
            tab.press("#token-form button")
            if token == "wrong":
                tab.see("#token-form", "This token is refused")
        tab.see("#state.good")
        tab.see("#tab-tools", "(")
        tab.picture("token")
        kept = tab.run("return [document.cookie, localStorage.length, sessionStorage.length, location.href]")
        assert kept == ["", 0, 0, guarded.url]
        tab.press("#tab-connect")
        assert "s3cret" not in tab.text() and "MCP_TOKEN" in tab.text()
        assert all("401" in line for line in tab.log())
        tab.driver.get("about:blank")  # it would miss its server, and say so in the console of the next test
    finally:
        guarded.stop()


# --- for everybody ----------------------------------------------------------------------------------------------------


def test_it_can_be_used_by_keyboard_alone(page: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    def focused() -> str:
        return str(page.run("return document.activeElement.textContent.trim() || document.activeElement.id"))

    def tab_to(wanted: Callable[[], bool], what: str) -> None:
        for _ in range(60):
            page.keys(Keys.TAB)
            outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", focused()  # each place that has the focus shows it
            if wanted():
                return
        raise AssertionError(f"the tabulator does not reach {what}")

    page.run("document.activeElement.blur()")
    tab_to(lambda: focused() == "Skip to the content", "the skip link")
    page.keys(Keys.ENTER)
    tab_to(lambda: focused().startswith("Tools"), "the tabs")
    page.keys(Keys.ARROW_RIGHT)
    assert focused().startswith("Resources") and page.see("#panel-resources")
    page.keys(Keys.END)
    assert focused() == "Connect a client"
    page.keys(Keys.HOME)
    tab_to(lambda: focused() == "ask_form", "the tool")
    page.keys(Keys.ENTER)
    tab_to(lambda: focused() == "Call", "the button")
    page.keys(Keys.ENTER)
    page.until(lambda: focused() == "The server asks", "focus on the question")
    page.keys(Keys.TAB)
    page.keys("Ann", Keys.ENTER)  # Enter sends the form
    page.see(".question", "Sure?")
    tab_to(lambda: focused() == "Accept", "the answer")
    page.keys(Keys.SPACE)
    done(page, "Ann, 30, accept")
    assert page.see("#said") is not None


LABELS = """
return [...document.querySelectorAll('input, select, textarea, button, [role]')].filter(one => {
  const label = one.labels?.length || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby');
  return !label && !one.textContent.trim() && !['status', 'alert', 'group'].includes(one.getAttribute('role'));
}).map(one => one.outerHTML.slice(0, 200))
"""


def test_everything_has_a_name(page: Browser) -> None:
    for name in ("order", "ask_form"):
        tool(page, name, call=name == "ask_form")
    page.see(".question")
    assert page.run(LABELS) == []
    assert page.run("return document.getElementById('said').getAttribute('aria-live')") == "polite"


# The least contrast of any text that can be seen, by WCAG 2: its colour against the nearest background.
CONTRAST = """
const rgb = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const back = node => {
  for (; node; node = node.parentElement) {
    const colour = rgb(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
let worst = [99, ''];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('.unseen, .skip, script')) continue;
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(back(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < worst[0]) worst = [ratio, walker.currentNode.data.slice(0, 60)];
}
return worst;
"""


def test_it_follows_light_and_dark_and_can_be_read_in_both(page: Browser) -> None:
    tool(page, "fail")
    done(page, "no luck", "error")
    backgrounds = []
    for scheme in ("light", "dark"):
        page.like(prefers_color_scheme=scheme)
        backgrounds.append(page.run("return getComputedStyle(document.body).backgroundColor"))
        ratio, text = page.run(CONTRAST)
        assert ratio >= 4.5, (scheme, text, ratio)  # WCAG 2.2, 1.4.3
        page.picture(scheme)
    assert backgrounds[0] != backgrounds[1]


def test_it_fits_360_pixels(page: Browser) -> None:
    page.size(360, 740)
    tool(page, "show")
    done(page, MARKUP)
    page.press("#journal summary")
    for kind in ("tools", "resources", "prompts", "connect"):
        page.press(f"#tab-{kind}")
        assert page.run("return document.scrollingElement.scrollWidth") <= 360, kind
        page.picture(f"narrow-{kind}")
    page.press("#tab-tools")
    tool(page, "order", call=False)
    tool(page, "ask_form")
    page.see(".question")
    assert page.run("return document.scrollingElement.scrollWidth") <= 360
    page.picture("narrow-question")
    page.press(".question button", "Cancel")
    done(page, "it was cancel")  # or the server would wait for this call when it ends
