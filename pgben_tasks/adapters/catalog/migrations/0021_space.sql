-- How full each place was that is written to: one row for each place and day, the day's last measurement.
CREATE TABLE space_sample (
    place text NOT NULL CHECK (place IN ('spool', 'repository', 'restore')),
    location text NOT NULL,
    -- The day in UTC.
    day date NOT NULL,
    -- Whose spool it is; null for what is not one node's.
    node text,
    used bigint NOT NULL,
    -- Of the used bytes, what jobs that had not ended held.
    passing bigint NOT NULL,
    -- Null where nobody knows.
    capacity bigint,
    -- Whether the numbers are about a limit of the settings instead of a volume.
    limited boolean NOT NULL,
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (place, location, day)
);

-- A place that fills. The others of the list are of migrations that may not be applied yet, or never.
ALTER TABLE alarm DROP CONSTRAINT alarm_kind_check;
ALTER TABLE alarm ADD CONSTRAINT alarm_kind_check CHECK (kind IN
    ('failed', 'after_swap', 'damaged', 'suspect', 'faulty', 'overdue', 'stale', 'silent', 'expiring',
     'refused', 'unverified', 'unsent', 'message', 'foreign', 'in_place', 'space'));
