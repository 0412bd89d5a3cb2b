"""Every setting: its name, kind, default and meaning; ``docs/configuration.md`` is made from this.

Declarations only: where values come from and what is derived from them stands in ``model``.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from pgben_tasks.language import Language
from pgben_tasks.settings import values as kinds
from pgben_tasks.settings.broker import DEFAULT_REDIS_URL
from pgben_tasks.settings.folders import Folder, SpoolFolder
from pgben_tasks.settings.hosts import DatabaseHost, MailHost
from pgben_tasks.settings.references import ReferencesFile, read_references
from pgben_tasks.settings.servers import ServersFile, read_servers
from pgben_tasks.settings.sources import PREFIX
from pgben_tasks.settings.values import SecretUrl


def _unlike_the_first(value: ServersFile | None, info: ValidationInfo) -> ServersFile | None:
    """Refuse a database name that two servers claim: targets are named by database alone."""
    names = [*info.data.get("db_name", ())]
    for server in value.servers.values() if value else ():
        names += server.databases
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"and PGBEN_DB_NAME name the database '{twice[0]}' on two servers: a target needs a "
            "name of its own"
        )
    return value


def _catalog_beside(data: dict[str, Any]) -> SecretUrl:
    """Derive the catalog's URL: database pgben_catalog on the PGBEN_DB server."""
    password = data["db_pass"]
    user = quote(data["db_user"], safe="")
    if password is not None:
        user += ":" + quote(password.get_secret_value(), safe="")
    host = data["db_host"]
    # An IPv6 address may have a zone behind a percent sign.
    is_ipv6 = ":" in host and not host.startswith("/")
    host = f"[{quote(host, safe=':')}]" if is_ipv6 else quote(host, safe="")
    return SecretUrl(f"postgresql://{user}@{host}:{data['db_port']}/pgben_catalog")


def setting(default: Any, meaning: str, *, shown: str | None = None) -> Any:
    """Declare a setting; ``shown`` stands for a default that is found only later."""
    return Field(default, description=meaning, json_schema_extra={"shown": shown})


#: Secrets whose file may be empty, which says that there is none: the files of an installation are
#: the same whether it protects buckets or not, and whoever is told. One that cannot be read stays
#: a fault.
OPTIONAL_FILES: Final = frozenset(
    {"minio_access_key", "minio_secret_key", "alert_urls", "heartbeat_url"}
)


