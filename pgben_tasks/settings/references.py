"""Which rows name which objects: the file of PGBEN_REFERENCES."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from pgben_tasks.domain.references import Reference
from pgben_tasks.settings.faults import explain
from pgben_tasks.settings.sources import read_toml


class ReferencesFile(NamedTuple):
    """A file of references, each the table of its name."""

    path: Path
    references: tuple[Reference, ...]


def read_references(value: object) -> object:
    """Read the TOML file of references; anything but a path passes unchanged.

    Raises ``ValueError`` with one sentence per fault, none of which repeats a value.
    """
    if not isinstance(value, str):
        return value
    path = Path(value)
    references: list[Reference] = []
    faults: list[str] = []
    for name, table in read_toml(path).items():
        try:
            fields = table if isinstance(table, dict) else {}
            references.append(Reference.model_validate({"name": name, **fields}))
        except ValidationError as exc:
            faults.extend(f"{name}: {fault}" for fault in explain(exc))
    if faults:
        raise ValueError(f"names '{path}', where {'; '.join(faults)}")
    return ReferencesFile(path, tuple(references))
