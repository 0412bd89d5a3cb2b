"""What results of `pgben doctor` say in English: a sentence, and what to do. Nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "any.failed": ("{why}", "{remedy}"),
    "any.unseen": ("could not be looked at without '{what}'", "mend that first, then ask again"),
    "settings.ok": ("{count} of {all} settings are set, the others have their defaults", ""),
    "settings.ignored": (
        "variables of Kubernetes' service links are left aside: {names}",
        "set enableServiceLinks to false in the pods, as k8s/ does",
    ),
    "settings.retired": (
        "settings that nothing obeys were retired and are left aside: {names}",
        "take them out of the environment",
    ),
    "catalog.ok": ("the catalog '{name}' at {server} answers and is up to date", ""),
    "catalog_place.ok": ("the catalog '{name}' is on a server of its own", ""),
    "catalog_place.same": (
        "the catalog '{name}' is on the protected server {server} and is lost together with it",
        "put it on another server: PGBEN_CATALOG_URL, then `pgben init`",
    ),
    "broker.ok": ("Redis {version} answers", ""),
    "broker.old": ("Redis {version} is older than 6.2", "upgrade Redis to 6.2 or newer"),
    "broker_memory.ok": ("Redis keeps what it is given: append-only file, no eviction", ""),
    "broker_memory.evicts": (
        "Redis may throw messages away: its maxmemory-policy is '{policy}'",
        "set 'maxmemory-policy noeviction' in redis.conf, on an instance of pgben's own",
    ),
    "broker_memory.volatile": (
        "Redis forgets its messages when it is restarted",
        "set 'appendonly yes' and 'appendfsync everysec' in redis.conf",
    ),
    "broker_memory.unwritten": (
        "Redis cannot write its append-only file",
        "look at the disk of Redis, its owner and its log",
    ),
    "queues.ok": ("messages that wait: {lengths}", ""),
    "queues.unread": (
        "{count} message(s) wait in the queue '{queue}', and no worker reads it",
        "start one with `python -m workers {queue}`",
    ),
    "repository.ok": ("{place} has {backups} backup(s) of {targets} target(s); its id is {id}", ""),
    "repository_writable.ok": ("the repository takes what is written to it", ""),
    "repository_writable.denied": (
        "this user may not write to the repository '{path}'",
        "give the folder to the workers' user, mode 0700",
    ),
    "repository_writable.owed": (
        "{count} audit entries wait to be stored in the repository, the oldest for {minutes} min",
        "look at the maintenance worker's log, its store credential and its signing key",
    ),
    "trusted_keys.ok": ("trusted keys are read from '{path}'", ""),
    "trusted_keys.none": (
        "no trusted keys are set, so no backup can be believed",
        "set PGBEN_TRUSTED_KEYS_FILE to the file that `pgben init` wrote",
    ),
    "signing_key.ok": ("the signing key {fingerprint}… is trusted as {roles}", ""),
    "signing_key.none": (
        "no signing key is set: this process can look and ask, and write nothing",
        "workers need PGBEN_SIGNING_KEY_FILE",
    ),
    "signing_key.untrusted": (
        "the signing key {fingerprint}… is not in the trusted keys file",
        "use the key that `pgben init` made, or add its public half on every machine",
    ),
    "recipients.ok": ("backups are sealed to {count} recipients", ""),
    "recipients.one": (
        "backups are sealed to one recipient only: when its key is lost, they never open again",
        "add the escrow key's public half to PGBEN_AGE_RECIPIENTS",
    ),
    "recipients.none": (
        "encryption is on and no recipients are set",
        "set PGBEN_AGE_RECIPIENTS to the public keys that `pgben init` printed",
    ),
    "recipients.off": (
        "encryption is off: whoever reads the repository reads the data",
        "set PGBEN_ENCRYPTION=on and PGBEN_AGE_RECIPIENTS, unless that is meant",
    ),
    "identities.ok": ("identities are readable by their owner only: {files}", ""),
    "identities.none": ("no identity is set here, as is usual where nothing is restored", ""),
    "opening.ok": ("'{path}' opens what is sealed now", ""),
    "opening.none": ("nothing is opened here", ""),
    "opening.foreign": (
        "'{path}' does not open what is sealed now",
        "set PGBEN_AGE_IDENTITY_FILE to the identity of one of PGBEN_AGE_RECIPIENTS",
    ),
    "escrow.ok": ("the escrow key does not lie beside the other keys", ""),
    "escrow.here": (
        "the escrow key still lies on this machine: '{path}'",
        "copy it to two places that are not this machine, then delete it here",
    ),
    "postgres.ok": ("{target} answers at {server}, PostgreSQL {version}, and can be dumped", ""),
    "buckets.ok": ("{target} answers at {server}", ""),
    "buckets.none": (
        "no bucket is protected: PGBEN_MINIO_ACCESS_KEY is not set, or its file is empty",
        "",
    ),
    "buckets.half": (
        "no bucket is protected: PGBEN_MINIO_SECRET_KEY is set and PGBEN_MINIO_ACCESS_KEY is not",
        "set both, or neither",
    ),
    "buckets.named": ("buckets are protected; no secret key is at hand here, so none is asked", ""),
    "buckets.missing": (
        "{target} does not exist at {server}",
        "make the bucket, or correct PGBEN_BUCKETS and PGBEN_MINIO_HOST",
    ),
    "buckets.blind": (
        "no identity at hand opens inventories, so buckets cannot be backed up from here",
        "set PGBEN_INVENTORY_IDENTITY_FILE on workers that back up buckets",
    ),
    "role.ok": ("'{user}' may dump and restore {target}", ""),
    "role.limited": (
        "'{user}' is no superuser: it may dump {target} and not restore it",
        "give restore workers a superuser in PGBEN_DB_USER",
    ),
    "clients.ok": ("{target} is dumped by the clients {version} in '{folder}'", ""),
    "clients.plain": (
        "{target} is dumped by clients {version} in '{folder}' that were built without zstd",
        "install the clients of PostgreSQL's own packages: dumps need half the room then",
    ),
    "holes.ok": ("no release with a known hole is in use", ""),
    "holes.server": (
        "the server {where} is PostgreSQL {version}, which has {hole}",
        "upgrade it to {mended} or newer",
    ),
    "holes.client": (
        "the client programs in '{where}' are of {version}, which has {hole}",
        "upgrade them to {mended} or newer",
    ),
    "clocks.ok": ("the clocks agree to within {seconds} s", ""),
    "clocks.apart": (
        "the clock of {server} is {seconds} s ahead of this machine's",
        "run NTP on every machine (chrony, systemd-timesyncd)",
    ),
    "spool.ok": ("the spool '{path}' is private and has {free} free", ""),
    "spool.absent": (
        "the spool '{path}' is not there",
        "the first worker makes it; on a machine without workers that is well",
    ),
    "spool.file": ("the spool '{path}' is no folder", "PGBEN_SPOOL_DIR must name a folder"),
    "spool.mode": ("the spool '{path}' has the mode {mode}", "run `chmod 700 {path}`"),
    "spool.owner": (
        "the spool '{path}' belongs to the user {owner}, and this is {user}",
        "run doctor as the workers' user, or give the folder to that user",
    ),
    "spool.denied": (
        "the spool '{path}' cannot be written",
        "look whether its volume is mounted read-only",
    ),
    "spool_room.ok": ("the largest database ({needed}) fits into the spool ({left} left)", ""),
    "spool_room.small": (
        "the largest database ({needed}) may not fit into the spool '{path}' ({left} left)",
        "make room there, use a larger volume, or raise PGBEN_SPOOL_LIMIT",
    ),
    "node.ok": ("this is the node '{node}'", ""),
    "node.new": ("no worker has run with this spool yet", ""),
    "node.foreign": (
        "PGBEN_NODE is '{wanted}', and the spool '{path}' belongs to '{kept}'",
        "give each node its own PGBEN_SPOOL_DIR",
    ),
    "disks.ok": ("{used} of the disk of '{path}' is used, {free} are free", ""),
    "disks.full": (
        "{used} of the disk of '{path}' is used, PGBEN_DISK_CRITICAL is {critical}",
        "make room or enlarge it; never delete files of a repository by hand",
    ),
    "workers.ok": ("workers of every role live: {names}", ""),
    "workers.absent": (
        "no worker of the role '{role}' lives",
        "start one with `python -m workers {role}`, or all with `python -m workers all`",
    ),
    "tick.ok": ("the reconciler runs", ""),
    "tick.never": (
        "the reconciler has not run yet",
        "beat wakes it every minute; if it stays so, start `python -m workers beat`",
    ),
    "tick.without_beat": (
        "beat is down; a maintenance worker stands in for it",
        "start it with `python -m workers beat`",
    ),
    "tick.silent": (
        "the reconciler has not run for five minutes (last: {last})",
        "start beat with `python -m workers beat`, and a maintenance worker",
    ),
    "mail.ok": ("failures are told to {to} through {host}", ""),
    "mail.incomplete": ("nobody hears of a failure by mail: {names} not set", "set {names}"),
    "backups.ok": ("{target} can be restored from {backup}, {hours} h old", ""),
    "backups.none": ("{target} has no verified backup", "run `pgben backup {target}`"),
    "backups.old": (
        "the newest verified backup of {target} is {hours} h old, PGBEN_RPO is {rpo} h",
        "see `pgben jobs` for why the last one failed, then `pgben backup {target}`",
    ),
    "verifications.ok": ("{target} was read in full within {days} days", ""),
    "verifications.overdue": (
        "the stored bytes of {target} were not read for more than {days} days",
        "run `pgben verify --level full`, and see whether beat runs",
    ),
}
