"""The command line: what a person types. Thin over ``runtime``; no rules of its own."""
