"""The learning curve, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

Points: TypeAlias = Sequence[tuple[float, float]]

_COLORS: Final = ("#377eb8", "#e41a1c", "#4daf4a")
_WIDTH, _HEIGHT = 640, 360


def draw(
    series: Mapping[str, Points],
    path: str | Path,
    *,
    title: str,
    x_name: str = "steps of the optimizer",
    percent: bool = False,
) -> None:
    """Write series of points as lines to an SVG file, the same bytes for the same points.

    It has a background of its own, so it is readable on any page. `percent` is for values from 0 to 1. Raises
    ModuleNotFoundError that says how to get what draws it.
    """
    leather = _leather()
    for text in ("title", "axis_title", "tick", "legend"):
        setattr(leather.theme, f"{text}_font_family", "sans-serif")
    leather.theme.label_color = leather.theme.axis_title_color = leather.theme.title_color
    chart = leather.Chart(title)
    last = max(x for points in series.values() for x, _ in points)
    steps = max(1, -(-int(last) // 12))
    chart.add_x_axis(ticks=range(0, int(last) + 1, steps), name=x_name)
    # a single point makes no scale by itself
    chart.add_x_scale(0, max(1, last))
    if percent:
        chart.add_y_axis(ticks=[0, 0.25, 0.5, 0.75, 1], tick_formatter=lambda value, *_: f"{value:.0%}")
        chart.add_y_scale(0, 1)
    for color, (name, points) in zip(_COLORS, series.items(), strict=False):
        told = {"name": name} if len(series) > 1 else {}
        chart.add_line(list(points), stroke_color=color, width=4, **told)
    drawn = str(chart.to_svg(width=_WIDTH, height=_HEIGHT))
    # with a view box, narrow pages shrink it
    framed = drawn.replace("<svg", f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}"', 1)
    Path(path).write_text(framed + "\n", "utf-8")


def _leather() -> Any:
    try:
        import leather  # noqa: PLC0415  whoever draws nothing needs it not
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the learning curve is drawn by leather, which is not installed; pip install 'backtalk[training]'"
        ) from error
    return leather
