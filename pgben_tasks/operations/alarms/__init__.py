"""Alarms: what is wrong is found in the ledger, written down once, mailed, and cleared."""
