"""The XML that S3 servers speak, read without trusting it: no document types, no entities."""

from __future__ import annotations

from typing import NoReturn
from xml.etree import ElementTree as ET
from xml.parsers import expat


def strict_parser() -> expat.XMLParserType:
    """Make a parser that raises ``ExpatError`` at whatever declares an entity or a type."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    return parser


def read_xml(body: bytes) -> ET.Element:
    """Read an answer; names lose their namespaces. Raises ``ExpatError`` for what is no XML."""
    tree = ET.TreeBuilder()
    parser = strict_parser()
    parser.StartElementHandler = lambda name, _attributes: tree.start(local(name), {})
    parser.EndElementHandler = lambda name: tree.end(local(name))
    parser.CharacterDataHandler = tree.data
    parser.Parse(body, True)  # noqa: FBT003  # pyexpat's arguments have no names
    return tree.close()


def local(name: str) -> str:
    """Return an element's name without the prefix of its namespace."""
    return name.rpartition(":")[2]


def text_of(element: ET.Element, name: str) -> str:
    """Return the text of a child; empty when there is none."""
    return element.findtext(name) or ""


def _refuse(*_: object) -> NoReturn:
    raise expat.ExpatError("document types and entities are not for answers of S3")
