"""Writes docs/configuration.md: ``make configuration``.

A test compares the page with what this gives, so that it never lags behind the model.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pgben_tasks.settings.model import Settings, is_secret, show_setting
from pgben_tasks.settings.sources import PREFIX, RETIRED

#: Each heading stands before the first field of its part.
_HEADINGS: Final = {
    "db_host": "Protected databases",
    "minio_host": "Protected buckets",
    "repository": "Repository, logs and spool",
    "redis_url": "Queue and catalog",
    "schedule_postgres": "Schedules",
    "retention_days": "Retention and plausibility",
    "verify_days": "Objectives",
    "keep_replaced": "Backing up and restoring",
    "age_recipients": "Keys",
    "smtp_host": "Reports and alerts",
}

_INTRODUCTION: Final = """\
# Configuration

This page is made from the settings' model by `make configuration`; a test keeps it current.

Everything is an environment variable. `pgben config` shows the effective values, where each came
from, and no secrets. All faults are reported at once, and an unknown `PGBEN_*` variable is a fault
that names the nearest setting; only what Kubernetes injects for Services named `pgben-…`, and
retired settings, are ignored, with a line in the log and a warning of `pgben doctor`.

- **Secrets** (marked 🔒) may also come from a file: `NAME_FILE` names it. Setting both is a fault.
- **Empty** variables count as not set. An empty file is a fault; those of `PGBEN_MINIO_ACCESS_KEY`
  and `PGBEN_MINIO_SECRET_KEY` say that no bucket is protected.
- **Durations** are written `12h`, `7d`, `30min` or `1d12h`; **sizes** `64MiB`; **shares** as a
  fraction of 1, `0.2`; **switches** `on` or `off`; **lists** with commas.
- **What cannot work** is refused when it is read: a port or a user in a host's name, a name that no
  bucket can have, a relative folder, a mistyped key, a size or number beyond what can be used.
  **What is doubtful** works, with a line in the log and a warning of `pgben config` and
  `pgben doctor`: a mail address without a domain, the databases `postgres` and `template1`.
- **Schedules** are cron lines of five fields, read in `PGBEN_TIMEZONE`: a local time that does not
  exist runs at the next minute, one that exists twice runs once.
{retired}

## Several database servers

`PGBEN_SERVERS_FILE` names a TOML file with one table for each further server. Its name is free;
targets are named by database alone, so a name may occur on one server only.

```toml
[reports]
host = "reports.example.org"
port = 5432                                 # default
user = "backup"                             # default: postgres
password_file = "/run/secrets/reports"      # or: password = "…"
databases = ["reports", "archive"]
```
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([_INTRODUCTION.replace("{retired}", _retired()), *_lines()]) + "\n"


def _retired() -> str:
    names = ", ".join(f"`{name}`" for name in sorted(RETIRED) if not name.endswith("_FILE"))
    return textwrap.fill(
        f"- **Retired** settings, which nothing ever obeyed: {names}. A later version may bring "
        "one back.",
        width=100,
        subsequent_indent="  ",
    )


def _lines() -> Iterator[str]:
    for field, info in Settings.model_fields.items():
        if field in _HEADINGS:
            yield from (
                f"## {_HEADINGS[field]}",
                "",
                "| setting | default | meaning |",
                "|---|---|---|",
            )
        lock = " 🔒" if is_secret(field) else ""
        yield f"| `{PREFIX}{field.upper()}`{lock} | {_default(field, info)} | {info.description} |"
        if field in _LAST:
            yield ""


def _default(field: str, info: FieldInfo) -> str:
    found_later = info.default is PydanticUndefined
    shown = show_setting(field, None if found_later else info.default)
    return shown if found_later or info.default in {None, ()} else f"`{shown}`"


_FIELDS: Final = tuple(Settings.model_fields)
_LAST: Final = {before for before, field in pairwise(_FIELDS) if field in _HEADINGS}

if __name__ == "__main__":
    sys.stdout.write(page())
