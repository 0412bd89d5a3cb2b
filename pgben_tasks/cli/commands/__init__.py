"""The commands, one module a subject: parse, ask, show. No decision is made here."""
