-- The digest of the statement that an audit entry is about, if of one.
ALTER TABLE audit ADD COLUMN statement text;
