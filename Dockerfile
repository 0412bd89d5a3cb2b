# One image for every process of pgben; the command decides which (python -m workers --help).
#
#   docker build --tag pgben-tasks:0.1.0 .
#
# Build arguments:
#   PG_MAJORS  majors of the PostgreSQL clients, by default those of 14 to 18. A client dumps only
#              servers that are not newer than itself, and pg_restore of 17 or newer fails on
#              servers before 17: there must be the major of each server that is protected.
#   RUN_AS     number of the user and group that everything runs as.
ARG PYTHON_IMAGE=python:3.12-slim-trixie
ARG RCLONE_IMAGE=rclone/rclone:1.75.2

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
# The locked packages come first: this layer stays while only the code changes.
COPY requirements/build.txt requirements/worker.txt requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps \
        -r requirements/build.txt \
    && python -m venv /opt/pgben \
    && /opt/pgben/bin/pip install --no-cache-dir --require-hashes --no-deps \
        --only-binary=:all: -r requirements/worker.txt
COPY LICENSE README.md beat_schedule.py pyproject.toml ./
COPY docs/pgben.1 docs/
COPY pgben_tasks pgben_tasks/
COPY workers workers/
RUN /opt/build/bin/python -m hatchling build --target wheel --directory dist \
    && /opt/pgben/bin/pip install --no-cache-dir --no-index --no-deps dist/*.whl \
    && /opt/pgben/bin/pip uninstall --yes pip

# The S3 server of compose.yaml: rclone's image with a folder that its user may write to.
FROM ${RCLONE_IMAGE} AS s3
ARG RUN_AS=10001
RUN install -d -m 0700 -o "$RUN_AS" -g "$RUN_AS" /repository
USER ${RUN_AS}:${RUN_AS}

# The last stage is what a build without --target makes.
FROM ${PYTHON_IMAGE} AS pgben
ARG PG_MAJORS="14 15 16 17 18"
ARG RUN_AS=10001
# PostgreSQL's own packages of Debian: they have every major and the newest minor. Versions are not
# pinned, because minor releases close holes (CVE-2025-8714); rebuild to get them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-common \
    && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
    && for major in $PG_MAJORS; do \
        apt-get install --yes --no-install-recommends "postgresql-client-$major" || exit 1; \
    done \
    && apt-get purge --yes --auto-remove postgresql-common \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid "$RUN_AS" pgben \
    && useradd --uid "$RUN_AS" --gid "$RUN_AS" --no-create-home --home-dir /var/lib/pgben \
        --shell /usr/sbin/nologin pgben \
    && install -d -m 0700 -o "$RUN_AS" -g "$RUN_AS" /var/lib/pgben /etc/pgben/keys \
    && install -d -m 0750 -o "$RUN_AS" -g "$RUN_AS" /backup
COPY --from=build /opt/pgben /opt/pgben
ENV PATH=/opt/pgben/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/pgben
# As a number, so that Kubernetes can check that it is not root.
USER ${RUN_AS}:${RUN_AS}
# No ENTRYPOINT and no init: `python -m workers` replaces itself by Celery, which answers signals as
# process 1. No HEALTHCHECK: only who starts a process knows which one it is (workers/ready.py).
CMD ["python", "-m", "workers", "all"]
