-- The history for people. Every end of an attempt is noted by the transaction that ends it, whoever
-- that is and of whatever version: a job that is begun again forgets how it ended before.
CREATE TABLE job_end (
    -- In the order in which ends were committed; what was read up to a number is complete.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job uuid NOT NULL REFERENCES job ON DELETE CASCADE,
    -- 0 for a job that nobody had claimed.
    attempt integer NOT NULL,
    -- As of the job; 'lost' where the attempt's worker was lost and the job was begun again.
    state text NOT NULL,
    at timestamptz NOT NULL,
    began_at timestamptz,
    backup text,
    error jsonb,
    retry_at timestamptz
);
CREATE INDEX job_end_job ON job_end (job);

-- The folders with files of the history, by the id in each: up to which end its files are written.
CREATE TABLE history_folder (
    id text PRIMARY KEY,
    number bigint NOT NULL,
    node text NOT NULL,
    path text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Whether somebody asked for its files to be written anew.
    rewrite boolean NOT NULL DEFAULT false
);

-- Folders that cannot be written, for as long as that is so.
CREATE TABLE history_outage (
    node text NOT NULL,
    path text NOT NULL,
    why text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, path)
);

-- What is known of the past: a job that was begun again has its attempts, without their backups.
INSERT INTO job_end (job, attempt, state, at, began_at, backup, error, retry_at)
    SELECT job.id, one.attempt, one.state, one.at, one.began_at, one.backup, one.error, one.retry_at
    FROM job JOIN LATERAL (
        SELECT a.n AS attempt, a.state, a.ended_at AS at, a.started_at AS began_at,
            CASE WHEN a.n = job.attempt THEN job.backup END AS backup, a.error,
            CASE WHEN a.n = job.attempt THEN job.retry_at END AS retry_at
        FROM attempt a WHERE a.job = job.id AND a.ended_at IS NOT NULL
            AND a.state IN ('succeeded', 'failed', 'refused', 'cancelled', 'lost')
        UNION ALL
        -- Ends of which no attempt tells: before the first, and between two.
        SELECT job.attempt, job.state, job.ended_at, NULL, job.backup, job.error, job.retry_at
        WHERE job.ended_at IS NOT NULL AND NOT EXISTS (SELECT FROM attempt a WHERE a.job = job.id
            AND a.n = job.attempt AND a.state = job.state)
    ) one ON true
    ORDER BY one.at;

-- These run when a transaction commits, and then hold a lock until it is over: numbers are given in
-- the order of commits, and nobody waits for a row of a job while holding the lock.
CREATE FUNCTION note_job_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7290114403);
    INSERT INTO job_end (job, attempt, state, at, began_at, backup, error, retry_at)
        VALUES (NEW.id, NEW.attempt, NEW.state, coalesce(NEW.ended_at, clock_timestamp()),
            (SELECT started_at FROM attempt WHERE job = NEW.id AND n = NEW.attempt),
            NEW.backup, NEW.error, NEW.retry_at);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER job_ended AFTER UPDATE OF state ON job
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state IN ('succeeded', 'failed', 'refused', 'cancelled')
        AND NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION note_job_end();

CREATE FUNCTION note_lost_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7290114403);
    INSERT INTO job_end (job, attempt, state, at, began_at)
        VALUES (NEW.job, NEW.n, NEW.state, coalesce(NEW.ended_at, clock_timestamp()),
            NEW.started_at);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER attempt_lost AFTER UPDATE OF state ON attempt
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.state = 'lost' AND OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION note_lost_attempt();
