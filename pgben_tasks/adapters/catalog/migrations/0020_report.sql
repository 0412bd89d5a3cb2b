-- Jobs that make reports, and those that hold backups.
ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check CHECK (kind IN
    ('backup', 'restore', 'restore_all', 'verify', 'prune', 'acknowledge', 'sweep', 'undo',
     'undo_all', 'point', 'hold', 'report'));

-- The reports that were made, newest last by their id: what each says, and its pages by language.
-- Each is kept in the repository as well, as one file.
CREATE TABLE report (
    id text PRIMARY KEY,
    job uuid,
    window_at timestamptz,
    made_at timestamptz NOT NULL,
    colour text NOT NULL CHECK (colour IN ('green', 'yellow', 'red')),
    document jsonb NOT NULL,
    pages jsonb NOT NULL
);
