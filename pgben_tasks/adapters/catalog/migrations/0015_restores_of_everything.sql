-- Jobs that restore everything of a recovery point, and that undo the swaps of one.
ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check CHECK (kind IN
    ('backup', 'restore', 'restore_all', 'verify', 'prune', 'acknowledge', 'sweep', 'undo',
     'undo_all', 'point'));
