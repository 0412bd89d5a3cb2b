"""What is left of an installation when Redis, workers and the catalog are gone."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.support.cli_site import Site, clean_environment
from tests.support.commands import Ran
from tests.support.workshop import Workshop


class Nobody:
    """A port where nobody answers and every attempt to connect is noticed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def was_asked(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._listener.close()


class Ruin:
    """What is left of an installation: its repository, its server and the keys of the safe."""

    def __init__(self, shop: Workshop, folder: Path, redis: Nobody, catalog: Nobody) -> None:
        self.shop = shop
        self.redis, self.catalog = redis, catalog
        environment = {
            "PGBEN_DB_HOST": shop.server.host,
            "PGBEN_DB_PORT": str(shop.server.port),
            "PGBEN_DB_USER": shop.server.user,
            "PGBEN_DB_PASS": shop.server.password,
            "PGBEN_DB_NAME": shop.target.name,
            "PGBEN_REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "PGBEN_CATALOG_URL": f"postgresql://postgres:x@127.0.0.1:{catalog.port}/gone",
            "PGBEN_REPOSITORY": f"file://{shop.repository}",
            "PGBEN_SPOOL_DIR": str(folder / "spool"),
            "PGBEN_TRUSTED_KEYS_FILE": str(shop.keys.trusted_keys),
            "PGBEN_AGE_IDENTITY_FILE": str(shop.escrow_identity),
        }
        self.site = Site(folder, environment, clean_environment())
        self.signing = {"PGBEN_SIGNING_KEY_FILE": str(shop.keys.signing_key("backup"))}

    def run(self, *arguments: str, **changed: str) -> Ran:
        """Run a command; whatever it does, it asks neither Redis nor the catalog."""
        said = self.site.run(*arguments, **changed)
        assert not self.redis.was_asked
        assert not self.catalog.was_asked
        return said

    def left_in_spool(self) -> list[Path]:
        return [one for one in (self.site.folder / "spool").rglob("*") if one.is_file()]

    def statements(self) -> list[Path]:
        return sorted(self.shop.repository.glob("verifications/**/*.json"))
