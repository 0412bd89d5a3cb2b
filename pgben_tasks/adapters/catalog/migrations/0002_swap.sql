-- One row per swap, written before anything is touched and settled when its end is known. It refers
-- to its job by id only, so that it outlives the job: a database that was set aside is found by it.
CREATE TABLE swap (
    job uuid PRIMARY KEY,
    target text NOT NULL,
    -- Names and oids: "incoming" takes the name "live", whose database becomes "aside".
    live text NOT NULL,
    incoming text NOT NULL,
    aside text NOT NULL,
    live_oid bigint NOT NULL,
    incoming_oid bigint NOT NULL,
    -- Whether connections to the live database were allowed before.
    was_open boolean NOT NULL,
    -- The job whose swap this one turns back.
    undoes uuid,
    state text NOT NULL DEFAULT 'intended'
        CHECK (state IN ('intended', 'done', 'abandoned', 'undone', 'dropped')),
    intended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at timestamptz
);
CREATE INDEX swap_open ON swap (state) WHERE state IN ('intended', 'done');

ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check
    CHECK (kind IN ('backup', 'restore', 'verify', 'prune', 'undo'));
