"""What is done to backups of every kind: commit, verify, acknowledge, prune, sweep, rebuild."""
