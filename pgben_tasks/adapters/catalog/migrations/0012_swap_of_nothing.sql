-- Where no database has the name that is swapped in, nothing is set aside.
ALTER TABLE swap ALTER COLUMN aside DROP NOT NULL, ALTER COLUMN live_oid DROP NOT NULL;
