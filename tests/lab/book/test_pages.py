"""The whole book as its readers get it: links, pages in a browser, no network."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dytemp.lab.book import execution, site

PHONE = 390  # pixels
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository; two of its chapters stand for what was just executed."""
    home = tmp_path_factory.mktemp("home")
    for name in ("book", "data", "notebooks"):
        (home / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYTEMP_HOME", str(home))
        first, second = execution.chapters()[:2]
        executed = [
            execution.Outcome(first.stem, first, None, 1.0, ()),
            execution.Outcome(second.stem, second, "cell [3]: ValueError: no", 2.0, ("0" * 16,)),
        ]
        return site.build(home / "site", site.Live("quick", executed)).parent


@pytest.fixture(scope="module")
def pages(book: Path) -> dict[Path, BeautifulSoup]:
    return {
        file: BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        for file in sorted(book.rglob("*.html"))
        if "_static" not in file.parts
    }


def test_sphinx_has_nothing_to_say(book: Path) -> None:
    assert (book.parent / "build" / "book" / "warnings.txt").read_text() == ""


def test_links_inside_the_book_resolve(pages: dict[Path, BeautifulSoup]) -> None:
    anchors = {
        file: {tag[key] for key in ("id", "name") for tag in soup.select(f"[{key}]")}
        for file, soup in pages.items()
    }
    broken = []
    for file, soup in pages.items():
        for tag, key in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
            for target in {element[key] for element in soup.select(f"{tag}[{key}]")}:
                parts = urlsplit(target)
                if parts.scheme or target == "#":
                    continue
                to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
                known = anchors.get(to, {parts.fragment})
                if not to.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                    broken.append(f"{file.name}: {target}")
    assert not broken, broken


def test_nothing_is_loaded_from_the_network(pages: dict[Path, BeautifulSoup]) -> None:
    for file, soup in pages.items():
        sources = [e.get("src") or e.get("href") for e in soup.select("[src], link[href]")]
        outside = [source for source in sources if urlsplit(source).netloc]
        assert not outside, f"{file.name}: {outside}"


def test_every_figure_says_what_it_shows(pages: dict[Path, BeautifulSoup]) -> None:
    for file, soup in pages.items():
        silent = [image["src"] for image in soup.select("article img") if not image.get("alt")]
        assert not silent, f"{file.name}: {silent}"


def test_formulas_are_valid(pages: dict[Path, BeautifulSoup]) -> None:
    for file, soup in pages.items():
        broken = [each.text for each in soup.select("code.formula")]
        assert not broken, f"{file.name}: {broken}"
        if file.parent.name == "notebooks":  # no formula was left as its source
            copy = BeautifulSoup(str(soup.article), "html.parser")
            for each in copy.select("code, pre, math, table, .output"):
                each.decompose()
            assert not re.search(r"\\\w+|\$", copy.text), file.name


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        reason = "the pages are tested in Chromium: apt install chromium chromium-driver"
        if os.environ.get("DYTEMP_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.page_load_strategy = "eager"
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    # Else some themes scroll smoothly, and the driver clicks where a link is not yet.
    options.add_argument("--force-prefers-reduced-motion")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


def requests(browser: webdriver.Chrome) -> list[str]:
    """Addresses that were asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def errors(browser: webdriver.Chrome) -> list[str]:
    """What the console has complained of since the last call."""
    return [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_every_page_opens_on_a_phone(
    browser: webdriver.Chrome, pages: dict[Path, BeautifulSoup]
) -> None:
    size = {"width": PHONE, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    requests(browser)
    wide, complaints = {}, {}
    for file in pages:
        browser.get(file.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > PHONE:
            wide[file.name] = width
        if found := errors(browser):
            complaints[file.name] = found
    assert not wide
    assert not complaints
    outside = [url for url in requests(browser) if urlsplit(url).scheme not in ("file", "data")]
    assert not outside


def test_code_that_draws_opens_with_one_click(browser: webdriver.Chrome, book: Path) -> None:
    browser.get((book / "notebooks" / "00_temperature.html").as_uri())
    folded = browser.find_element(By.CSS_SELECTOR, "details.hide")
    code = folded.find_element(By.TAG_NAME, "pre")
    assert not code.is_displayed()
    folded.find_element(By.TAG_NAME, "summary").click()
    WebDriverWait(browser, 20).until(lambda _: code.is_displayed())


def test_search_finds_a_word(browser: webdriver.Chrome, book: Path) -> None:
    browser.get((book / "search.html").as_uri() + "?q=uniformity")
    links = "#search-results li a"
    WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(
        lambda page: any(  # results come one by one
            "00_temperature.html" in (link.get_attribute("href") or "")
            for link in page.find_elements(By.CSS_SELECTOR, links)
        )
    )
    assert not errors(browser)


SHOWN = [
    (page.name, number, words)
    for page in sorted((ROOT / "book").glob("*.md"))
    for number, words in re.findall(r'shown\("(\d+)", "(.+?)"\)', page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "number", "words"), SHOWN)
def test_what_a_page_refers_to_is_there(page: str, number: str, words: str) -> None:
    (chapter,) = execution.chapters(number)
    notebook = nbformat.read(chapter, as_version=4)
    assert any(words in cell.source for cell in notebook.cells), f"{page}: {words!r}"
