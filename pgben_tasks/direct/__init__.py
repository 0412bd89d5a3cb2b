"""Direct mode: operations in one process with a repository, keys and a server.

Neither a broker nor a catalog nor a worker is needed.
"""