class Fields(BaseSettings):
    """Every setting as a field: ``PGBEN_DB_HOST`` is ``db_host``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    db_host: DatabaseHost = setting(
        "localhost", "Server of the protected databases: a name, an address or a socket's folder."
    )
    db_port: kinds.Port = setting(5432, "Its port.")
    db_user: str = setting(
        "postgres", "Role that dumps: a superuser, or one with BYPASSRLS and pg_read_all_data."
    )
    db_pass: SecretStr | None = setting(None, "Its password.")
    db_name: kinds.DatabaseNames = setting(("pgben",), "Protected databases of this server.")
    servers_file: Annotated[
        ServersFile | None, BeforeValidator(read_servers), AfterValidator(_unlike_the_first)
    ] = setting(
        None,
        "TOML file of further servers, one table each: `host`, `port`, `user`, `password` or "
        "`password_file`, `databases`.",
    )

    references: Annotated[ReferencesFile | None, BeforeValidator(read_references)] = setting(
        None,
        "TOML file of what rows say of objects, one table each: `database`, `bucket`, `table` or "
        "`query`, `key`, and `row`, `size`, `hash`, `hash_in`, `where`, `needs`.",
    )
    references_strict: bool = setting(
        default=False,
        meaning="Whether rows without their objects make `pgben status` red instead of yellow.",
    )

    minio_host: kinds.Endpoint = setting(
        "localhost:9000", "Server of the protected buckets: `host:port` or a whole URL."
    )
    minio_secure: bool = setting(
        default=False,
        meaning="Whether a `PGBEN_MINIO_HOST` without a scheme is spoken to over TLS.",
    )
    minio_access_key: SecretStr | None = setting(None, "Access key for the protected buckets.")
    minio_secret_key: SecretStr | None = setting(None, "Secret key for the protected buckets.")
    minio_ca_file: Path | None = setting(None, "Certificate authority of that server.")
    minio_region: kinds.Region = setting("us-east-1", "Region that requests to it are signed for.")
    minio_addressing: Literal["path", "virtual"] = setting(
        "path",
        "Where requests name the bucket: in their `path`, or before the server's name (`virtual`).",
    )
    buckets: kinds.BucketNames = setting(
        ("pgben-documents",), "Protected buckets; none while PGBEN_MINIO_ACCESS_KEY is not set."
    )

    repository: kinds.RepositoryUrl = setting(
        "file:///backup/repository", "Where backups live: `file:///folder` or `s3://bucket/prefix`."
    )
    repository_endpoint: kinds.EndpointUrl | None = setting(
        None, "Server of an `s3://` repository: `https://host:port`."
    )
    repository_access_key: SecretStr | None = setting(None, "Access key for the repository.")
    repository_secret_key: SecretStr | None = setting(None, "Secret key for the repository.")
    repository_ca_file: Path | None = setting(None, "Certificate authority of that server.")
    repository_quota: kinds.Size | None = setting(
        None,
        "Most bytes that an `s3://` repository may hold, which its server does not say.",
    )
    backup_dir: Folder = setting(
        Path("/backup/postgres"),
        "Folder of `backup-log.txt` and `backup-history.csv`, which the maintenance worker writes.",
    )
    minio_backup_dir: Folder = setting(Path("/backup/minio"), "The same for buckets.")
    spool_dir: SpoolFolder = setting(
        Path("/var/lib/pgben/spool"),
        "Where dumps wait until they are stored: a folder of its own, mode 0700.",
    )
    spool_limit: kinds.Size | None = setting(None, "Most bytes the spool may hold.")
    node: kinds.Node | None = setting(
        None,
        "Name of this worker's queue `backup.<node>`, unique among workers.",
        shown="host name at first start, then kept in the spool",
    )

    redis_url: kinds.RedisUrl = setting(
        SecretUrl(DEFAULT_REDIS_URL), "Broker; results go to database 1 of the same server."
    )
    catalog_url: kinds.PostgresUrl = Field(
        default_factory=_catalog_beside,
        description="The catalog's database; a server other than the protected one is better.",
        json_schema_extra={"shown": "database pgben_catalog on the PGBEN_DB server"},
    )

    schedule_postgres: kinds.Cron = setting("0 2 * * *", "When databases are backed up.")
    schedule_buckets: kinds.Cron = setting("0 3 * * *", "When buckets are backed up.")
    schedule_verify: kinds.Cron = setting("0 8 * * 1", "When everything is verified in full.")
    point_settle: kinds.Settle = setting(
        timedelta(minutes=5),
        "How long after the data of the databases the listings of a recovery point's buckets begin "
        "at least: uploads in flight are stored by then.",
    )
    timezone: kinds.Zone = setting("America/Fortaleza", "Time zone of the schedules.")
    catch_up: kinds.Duration = setting(
        timedelta(hours=12), "How long after its time a missed window is still run."
    )

    retention_days: kinds.Days = setting(30, "Age in days after which backups may expire.")
    keep_daily: kinds.Count | None = setting(None, "Daily backups kept beyond that age.")
    keep_weekly: kinds.Count | None = setting(None, "Weekly backups kept beyond that age.")
    keep_monthly: kinds.Count | None = setting(None, "Monthly backups kept beyond that age.")
    prune_brake: kinds.Share = setting(
        Decimal("0.2"), "Share of a target's verified backups that one run may remove."
    )
    suspect_shrink: kinds.Share = setting(
        Decimal("0.3"), "Share of bytes, rows or tables whose loss makes a backup suspect."
    )
    suspect_changed: kinds.Share = setting(
        Decimal("0.2"), "Share of objects whose overwriting makes a snapshot suspect."
    )
    vacate_share: kinds.Share = setting(
        Decimal("0.05"), "Share of the repository's bytes that one night may write anew."
    )

    verify_days: kinds.Days = setting(7, "Days after which a verification is overdue.")
    rpo: kinds.Duration = setting(timedelta(hours=24), "Most data, in time, that may be lost.")
    rto: kinds.Duration = setting(
        timedelta(hours=4), "Longest time that a restore may take; the last one is measured by it."
    )

    keep_replaced: kinds.Duration = setting(
        timedelta(days=7), "How long a database that a restore replaced is kept."
    )
    keep_restored: kinds.Duration = setting(
        timedelta(days=14),
        "How long a copy that a restore made beside the original, under a name of pgben's, is kept "
        "while nobody uses it.",
    )
    before_swap: kinds.SwapCommand | None = setting(
        None,
        "Command that a restore worker runs before databases are swapped, as "
        "`/etc/pgben/hooks/pause now`: split into words as a shell does, but run by none, without "
        "this environment; when it fails, nothing is swapped.",
    )
    after_swap: kinds.SwapCommand | None = setting(
        None,
        "The same after databases were swapped; when it fails, that is an alarm.",
    )
    restore_approval: Literal["confirm", "token"] = setting(
        "confirm", "What a restore that replaces something needs: `confirm` or `token`."
    )
    dump_jobs: kinds.Parallel = setting(2, "Parallel jobs of pg_dump and pg_restore.")
    copy_concurrency: kinds.Parallel = setting(16, "Parallel transfers of objects.")
    tag_budget: kinds.Duration = setting(
        timedelta(minutes=10), "How long one night may read the tags of unchanged objects."
    )
    pack_size: kinds.PackSize | None = setting(
        None,
        "Bytes of small members that share a pack: `64KiB` to `16GiB`.",
        shown="64MiB dumps, 16MiB objects",
    )
    disk_critical: kinds.Share = setting(Decimal("0.8"), "Share of a full disk that alarms.")

    age_recipients: kinds.Recipients = setting(
        (), "Public keys of age that backups are sealed to; at least two are wise."
    )
    age_identity_file: Path | None = setting(None, "Secret key that opens contents.")
    inventory_identity_file: Path | None = setting(None, "Secret key that opens inventories only.")
    signing_key_file: Path | None = setting(None, "Secret key that signs what this worker writes.")
    trusted_keys_file: Path | None = setting(None, "Public signing keys by role.")
    encryption: bool = setting(default=True, meaning="Whether packs are sealed: `on` or `off`.")

    smtp_host: MailHost | None = setting(None, "Mail server: a name or an address.")
    smtp_port: kinds.Port = setting(587, "Its port.")
    smtp_user: str | None = setting(None, "User on the mail server.")
    smtp_pass: SecretStr | None = setting(None, "Password on the mail server.")
    smtp_from: kinds.Address | None = setting(
        None,
        "Sender of mails.",
        shown="PGBEN_SMTP_USER where that is an address, else the first of PGBEN_ADMIN_EMAIL",
    )
    smtp_security: Literal["none", "starttls", "tls"] = setting(
        "starttls", "Protection of the connection: `none`, `starttls` or `tls`."
    )
    smtp_ca_file: Path | None = setting(None, "Certificate authority of the mail server.")
    admin_email: kinds.Addresses = setting((), "Who receives reports and alerts.")
    alert_urls: kinds.AlertUrls = setting(
        (),
        "Further channels of alarms: URLs as Apprise knows them (chats, telephones, webhooks), "
        "between white space or one per line.",
    )
    heartbeat_url: kinds.HeartbeatUrl | None = setting(
        None,
        "URL of pings as healthchecks.io takes them, with the word `kind`, and `target` if wanted, "
        "in braces: pinged when a job of that kind begins, ends and fails, and by every tick.",
    )
    contacts: kinds.Contacts = setting(
        (), "People to reach, one `name; mail; phone` per line; printed wherever help is needed."
    )
    language: Language = setting(
        "pt_BR",
        "Language of `pgben doctor`, mails and the recovery card, with the errors and hints in "
        "them; other screens, logs and JSON are English.",
    )
    console_users_file: Path | None = setting(
        None,
        "File of the console's users, one `name role hash` per line: `pgben console user add` "
        "writes it.",
    )
    step_wait: kinds.Duration = setting(
        timedelta(minutes=30), "How long a step may wait for a worker before an alarm."
    )
