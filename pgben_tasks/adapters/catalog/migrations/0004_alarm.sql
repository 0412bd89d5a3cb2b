-- The outbox of alarms: what was worth telling people, and whether a mail server took it.
CREATE TABLE alarm (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- One per occurrence: however often it is seen, it is told once.
    key text NOT NULL UNIQUE,
    kind text NOT NULL
        CHECK (kind IN ('failed', 'damaged', 'suspect', 'overdue', 'stale', 'silent', 'refused')),
    target text NOT NULL,
    -- No reference: what was told outlives the job it told of.
    job uuid,
    -- When what it tells of happened; for a job its end.
    happened_at timestamptz NOT NULL,
    -- Short texts for the mail, nothing secret.
    facts jsonb NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text
);
CREATE INDEX alarm_unsent ON alarm (raised_at) WHERE sent_at IS NULL;
CREATE INDEX alarm_job ON alarm (job);

-- The ends that may be worth an alarm; good ones are many and are left out.
CREATE INDEX job_bad_end ON job (ended_at)
    WHERE state IN ('failed', 'refused') OR (state = 'succeeded' AND result ->> 'suspect' IS NOT NULL);
