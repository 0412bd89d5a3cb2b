"""What a person sees: tables, progress, outcomes, exit codes. Nothing here starts work."""
