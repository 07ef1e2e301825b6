"""Moving pictures: three positions on paper, and sliders that move the picture in JupyterLab."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from matplotlib.axes import Axes
from PIL import Image

from dytemp.lab.book import sliders

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 240  # for anything that the browser waits for, on a busy machine


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect what would be displayed."""
    matplotlib.use("Agg")
    things: list[Any] = []
    for module in (sliders, sliders.figures):
        monkeypatch.setattr(module, "display", lambda *several: things.extend(several))
    yield things
    plt.close("all")


def line(axes: Axes, tau: float) -> None:
    axes.plot([0, 1], [0, tau])


def test_three_positions_are_drawn_before_the_sliders(shown: list[Any]) -> None:
    positions = [{"tau": 0.1}, {"tau": 0.5}, {"tau": 1.0}]
    sliders.moving(line, "Steeper from left to right.", positions, tau=[0.2, 0.3])
    figure, caption, box = shown
    assert [axes.get_title() for axes in figure.axes] == ["τ = 0.1", "τ = 0.5", "τ = 1"]
    assert caption.data == "*Steeper from left to right.*"
    slider, picture = box.children
    assert Image.open(io.BytesIO(picture.value)).size > (300, 100)
    assert [value for _, value in slider.options] == [0.1, 0.2, 0.3, 0.5, 1.0]
    assert (slider.value, slider.description) == (0.5, "τ")


def test_moving_a_slider_draws_again(shown: list[Any]) -> None:
    drawn: list[tuple[float, float]] = []

    def remember(axes: Axes, tau_min: float, tau_max: float) -> None:
        drawn.append((tau_min, tau_max))

    start = [{"tau_min": 0.05, "tau_max": 0.2}, {"tau_min": 0.1, "tau_max": 0.2}]
    sliders.moving(remember, "", start, tau_min=[0.1], tau_max=[0.2, 0.5])
    low, high, picture = shown[-1].children
    before = picture.value
    low.value, high.value = 0.05, 0.5
    assert picture.value != before
    assert drawn == [(0.05, 0.2), (0.1, 0.2), (0.1, 0.2), (0.05, 0.2), (0.05, 0.5)]


def test_positions_without_a_value_are_refused(shown: list[Any]) -> None:
    with pytest.raises(ValueError, match="shown must have values for tau, got"):
        sliders.moving(line, "", [{"rho": 1.0}, {"rho": 2.0}], tau=[1.0])


# ------------------------------------------------------------------------------- in a real browser

CELL = """
from dytemp.lab.book import figures, sliders
figures.style()
def draw(axes, tau):
    axes.fill_between([0, 1], [tau, tau])
    axes.set(ylim=(0, 1))
sliders.moving(draw, "Higher.", [{"tau": t} for t in (0.1, 0.5, 0.9)], tau=[0.2, 0.7])
"""


@pytest.fixture
def jupyter(tmp_path: Path, write_notebook: Any) -> Iterator[str]:
    """Start JupyterLab with one notebook; yield its address."""
    write_notebook(tmp_path / "moving.ipynb", CELL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += [
        "--ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--ServerApp.disable_check_xsrf=True",
    ]
    command += ["--allow-root", f"--ServerApp.root_dir={tmp_path}"]
    log = (tmp_path / "jupyter.log").open("w")
    environment = {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1", "HOME": str(tmp_path)}
    environment |= {"PATH": str(Path(sys.executable).parent) + ":/usr/bin:/bin"}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/lab/tree/moving.ipynb"
    finally:
        server.terminate()
        server.wait(30)


def wait_for_port(port: int) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    raise TimeoutError("JupyterLab did not start")


@pytest.mark.notebooks
@pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver")
def test_slider_moves_the_picture_in_jupyterlab(jupyter: str, tmp_path: Path) -> None:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.remote.webelement import WebElement
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for word in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{word}")
    options.add_argument("--window-size=1400,1200")
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    try:
        browser.get(jupyter)
        # JupyterLab replaces elements while it loads: what was found may be gone, then look again.
        wait = WebDriverWait(browser, SECONDS, ignored_exceptions=[WebDriverException])

        def find(selector: str) -> list[WebElement]:
            return browser.find_elements(By.CSS_SELECTOR, selector)

        def run_the_cell(_: object) -> bool:
            (editor,) = find(".jp-CodeCell .cm-content")
            editor.click()
            editor.send_keys(Keys.SHIFT, Keys.ENTER)
            return True

        def two_pictures(_: object) -> list[str] | None:
            found = [picture.get_attribute("src") for picture in find(".jp-OutputArea img")]
            return found if len(found) == 2 else None  # three panels, and the one that moves

        def seen(_: object) -> list[np.ndarray[Any, Any]]:
            return [pixels(picture.screenshot_as_png) for picture in find(".jp-OutputArea img")]

        wait.until(lambda _: find("[data-status='idle']"))
        wait.until(run_the_cell)
        start = wait.until(two_pictures)
        still, before = wait.until(seen)
        wait.until(lambda _: find(".noUi-handle")[0].send_keys(Keys.ARROW_RIGHT) or True)
        wait.until(lambda _: (two_pictures(_) or start)[1] != start[1])
        unmoved, after = wait.until(seen)
    finally:
        browser.quit()
    assert before.std() > 0
    # Another value may take another height: that is a change, too.
    assert before.shape != after.shape or (before != after).any()
    assert (still == unmoved).all()


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))
