"""The composition root: settings become adapters and a toolbox, once per process.

Nothing else builds adapters.
"""

from pgben_tasks.runtime.places import (
    PATIENCE,
    catalog_database,
    first_server,
    history_folders,
    kept_servers,
    mailer,
    node_name,
    open_repository,
    open_store,
    postgres_servers,
    s3_location,
    signer,
    swap_hooks,
    swap_servers,
    trust,
)
from pgben_tasks.runtime.process import Workplace, forget, workplace
from pgben_tasks.runtime.tools import abandon, step_locks, toolbox

__all__ = [
    "PATIENCE",
    "Workplace",
    "abandon",
    "catalog_database",
    "first_server",
    "forget",
    "history_folders",
    "kept_servers",
    "mailer",
    "node_name",
    "open_repository",
    "open_store",
    "postgres_servers",
    "s3_location",
    "signer",
    "step_locks",
    "swap_hooks",
    "swap_servers",
    "toolbox",
    "trust",
    "workplace",
]
