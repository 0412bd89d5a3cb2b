"""Uploads in parts that a killed process left in a bucket: noted while they last, ended later.

In ``uploads/`` of the job's folder, one file each. Only what is noted there is ever given up: other
uploads, even of the same keys, are somebody else's. Listing them would not tell whose they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import structlog

from pgben_tasks.errors import ConfigurationError, PermanentError
from pgben_tasks.operations import spool
from pgben_tasks.operations.buckets.current import unnamed
from pgben_tasks.ports import Bucket

log = structlog.get_logger(__name__)


class NotedUploads:
    """Notes the uploads to one bucket (``ports.Uploads``)."""

    def __init__(self, folder: Path, bucket: str) -> None:
        """Note in the job's ``folder`` what is uploaded to ``bucket``."""
        self._folder = _notes(folder)
        self._bucket = bucket

    def begun(self, key: str, upload: str) -> None:
        """Note an upload, durably."""
        with spool.disk_errors(self._folder):
            self._folder.mkdir(mode=0o700, exist_ok=True)
        note = {"bucket": self._bucket, "key": key, "upload": upload}
        spool.write_durably(self._note(key, upload), json.dumps(note).encode())

    def ended(self, key: str, upload: str) -> None:
        """Forget an upload."""
        self._note(key, upload).unlink(missing_ok=True)

    def _note(self, key: str, upload: str) -> Path:
        # Neither may stand in a path: they are foreign.
        name = json.dumps([self._bucket, key, upload])
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def give_up_uploads(folder: Path, open_bucket: Callable[[str], Bucket]) -> None:
    """Remove the parts that an earlier run of the job left; its ``folder`` has the notes.

    Only passing failures are raised: where a key may not do this, the restore is what matters.
    """
    given_up = 0
    for path in sorted(_notes(folder).glob("*.json")):
        note: dict[str, str] = json.loads(spool.read(path))
        try:
            with unnamed(note["key"]):
                bucket = open_bucket(note["bucket"])
                # With a bucket that was removed its uploads went.
                if bucket.exists():
                    bucket.give_up(note["key"], note["upload"])
        except (ConfigurationError, PermanentError) as exc:
            log.warning("upload_not_given_up", why=exc.sentence, hint=exc.hint)
            continue
        path.unlink()
        given_up += 1
    if given_up:
        log.info("uploads_given_up", uploads=given_up)


def _notes(folder: Path) -> Path:
    return folder / "uploads"
