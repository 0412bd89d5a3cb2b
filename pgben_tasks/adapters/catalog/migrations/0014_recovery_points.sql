-- Jobs that join backups of databases and buckets in a recovery point.
ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check CHECK (kind IN
    ('backup', 'restore', 'verify', 'prune', 'acknowledge', 'sweep', 'undo', 'point'));

-- The recovery points of the repository: rebuildable from it, never an anchor of trust. Their state
-- is that of their members.
CREATE TABLE recovery_point (
    repository text NOT NULL,
    id text NOT NULL,
    -- The signed document, without what changes nothing here.
    document jsonb NOT NULL,
    PRIMARY KEY (repository, id)
);

ALTER TABLE alarm DROP CONSTRAINT alarm_kind_check;
ALTER TABLE alarm ADD CONSTRAINT alarm_kind_check CHECK (kind IN
    ('failed', 'damaged', 'suspect', 'faulty', 'overdue', 'stale', 'silent', 'expiring', 'refused'));

-- A step that waits for other jobs has given its place back.
ALTER TABLE step DROP CONSTRAINT step_state_check;
ALTER TABLE step ADD CONSTRAINT step_state_check CHECK (state IN
    ('offered', 'running', 'retrying', 'waiting', 'done', 'failed', 'interrupted'));
