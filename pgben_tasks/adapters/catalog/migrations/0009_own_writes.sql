-- What restores in place are about to write or delete in protected buckets, so that the next snapshot
-- does not take it for an attack: numbers only, for keys may be personal data. A row refers to its job
-- by id only. A further attempt writes rows of its own: the number is rather too high than too low.
CREATE TABLE own_write (
    job uuid NOT NULL,
    attempt integer NOT NULL,
    -- A pack whose objects are written, or a number of extra objects that are deleted.
    part text NOT NULL,
    target text NOT NULL,
    objects bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job, attempt, part)
);
CREATE INDEX own_write_newest ON own_write (target, at);
