"""The few protocols that operations need; adapters implement them, tests bring fakes.

Nothing here knows a vendor. All sizes are bytes, all moments are aware and UTC, all digests are
lower-case hex SHA-256.
"""

from pgben_tasks.domain.documents import SigningRole
from pgben_tasks.domain.packing import PackPlan
from pgben_tasks.ports.buckets import (
    Bucket,
    FetchedObject,
    ListedObject,
    ObjectFacts,
    Uploads,
)
from pgben_tasks.ports.hooks import Moment, SwapHooks
from pgben_tasks.ports.packs import (
    DigestIndex,
    Kept,
    ObjectCodec,
    ObjectPacks,
    ObjectPackWriter,
    Sealed,
)
from pgben_tasks.ports.postgres import (
    Capture,
    ClientTools,
    PostgresDestination,
    PostgresKeptDatabases,
    PostgresSource,
    PostgresSwap,
    Preflight,
)
from pgben_tasks.ports.report import Images, Render, RenderedReport, Reporting
from pgben_tasks.ports.repository import (
    ObjectStore,
    PackCodec,
    Repository,
    StoredObject,
    Unfinished,
)
from pgben_tasks.ports.sharing import Sharing, Taken
from pgben_tasks.ports.work import (
    Channel,
    Clock,
    Mail,
    Mailer,
    Progress,
)

__all__ = [
    "Bucket",
    "Capture",
    "Channel",
    "ClientTools",
    "Clock",
    "DigestIndex",
    "FetchedObject",
    "Images",
    "Kept",
    "ListedObject",
    "Mail",
    "Mailer",
    "Moment",
    "ObjectCodec",
    "ObjectFacts",
    "ObjectPackWriter",
    "ObjectPacks",
    "ObjectStore",
    "PackCodec",
    "PackPlan",
    "PostgresDestination",
    "PostgresKeptDatabases",
    "PostgresSource",
    "PostgresSwap",
    "Preflight",
    "Progress",
    "Render",
    "RenderedReport",
    "Reporting",
    "Repository",
    "Sealed",
    "Sharing",
    "SigningRole",
    "StoredObject",
    "SwapHooks",
    "Taken",
    "Unfinished",
    "Uploads",
]
