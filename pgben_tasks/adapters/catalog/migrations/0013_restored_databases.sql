-- Copies that restores made beside the original. Only what is known here is ever removed by itself.
CREATE TABLE restored_database (
    job uuid PRIMARY KEY,
    target text NOT NULL,
    name text NOT NULL,
    oid bigint NOT NULL,
    -- The server's transaction counter when its rows were compared, and a digest of their numbers.
    checked_at bigint NOT NULL,
    contents text NOT NULL,
    -- Whether pgben chose the name: what somebody named is never removed by itself.
    generated boolean NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Why it stays for good, where somebody decided that or something tells that it is used.
    kept_because text,
    -- When it was removed, or was found to be gone.
    gone_at timestamptz
);
ALTER TABLE swap ADD COLUMN kept_because text;
ALTER TABLE alarm DROP CONSTRAINT alarm_kind_check;
ALTER TABLE alarm ADD CONSTRAINT alarm_kind_check CHECK (kind IN
    ('failed', 'damaged', 'suspect', 'overdue', 'stale', 'silent', 'expiring', 'refused'));
