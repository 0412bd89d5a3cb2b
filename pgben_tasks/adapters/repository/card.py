"""``repository.json``: a repository's id, read before any key is known."""

from __future__ import annotations

import re
from typing import Final

from pgben_tasks.domain import layout
from pgben_tasks.domain.documents import RepositoryCard
from pgben_tasks.errors import ConfigurationError, ManifestInvalid, ObjectMissing
from pgben_tasks.ports import ObjectStore

#: What a card may have in bytes.
CARD_LIMIT: Final = 64 * 1024
#: The id is part of what signatures cover, so its form is checked.
REPOSITORY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{7,63}", re.ASCII)


def read_card(store: ObjectStore) -> RepositoryCard:
    """Return the card of the repository in ``store``.

    Raises ``ConfigurationError`` when there is none, ``ManifestInvalid`` when it is damaged.
    """
    try:
        data = store.get(layout.REPOSITORY_CARD, limit=CARD_LIMIT)
    except ObjectMissing as exc:
        raise ConfigurationError(
            f"there is no repository at '{store.describe()}'",
            "correct PGBEN_REPOSITORY; only a new installation begins with `pgben init`",
        ) from exc
    card = RepositoryCard.decode(data, where=layout.REPOSITORY_CARD)
    if not REPOSITORY_ID.fullmatch(card.repository):
        raise ManifestInvalid(
            f"'{layout.REPOSITORY_CARD}' is not valid: its repository id has a wrong form",
            "restore the file from the copy of the repository",
        )
    return card


def has_card(store: ObjectStore) -> bool:
    """Return whether there is a repository in ``store``."""
    try:
        store.head(layout.REPOSITORY_CARD)
    except ObjectMissing:
        return False
    return True
