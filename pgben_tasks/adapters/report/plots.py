"""The pictures of a report, drawn by matplotlib as PNG or SVG.

Only ``render`` imports this module, and only when it draws: matplotlib takes a second to import.
Figures are objects of their own, without pyplot's list of open ones.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from statistics import median
from threading import Lock
from typing import Final, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from pgben_tasks.adapters.report.parts import Calendar, Picture, Trend
from pgben_tasks.adapters.report.svg import small_svg
from pgben_tasks.adapters.report.words import ReportWords
from pgben_tasks.domain.nights import NightState
from pgben_tasks.words import LEVELS, SIGNS

#: Width of every picture in pixels of a page; PNGs have twice as many.
WIDTH: Final = 380
_DOTS: Final = 100
_TREND_HEIGHT: Final = 236

_TEXT: Final = "#1c1917"
_SOFT: Final = "#57534e"
_GRID: Final = "#d6d3d1"
_EARLIER: Final = "#93c5fd"
_THIS_WEEK: Final = "#1d4ed8"
#: Of each level the colour of a night, and that of its sign.
_NIGHTS: Final = {
    "good": ("#dcfce7", "#14532d"),
    "busy": ("#dbeafe", "#1e3a8a"),
    "doubt": ("#fef9c3", "#713f12"),
    "bad": ("#fee2e2", "#7f1d1d"),
    "plain": ("#e7e5e4", "#44403c"),
}
#: Borders that tell a night from the page where the colours are pale.
_EDGES: Final = {
    "good": "#86c79b",
    "busy": "#8fb0ea",
    "doubt": "#d9b84a",
    "bad": "#e07a7a",
    "plain": "#c4bfba",
}
_WEEK: Final = timedelta(days=7)
#: Spans longer than this have a mark for every month, shorter ones for every week.
_MONTHS_FROM: Final = timedelta(days=45)
_KIBI: Final = 1024
_NICE: Final = (1, 2, 4, 5, 6, 8, 10)
_SMALLEST: Final = 1e-6

#: What nobody's own matplotlibrc may change; it is read when figures are written, too.
mpl.rcdefaults()
mpl.rcParams.update(
    {
        "font.family": ["DejaVu Sans"],
        # Texts of an SVG stay texts, which readers can search; ids do not differ from run to run.
        "svg.fonttype": "none",
        "svg.hashsalt": "pgben",
        "text.parse_math": False,
    }
)
#: Figures share the caches of fonts, which threads may not.
_DRAWING: Final = Lock()


def draw(picture: Picture, words: ReportWords, form: Literal["png", "svg"]) -> bytes:
    """Return a picture; the same bytes for the same picture.

    An SVG is an element for a page of HTML, without declaration, styles and links.
    """
    with _DRAWING:
        figure = _trend(picture, words) if isinstance(picture, Trend) else _nights(picture, words)
        written = io.BytesIO()
        if form == "png":
            figure.savefig(
                written,
                format="png",
                dpi=2 * _DOTS,
                facecolor="#ffffff",
                metadata={"Software": None},
            )
            return written.getvalue()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return small_svg(
        written.getvalue(),
        name=picture.name,
        label=picture.alt,
        width=WIDTH,
        inks={_TEXT: "currentColor", _SOFT: "currentColor"},
    )


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH / _DOTS, height / _DOTS), dpi=_DOTS, facecolor="none")


def _points(pixels: float) -> float:
    return pixels * 72 / _DOTS


def _trend(trend: Trend, words: ReportWords) -> Figure:
    figure = _figure(_TREND_HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True)
    figure.subplots_adjust(left=0.18, right=0.985, top=0.89, bottom=0.105, hspace=0.42)
    moments = [one.at for one in trend.sizes]
    _panel(
        upper,
        trend,
        [(at, one.stored_bytes) for at, one in zip(moments, trend.sizes, strict=True)],
        title=trend.titles[0],
        scale=_scale_of_bytes(max(one.stored_bytes for one in trend.sizes)),
        words=words,
        newest=words.size(trend.sizes[-1].stored_bytes),
    )
    took = [(one.at, one.seconds) for one in trend.sizes if one.seconds is not None]
    _panel(
        lower,
        trend,
        took,
        title=trend.titles[1],
        scale=_scale_of_seconds(max((seconds for _at, seconds in took), default=0.0)),
        words=words,
        newest=words.duration(took[-1][1]) if took else "",
    )
    marks = _marks(trend, words)
    lower.set_xticks([at for at, _label in marks], [label for _at, label in marks])
    upper.tick_params(labelbottom=False)
    return figure


def _panel(
    axes: Axes,
    trend: Trend,
    values: Sequence[tuple[datetime, float]],
    *,
    title: str,
    scale: tuple[float, str, float],
    words: ReportWords,
    newest: str,
) -> None:
    unit, name, top = scale
    axes.set_title(title, loc="left", fontsize=_points(12.5), fontweight="bold", color=_TEXT, pad=5)
    axes.set_title(newest, loc="right", fontsize=_points(12.5), color=_TEXT, pad=5)
    width = _width_of_bars([at for at, _value in values])
    week = trend.until - min(_WEEK, trend.until - trend.since)
    for colour, mark, recent in (
        (_EARLIER, "report-earlier", False),
        (_THIS_WEEK, "report-this-week", True),
    ):
        bars = [(_days(at), value / unit) for at, value in values if (at >= week) is recent]
        if bars:
            boxes = _boxes((at - width / 2, 0, width, max(value, top / 150)) for at, value in bars)
            patch = PathPatch(boxes, facecolor=colour, linewidth=0, clip_on=False, gid=mark)
            axes.add_patch(patch)
    axes.set_xlim(_days(trend.since) - 1, _days(trend.until) + 1)
    axes.set_ylim(0, top)
    ticks = (0, top / 2, top)
    axes.set_yticks(ticks, [f"{words.decimal(tick)} {name}" if tick else "0" for tick in ticks])
    axes.tick_params(length=0, labelsize=_points(11), labelcolor=_SOFT, pad=4)
    axes.grid(visible=True, axis="y", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(color=_GRID, linewidth=0.8)


def _days(at: datetime) -> float:
    """Return a moment as a number of days."""
    return at.timestamp() / 86400


def _width_of_bars(moments: Sequence[datetime]) -> float:
    """Return the width of a bar in days: that of most gaps between backups, less a margin."""
    gaps = [
        (later - earlier) / timedelta(days=1)
        for earlier, later in pairwise(moments)
        if later > earlier
    ]
    return 0.74 * min(median(gaps), 1.0) if gaps else 0.74


def _boxes(boxes: Iterable[tuple[float, float, float, float]]) -> Path:
    """Return one path of many rectangles, each as left, bottom, width and height."""
    corners: list[tuple[float, float]] = []
    codes: list[np.uint8] = []
    for left, low, width, height in boxes:
        corners += [(left, low), (left, low + height), (left + width, low + height)]
        corners += [(left + width, low), (left, low)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path(corners, codes)


def _scale_of_bytes(most: float) -> tuple[float, str, float]:
    """Return a unit in bytes, its name, and the end of an axis in this unit."""
    unit, names = 1.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while most / unit >= _KIBI and len(names) > 1:
        unit, names = unit * _KIBI, names[1:]
    return unit, names[0], _nice(most / unit)


def _scale_of_seconds(most: float) -> tuple[float, str, float]:
    """Return a unit in seconds, its name, and the end of an axis in this unit."""
    unit, name = next(
        (found for found in ((3600.0, "h"), (60.0, "min")) if most >= 2 * found[0]), (1.0, "s")
    )
    return unit, name, _nice(most / unit)


def _nice(most: float) -> float:
    """Return a round number that is not less, whose half is round as well."""
    # Powers of what is smaller are too coarse, and nothing that is drawn is.
    if most <= _SMALLEST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (*_NICE, 20) if most <= step * power * 1.0001)


def _marks(trend: Trend, words: ReportWords) -> list[tuple[float, str]]:
    """Return the marks of the axis of days with their labels."""
    since, until = words.local(trend.since), words.local(trend.until)
    days = [date.fromordinal(at) for at in range(since.toordinal(), until.toordinal() + 1)]
    if trend.until - trend.since >= _MONTHS_FROM:
        chosen = [day for day in days if day.day == 1]
    else:
        chosen = days[::-7]
    zone = until.tzinfo
    return [(_days(datetime.combine(day, time(12), zone)), words.short_day(day)) for day in chosen]


#: Pixels of the calendar: the side of a night, the place of its labels, a line of the legend.
_CELL: Final = 26
_GAP: Final = 3
_LEFT: Final = 40
_TOP: Final = 20
_LEGEND_LINE: Final = 21
_LEGEND_LEFT: Final = 12


def _nights(calendar: Calendar, words: ReportWords) -> Figure:
    weeks = calendar.weeks
    below = 14 + _LEGEND_LINE * math.ceil(len(calendar.legend) / 2)
    height = _TOP + 7 * _CELL + below
    figure = _figure(height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    cell = min(_CELL, (WIDTH - _LEFT) / max(len(weeks), 1))
    for weekday in range(7):
        day = date.fromordinal(1 + weekday)
        _write(axes, _LEFT - 8, _TOP + (weekday + 0.5) * _CELL, words.weekday(day), align="right")
    boxes: dict[str, list[tuple[float, float]]] = {}
    for column, week in enumerate(weeks):
        left = _LEFT + column * cell
        for row, night in enumerate(week):
            if night is None:
                continue
            boxes.setdefault(LEVELS[night.state], []).append((left, _TOP + row * _CELL))
            _sign(
                axes, left + (cell - _GAP) / 2, _TOP + row * _CELL + (_CELL - _GAP) / 2, night.state
            )
    for column, month in calendar.months.items():
        _write(axes, _LEFT + column * cell, _TOP / 2, words.month(month), align="left")
    for number, (state, text) in enumerate(calendar.legend):
        left = _LEGEND_LEFT + (number % 2) * (WIDTH - _LEGEND_LEFT) * 0.5
        top = _TOP + 7 * _CELL + 12 + _LEGEND_LINE * (number // 2)
        boxes.setdefault(LEVELS[state], []).append((left, top))
        _sign(axes, left + (_CELL - _GAP) / 2 - 3, top + (_CELL - _GAP) / 2 - 3, state)
        _write(axes, left + _CELL, top + (_CELL - _GAP) / 2 - 3, text, align="left", colour=_TEXT)
    return _with_boxes(figure, axes, boxes, cell=cell, legend=_TOP + 7 * _CELL)


def _with_boxes(
    figure: Figure,
    axes: Axes,
    boxes: dict[str, list[tuple[float, float]]],
    *,
    cell: float,
    legend: float,
) -> Figure:
    """Draw the nights of each level as one path; those of the legend are smaller squares."""
    small = _CELL - _GAP - 6
    for level, places in boxes.items():
        path = _boxes(
            (left, top, small, small)
            if top >= legend
            else (left, top, max(cell - _GAP, 1), _CELL - _GAP)
            for left, top in places
        )
        axes.add_patch(
            PathPatch(
                path, facecolor=_NIGHTS[level][0], edgecolor=_EDGES[level], linewidth=_points(1)
            )
        )
    return figure


def _sign(axes: Axes, x: float, y: float, state: NightState) -> None:
    level = LEVELS[state]
    _write(axes, x, y, SIGNS[level], align="center", colour=_NIGHTS[level][1], bold=True)


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    align: str,
    colour: str = _SOFT,
    bold: bool = False,
) -> None:
    axes.text(
        x,
        y,
        text,
        ha=align,
        va="center_baseline",
        fontsize=_points(12),
        color=colour,
        fontweight="bold" if bold else "normal",
    )
