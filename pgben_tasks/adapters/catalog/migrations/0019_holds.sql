-- Jobs that hold a backup, so that retention keeps it, or release it.
ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check CHECK (kind IN
    ('backup', 'restore', 'restore_all', 'verify', 'prune', 'acknowledge', 'hold', 'sweep', 'undo',
     'undo_all', 'point', 'report'));

-- What the last decision about holding a backup says, whether or not that has ended: until when (empty:
-- until somebody releases it), who decided, and what it is kept for.
ALTER TABLE backup ADD COLUMN held boolean NOT NULL DEFAULT false;
ALTER TABLE backup ADD COLUMN held_until timestamptz;
ALTER TABLE backup ADD COLUMN held_by text;
ALTER TABLE backup ADD COLUMN hold_label text;
