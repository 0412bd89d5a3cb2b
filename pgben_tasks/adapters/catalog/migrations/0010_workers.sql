-- What a worker publishes of itself: the revision of signed documents that it reads, and the PostgreSQL
-- clients of its machine. A worker of an older version leaves both empty.
ALTER TABLE worker ADD COLUMN reads integer;
ALTER TABLE worker ADD COLUMN clients jsonb;
-- What decides which clients can restore a dump; empty for buckets, and for rows written before.
ALTER TABLE backup ADD COLUMN client_major integer;
ALTER TABLE backup ADD COLUMN dump_compression text;
ALTER TABLE backup ADD COLUMN server_major integer;
-- What this site lacked to restore the backup when that was last verified.
ALTER TABLE backup ADD COLUMN needs text;
