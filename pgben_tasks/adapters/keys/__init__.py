"""Key files and what is done with them: age identities, Ed25519 signing keys, trusted keys.

Nothing here reads settings or knows what is sealed or signed.
"""
