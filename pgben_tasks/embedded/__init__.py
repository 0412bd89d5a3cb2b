"""Real servers from Python packages for the demo, the tests and the benchmarks only.

Importing a part brings in what it needs (psycopg, redis, minio), so this module imports none:
use ``.stack``, ``.postgres``, ``.redis`` and ``.s3``; ``.data`` fills them and compares.
"""
