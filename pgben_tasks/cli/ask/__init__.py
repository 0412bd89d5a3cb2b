"""From what was typed to a job: requests, confirmation, direct mode, cancelling."""
