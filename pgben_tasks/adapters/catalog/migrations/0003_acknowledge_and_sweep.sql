-- Kinds of jobs that came later: acknowledging a suspect backup, sweeping, undoing a swap.
ALTER TABLE job DROP CONSTRAINT job_kind_check;
ALTER TABLE job ADD CONSTRAINT job_kind_check
    CHECK (kind IN ('backup', 'restore', 'verify', 'prune', 'acknowledge', 'sweep', 'undo'));

-- Whether somebody looked at a suspect backup and found it plausible.
ALTER TABLE backup ADD COLUMN acknowledged boolean NOT NULL DEFAULT false;
