"""What is known of the ability to restore, and what `pgben doctor` examines."""
