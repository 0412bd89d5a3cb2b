-- The job ledger: this, never the broker, decides what a job's state is.
CREATE TABLE job (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    key text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('backup', 'restore', 'verify', 'prune')),
    target text NOT NULL,
    -- The scheduled moment this job stands for; null for jobs on demand.
    window_at timestamptz,
    request jsonb NOT NULL,
    requested_by text NOT NULL,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'refused', 'cancelled')),
    -- Grows whenever the job changes hands; a step with an older fence must stop.
    fence bigint NOT NULL DEFAULT 0,
    attempt integer NOT NULL DEFAULT 0,
    node text,
    backup text,
    -- The Celery id that callers wait on: the last step of every chain of this job carries it.
    root_task text,
    -- The running step, or the next one while waiting.
    step text,
    -- Until when the next step must have begun, and since when it waits for that.
    step_due_at timestamptz,
    waiting_since timestamptz,
    -- How often in a row the job was taken from a worker that was lost.
    losses integer NOT NULL DEFAULT 0,
    -- Whether what a failed job left behind must still be removed.
    cleanup boolean NOT NULL DEFAULT false,
    -- What steps leave for later steps and for people; small JSON, nothing secret.
    context jsonb NOT NULL DEFAULT '{}',
    result jsonb NOT NULL DEFAULT '{}',
    error jsonb,
    retry_at timestamptz,
    published_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX job_open ON job (state) WHERE state IN ('queued', 'running', 'waiting');
CREATE INDEX job_newest ON job (created_at DESC);

CREATE TABLE attempt (
    job uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    n integer NOT NULL,
    state text NOT NULL,
    node text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    error jsonb,
    PRIMARY KEY (job, n)
);

CREATE TABLE step (
    job uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    attempt integer NOT NULL,
    name text NOT NULL,
    fence bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'retrying', 'done', 'failed', 'interrupted')),
    node text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    -- How often it was tried again after a passing failure.
    retries integer NOT NULL DEFAULT 0,
    progress jsonb NOT NULL DEFAULT '{}',
    result jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, attempt, name)
);

-- Who owns a target across the steps of a chain, from claim to end.
CREATE TABLE lease (
    target text NOT NULL,
    kind text NOT NULL,
    job uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    fence bigint NOT NULL,
    PRIMARY KEY (target, kind)
);

-- One row per worker, named <role>.<node>: the queue that only it consumes.
CREATE TABLE worker (
    name text PRIMARY KEY,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

-- The per-target sequence number that defines previous and newest.
CREATE TABLE backup_sequence (
    repository text NOT NULL,
    target text NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (repository, target)
);

-- The index of the repository: rebuildable from it, never an anchor of trust.
CREATE TABLE backup (
    repository text NOT NULL,
    target text NOT NULL,
    id text NOT NULL,
    sequence bigint NOT NULL,
    state text NOT NULL,
    suspect text,
    job text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    snapshot_at timestamptz NOT NULL,
    manifest_sha256 text NOT NULL,
    stored_bytes bigint NOT NULL,
    plain_bytes bigint NOT NULL,
    row_count bigint NOT NULL,
    table_count bigint NOT NULL,
    verified_at timestamptz,
    PRIMARY KEY (repository, target, id),
    UNIQUE (repository, target, sequence)
);

CREATE TABLE audit (
    sequence bigint PRIMARY KEY,
    previous text,
    at timestamptz NOT NULL,
    who text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    backup text NOT NULL,
    job text NOT NULL,
    result text NOT NULL,
    detail text NOT NULL,
    sha256 text NOT NULL,
    -- Whether the signed copy in the repository is known to exist.
    stored boolean NOT NULL DEFAULT false
);
