-- How many objects a snapshot of a bucket holds; rows and tables are those of databases.
ALTER TABLE backup ADD COLUMN object_count bigint;
