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
