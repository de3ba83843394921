"""Playwright (Python) against a browser endpoint: prints one JSON line for each scenario."""

import hashlib
import json
import os
import sys
import time
import traceback

from playwright.sync_api import Error, sync_playwright

ENDPOINT, SITE, *ONLY = sys.argv[1:]


def eventually(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {seconds} s"


def reason(call):
    try:
        call()
    except Error as error:
        return str(error).split("\n")[0].split(" at ")[0]
    raise AssertionError("should have failed")


def navigation(page, **_):
    response = page.goto(SITE)
    first = {"status": response.status, "title": page.title()}
    page.click("#next")
    page.wait_for_url("**/second.html")
    second = page.title()
    missing = page.goto(f"{SITE}/nothing-here").status
    refused = reason(lambda: page.goto("http://127.0.0.1:1/"))
    assert [first["status"], second, missing] == [200, "Second page", 404]
    return {"first": first, "second": second, "missing": missing, "refused": refused}


def evaluate(page, **_):
    page.goto(SITE)
    page.click("#count")
    page.fill("#name", "Zoë 😀")
    seen = {
        "sum": page.evaluate("([a, b]) => a + b", [40, 2]),
        "promise": page.evaluate("new Promise(done => setTimeout(() => done('later'), 20))"),
        "clicked": page.text_content("#count"),
        "typed": page.input_value("#name"),
        "nested": page.evaluate("({ a: [1, { b: null }], c: 'é\\u0000x' })"),
        "thrown": reason(lambda: page.evaluate("() => { throw new TypeError('on purpose') }")),
    }
    assert seen["sum"] == 42
    return seen


def screenshot(page, **_):
    page.set_viewport_size({"width": 640, "height": 360})
    page.goto(SITE)
    image = page.screenshot()
    assert image[:8] == b"\x89PNG\r\n\x1a\n" and image[-8:-4] == b"IEND"
    size = [int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")]
    assert size == [640, 360]
    return {"size": size}


def pdf(page, **_):
    page.goto(SITE)
    document = page.pdf()
    assert document[:5] == b"%PDF-"
    return {"pdf": True}


def interception(page, **_):
    page.route("**/echo", lambda route: route.continue_(headers={**route.request.headers, "x-ventus": "changed"}))
    page.route("**/made-up", lambda route: route.fulfill(status=201, content_type="text/html", body="<title>made up</title>"))
    page.route("**/second.html", lambda route: route.abort("accessdenied"))
    echo = page.goto(f"{SITE}/echo").json()["headers"]["x-ventus"]
    made = page.goto(f"{SITE}/made-up").status
    title = page.title()
    aborted = reason(lambda: page.goto(f"{SITE}/second.html"))
    assert [echo, made, title] == ["changed", 201, "made up"]
    return {"echo": echo, "made": made, "title": title, "aborted": aborted}


def popup(page, **_):
    page.goto(f"{SITE}/popup.html")
    with page.expect_popup() as opened:
        page.click("#open")
    window = opened.value
    window.wait_for_load_state()
    seen = {"title": window.title(), "opener": window.opener() == page}
    window.close()
    assert seen == {"title": "Second page", "opener": True}
    return seen


def foreign_frame(page, browser, **_):
    page.goto(f"{SITE}/frames.html")
    frame = page.frame_locator("#inner")
    frame.locator("#field").fill("typed inside")
    targets = browser.new_browser_cdp_session().send("Target.getTargets")["targetInfos"]
    own = sum(t["type"] == "iframe" and t["url"].endswith("/inner.html") for t in targets)
    assert own == 1, "the frame is a target of its own"
    return {"own": own, "where": frame.locator("#where").text_content(), "typed": frame.locator("#field").input_value()}


def worker(page, **_):
    with page.expect_worker() as started:
        page.goto(f"{SITE}/worker.html")
    seen = {"answer": page.evaluate("window.answer"), "inside": started.value.evaluate("self.name2")}
    assert seen == {"answer": 42, "inside": "dedicated"}
    return seen


def service_worker(page, context, **_):
    with context.expect_event("serviceworker") as started:
        page.goto(f"{SITE}/service-worker.html")
    page.evaluate("window.ready")
    return {"inside": started.value.evaluate("self.name2")}


def dialog(page, **_):
    page.goto(SITE)
    asked = []

    def answer(box):
        asked.append([box.type, box.message, box.default_value])
        box.accept("Ada") if box.type == "prompt" else box.dismiss()

    page.on("dialog", answer)
    answers = page.evaluate("[alert('hello') ?? null, confirm('sure?'), prompt('name?', 'nobody')]")
    assert answers == [None, False, "Ada"]
    return {"asked": asked, "answers": answers}


def upload(page, **_):
    page.goto(f"{SITE}/upload.html")
    payload = b"hello, Ventus\n" * 1000
    page.set_input_files("#file", {"name": "größe.txt", "mimeType": "text/plain", "buffer": payload})
    uploaded = eventually(lambda: page.evaluate("window.uploaded"), "the page has the file")
    assert uploaded[0]["sha256"] == hashlib.sha256(payload).hexdigest()
    return {"uploaded": uploaded}


def console(page, **_):
    said, thrown = [], []
    page.on("console", lambda message: said.append([message.type, message.text]))
    page.on("pageerror", lambda error: thrown.append(error.message))
    page.goto(SITE)
    page.evaluate("() => { console.log('one', 2); console.warn('careful'); setTimeout(() => { throw new RangeError('uncaught') }, 0) }")
    ours = lambda: [s for s in said if s[1] in ("one 2", "careful")]
    eventually(lambda: page.evaluate("1") and thrown and len(ours()) == 2, "messages and an error")
    return {"said": ours(), "thrown": thrown}


def tracing(page, browser, **_):
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    page.goto(SITE)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    # How many events there are depends on the frames drawn meanwhile; these are always there.
    of_page = {event["name"] for event in events if SITE in json.dumps(event)}
    assert {"ResourceSendRequest", "CommitLoad", "ParseHTML"} <= of_page, of_page
    return {"events": True}


def two_clients(playwright, **_):
    clients = [playwright.chromium.connect_over_cdp(ENDPOINT) for _ in range(2)]
    pages = [client.new_context().new_page() for client in clients]
    pages[0].goto(SITE)
    pages[1].goto(f"{SITE}/second.html")
    titles = [[page.evaluate("document.title") for page in pages] for _ in range(20)]
    clients[0].close()
    after = pages[1].title()
    clients[1].close()
    assert all(pair == ["Ventus test site", "Second page"] for pair in titles)
    return {"after": after}


def reconnect(playwright, **_):
    first = playwright.chromium.connect_over_cdp(ENDPOINT)
    page = first.contexts[0].new_page()
    page.goto(f"{SITE}/second.html?kept")
    page.evaluate("window.kept = { value: 42 }")
    first.close()
    second = playwright.chromium.connect_over_cdp(ENDPOINT)
    again = next(p for p in second.contexts[0].pages if p.url.endswith("?kept"))
    kept = again.evaluate("window.kept")
    again.close()
    second.close()
    assert kept == {"value": 42}
    return {"kept": kept}


def close(playwright, **_):
    browser = playwright.chromium.connect_over_cdp(ENDPOINT)
    gone = []
    browser.on("disconnected", lambda _: gone.append(True))
    page = browser.contexts[0].new_page()
    try:
        browser.new_browser_cdp_session().send("Browser.close")
        page.wait_for_event("close", timeout=20_000)
    except Error:
        pass
    return {"connected": browser.is_connected()}


WITH_PAGE = [navigation, evaluate, screenshot, pdf, interception, popup, foreign_frame, worker, service_worker, dialog, upload, console, tracing]
ALONE = [two_clients, reconnect, close]


def main():
    failed = False
    with sync_playwright() as playwright:
        for scenario in WITH_PAGE + ALONE:
            name = scenario.__name__
            if ONLY and name not in ONLY:
                continue
            try:
                if scenario in ALONE:
                    seen = scenario(playwright=playwright)
                else:
                    browser = playwright.chromium.connect_over_cdp(ENDPOINT)
                    context = browser.new_context()
                    seen = scenario(playwright=playwright, browser=browser, context=context, page=context.new_page())
                    context.close()
                    browser.close()
                line = {"scenario": name, "seen": seen}
            except Exception:
                failed = True
                line = {"scenario": name, "error": traceback.format_exc().replace(ENDPOINT, "<endpoint>")}
            print(json.dumps(line), flush=True)
    # what is left of a browser that went away must not keep the process
    sys.stdout.flush()
    os._exit(1 if failed else 0)


main()
