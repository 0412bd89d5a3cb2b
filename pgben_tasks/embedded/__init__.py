"""Real servers from Python packages for the demo, the tests and the benchmarks only.

Importing a part brings in what it needs (psycopg, redis, minio), so this module imports none:
use ``pgben_tasks.embedded.stack``, ``.postgres``, ``.redis``, ``.s3`` and ``.demo_data``.
"""
