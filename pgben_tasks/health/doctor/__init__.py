"""What `pgben doctor` examines: each check is a small function, and none keeps another back.

Beside ``runtime`` in the layers: checks look at the parts it builds. Nothing is changed, and no
result holds a secret.
"""
