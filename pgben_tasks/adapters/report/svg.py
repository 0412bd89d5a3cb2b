"""Makes an SVG that matplotlib wrote small, and fit for a page that allows no inline styles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree as ET

_NAMESPACE: Final = "{http://www.w3.org/2000/svg}"
_XLINK: Final = "{http://www.w3.org/1999/xlink}"
_NUMBER: Final = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_NUMBERED: Final = frozenset({"d", "x", "y", "transform", "viewBox", "width", "height", "points"})
_DECLARATION: Final = re.compile(r"\s*([a-z-]+)\s*:\s*([^;]+)")
#: What only repeats what is so anyway.
_SAYS_NOTHING: Final = {("fill-opacity", "1"), ("stroke-opacity", "1"), ("clip-rule", "nonzero")}
#: Elements whose ids are classes, for a stylesheet to give them the colours of a dark page.
_CLASS: Final = "report-"


def small_svg(
    written: bytes, *, name: str, label: str, width: int, inks: Mapping[str, str]
) -> bytes:
    """Return an element ``svg`` whose ids begin with ``name``, described to readers by ``label``.

    Styles become attributes, numbers have one digit after the point, and ``inks`` replaces colours.
    """
    root = ET.fromstring(written)  # noqa: S314 - matplotlib wrote it, a line ago
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{_NAMESPACE}metadata", f"{_NAMESPACE}style"}:
                parent.remove(child)
    used = {value for element in root.iter() for value in _references(element)}
    for element in root.iter():
        _simplify(element, used, name, inks)
    _flatten(root)
    box = root.get("viewBox", "0 0 1 1").split()
    height = round(width * float(box[3]) / float(box[2]))
    root.attrib = {
        "xmlns": _NAMESPACE.strip("{}"),
        "class": "report-plot",
        "viewBox": " ".join(box),
        "width": str(width),
        "height": str(height),
        "role": "img",
        "aria-label": label,
        "font-family": "system-ui, sans-serif",
        "stroke-linejoin": "round",
    }
    for element in root.iter():
        element.tag = element.tag.removeprefix(_NAMESPACE)
        element.text = element.text if element.text and element.text.strip() else None
        element.tail = None
    return ET.tostring(root, encoding="unicode").encode()


def _references(element: ET.Element) -> list[str]:
    values = [value for key, value in element.items() if key.endswith("href")]
    clipped = re.findall(r"url\(#([^)]+)\)", " ".join(element.attrib.values()))
    return [*(value.removeprefix("#") for value in values), *clipped]


def _simplify(element: ET.Element, used: set[str], name: str, inks: Mapping[str, str]) -> None:
    found: dict[str, str] = {}
    for key, value in element.items():
        if key == "style":
            found.update(_DECLARATION.findall(value))
        elif key == "id":
            found.update(_named(value, used, name))
        elif key.startswith(_XLINK):
            found["href"] = f"#{name}-{value.removeprefix('#')}"
        else:
            found[key] = value.replace("url(#", f"url(#{name}-")
    if font := found.pop("font", None):
        found.update(_font(font))
    for key in {"fill", "stroke"} & found.keys():
        found[key] = inks.get(found[key], found[key])
    if found.get("transform", "").startswith("rotate(-0 "):
        del found["transform"]
    element.attrib = {
        key: _NUMBER.sub(_short, " ".join(value.split())) if key in _NUMBERED else value.strip()
        for key, value in found.items()
        if (key, value.strip()) not in _SAYS_NOTHING and key != "font-family"
    }


def _named(id_: str, used: set[str], name: str) -> dict[str, str]:
    """Return the id of an element that is referred to, or the class that its id stands for."""
    if id_ in used:
        return {"id": f"{name}-{id_}"}
    return {"class": id_} if id_.startswith(_CLASS) else {}


def _font(font: str) -> dict[str, str]:
    """Return what matters of a font that is given in one declaration."""
    size = re.search(r"[\d.]+px", font)
    weight = re.search(r"\b(bold|[1-9]00)\b", font)
    return {
        **({"font-size": size[0]} if size else {}),
        **({"font-weight": weight[0]} if weight else {}),
    }


def _short(found: re.Match[str]) -> str:
    return f"{float(found[0]):.1f}".removesuffix(".0")


def _flatten(root: ET.Element) -> None:
    """Replace groups that say nothing by what they hold, and drop empty ones."""
    held: list[ET.Element] = []
    for child in root:
        _flatten(child)
        if child.tag == f"{_NAMESPACE}g" and not child.attrib:
            held.extend(child)
        elif len(child) or child.tag not in {f"{_NAMESPACE}g", f"{_NAMESPACE}defs"}:
            held.append(child)
    root[:] = held
