"""Files of this machine: written whole or not at all, sorted when they do not fit into memory.

Below ports and adapters, so that both and operations use the same: no vendor and no subject here.
"""
