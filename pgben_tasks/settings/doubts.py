"""Values that work and are doubtful: they are told, never refused.

Texts are templates with named gaps, as `pgben doctor` translates them (pgben_tasks.language).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from pgben_tasks.language import translatable as _

#: What every server has after its installation; template0 takes no connections and is refused.
_OF_THE_SERVER: Final = frozenset({"postgres", "template1"})


class Doubt(NamedTuple):
    """One doubtful value: a sentence and what to do about it, and the facts that fill both."""

    sentence: str
    hint: str
    facts: dict[str, str]

    def __str__(self) -> str:
        """Return the sentence in English."""
        return self.sentence.format_map(self.facts)


def doubtful_addresses(settings: Mapping[str, Iterable[str]]) -> Iterator[Doubt]:
    """Yield the mail addresses, by their setting, whose domain is the name of one machine."""
    for setting, addresses in settings.items():
        for address in addresses:
            domain = address.rpartition("@")[2]
            # Between brackets it is an address of the network (RFC 5321, 4.1.3).
            if "." not in domain and not domain.startswith("["):
                yield Doubt(
                    _("{setting} has '{address}', an address without a domain"),
                    _(
                        "only the machine or network of the mail server knows it; write one like "
                        "'admin@example.org' if people read their mail elsewhere"
                    ),
                    {"setting": setting, "address": address},
                )


def doubtful_databases(names: Iterable[str]) -> Iterator[Doubt]:
    """Yield the protected databases that every server has from the start."""
    for name in names:
        if name in _OF_THE_SERVER:
            yield Doubt(
                _("the protected database '{database}' is one that every server has at first"),
                _(
                    "data of applications are usually in another: see PGBEN_DB_NAME and "
                    "PGBEN_SERVERS_FILE"
                ),
                {"database": name},
            )
