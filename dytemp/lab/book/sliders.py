"""Pictures that move: sliders in a notebook that runs, three of their positions on paper.

A page without a kernel (the site, GitHub, a print) cannot move a slider. So a moving picture is
first drawn at three positions, side by side, as an ordinary figure; the sliders come below.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import Image, Layout, SelectionSlider, VBox
from matplotlib.axes import Axes

from dytemp.lab.book import figures

SYMBOLS = {"tau": "τ", "rho": "ρ", "tau_min": "τ₋", "tau_max": "τ₊"}


def moving(
    draw: Callable[..., None],
    caption: str,
    shown: Sequence[Mapping[str, float]],
    projection: str | None = None,
    **positions: Sequence[float],
) -> None:
    """Show a picture at some positions of its sliders, then the sliders.

    Parameters
    ----------
    draw : callable
        ``draw(axes, **values)`` draws the picture for one value of each slider.
    caption : str
        Says what to see in the pictures side by side.
    shown : sequence of dict
        The values of these pictures, usually three; the sliders begin at the second.
    projection : str, optional
        Of the axes, ``"mollweide"`` for a sphere.
    **positions : sequence of float
        For each slider its name and its positions. Values of `shown` are added to them.

    Raises
    ------
    ValueError
        If an entry of `shown` does not have a value for each slider.
    """
    for values in shown:
        if values.keys() != positions.keys():
            raise ValueError(f"shown must have values for {', '.join(positions)}, got {values}")
    keywords = {"projection": projection} if projection else {}
    figure, panels = figures.panels(
        len(shown), sharey=projection is None, subplot_kw=keywords, height=2.6
    )
    for axes, values in zip(panels, shown, strict=True):
        _draw(draw, axes, values)
    figures.show(figure, caption)

    start = shown[len(shown) // 2]
    sliders = {}
    for name, places in positions.items():
        every = sorted({float(value) for value in [*places, *(each[name] for each in shown)]})
        sliders[name] = SelectionSlider(
            options=[(f"{value:.3g}", value) for value in every],
            value=float(start[name]),
            description=SYMBOLS.get(name, name),
            continuous_update=False,
            layout=Layout(width="95%", max_width="40rem"),
        )
    # An image that is drawn anew, and no captured output: a program that runs the notebook would
    # answer each picture of the latter, and has been seen to miss the kernel's reply over that.
    picture = Image(format="png", layout=Layout(max_width="100%"))

    def redraw(_: object = None) -> None:
        figure, axes = plt.subplots(figsize=(7, 3.6), subplot_kw=keywords)
        _draw(draw, axes, {name: slider.value for name, slider in sliders.items()})
        png = io.BytesIO()
        figure.savefig(png, format="png")
        plt.close(figure)
        picture.value = png.getvalue()

    for slider in sliders.values():
        slider.observe(redraw, "value")
    redraw()
    display(VBox([*sliders.values(), picture]))  # type: ignore[no-untyped-call]


def _draw(draw: Callable[..., None], axes: Axes, values: Mapping[str, float]) -> None:
    draw(axes, **values)
    if not axes.get_title():
        axes.set_title(", ".join(f"{SYMBOLS.get(k, k)} = {v:.3g}" for k, v in values.items()))
