-- The index also shows backups of which only the name is known: their manifest cannot be believed,
-- or is gone. And it mirrors what is stored, so it cannot refuse what it finds there.
ALTER TABLE backup
    ALTER COLUMN sequence DROP NOT NULL,
    ALTER COLUMN job DROP NOT NULL,
    ALTER COLUMN finished_at DROP NOT NULL,
    ALTER COLUMN snapshot_at DROP NOT NULL,
    ALTER COLUMN manifest_sha256 DROP NOT NULL,
    ALTER COLUMN stored_bytes DROP NOT NULL,
    ALTER COLUMN plain_bytes DROP NOT NULL,
    ALTER COLUMN row_count DROP NOT NULL,
    ALTER COLUMN table_count DROP NOT NULL,
    DROP CONSTRAINT backup_repository_target_sequence_key;
CREATE INDEX backup_newest ON backup (repository, target, sequence);
