"""The catalog: a PostgreSQL database of pgben's own with the ledger, the index and the audit."""
