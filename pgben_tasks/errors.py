"""The errors of pgben, grouped by what the operator does about them.

Every error is one sentence for the operator (lower case, values in quotes) and, where there is
something to do, a hint. A field of a request stands in it between backticks, `into`, or with its
value, `confirm=pgben`: the command line shows the option instead. Errors rebuild from ``args``
because Celery pickles and re-raises them across processes; no error carries a secret. Vendor errors
are translated into these only in ``adapters``.
"""

from __future__ import annotations


class PgbenError(Exception):
    """An error of pgben: a sentence and, where something can be done about it, a hint.

    ``args`` is always ``(sentence, hint)``, so that the error survives pickling and the JSON of a
    result backend.
    """

    #: Exit code of the command line for this error (docs/operations.md).
    exit_code = 1

    def __init__(self, sentence: str, hint: str = "") -> None:
        """Keep the sentence and the hint in ``args``."""
        super().__init__(sentence, hint)

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        return str(self.args[0])

    @property
    def hint(self) -> str:
        """What to do about it; empty when there is nothing to add."""
        return str(self.args[1]) if len(self.args) > 1 else ""

    def __str__(self) -> str:
        """Return the sentence, then the hint on a line of its own."""
        return f"{self.sentence}\nHINT: {self.hint}" if self.hint else self.sentence


class ConfigurationError(PgbenError):
    """The settings, a credential or the surroundings are wrong; never retried."""

    exit_code = 2


class CatalogLost(ConfigurationError):
    """The catalog's database is gone, or its tables are; the repository brings it back."""


class TransientError(PgbenError):
    """The same call may succeed later; retried with backoff."""

    exit_code = 75


class DatabaseUnavailable(TransientError):
    """A PostgreSQL server does not answer or went away."""


class StoreUnavailable(TransientError):
    """A repository or bucket does not answer or went away."""


class TargetBusy(TransientError):
    """Another job holds the target."""


class StepWaits(PgbenError):
    """A step waits for other jobs, or a moment; it gives its place back and begins again later."""


class PermanentError(PgbenError):
    """The same call will fail again; never retried."""


class CommandFailed(PermanentError):
    """A child process ended with a status other than 0."""


class SpoolFull(PermanentError):
    """The spool has no room for what is to be written."""


class BackupNotFound(PermanentError):
    """No backup answers to what was asked for."""


class JobNotFound(PermanentError):
    """No job answers to what was asked for."""


class JobCancelled(PermanentError):
    """Somebody called the job off before its end."""


class ObjectMissing(PermanentError):
    """The store has no object under this key."""


class ObjectRefused(PermanentError):
    """A server does not take one object as it is: its key, size, metadata or tags."""


class ListingUnordered(PermanentError):
    """A listing does not follow the order of its keys' bytes, or has a key twice."""


class ObjectExists(PermanentError):
    """The store already has an object under this key, and it must not be replaced."""


class RequestRefused(PermanentError):
    """The request breaks a rule that protects data; recorded as ``refused``."""

    exit_code = 3


class RestoreRefused(RequestRefused):
    """The restore would overwrite or cannot be trusted; nothing was changed."""


class RequestMistaken(RestoreRefused):
    """What was asked for cannot be, as after a typing error; whoever asked is told, nobody else."""


class PruneRefused(RequestRefused):
    """Retention will not run while something about the repository is in doubt."""


class RoomRefused(RequestRefused):
    """A backup was not begun, because by earlier nights it surely does not fit."""


class SweepRefused(RequestRefused):
    """Nothing is swept while something about the repository is in doubt."""


class FenceLost(PermanentError):
    """Another attempt owns the job now; this one leaves without a trace."""


class ShardLost(FenceLost):
    """Another worker has the shard of a shared copy now; what this one did of it counts no more."""


class BackupIncomplete(PermanentError):
    """A snapshot was stored without objects that could not be read; it does not count as good."""

    exit_code = 4


class NotRestorable(PermanentError):
    """A backup is stored and whole, and no client of this site can restore it; it is not good."""

    exit_code = 4


class IntegrityError(PermanentError):
    """Stored or restored bytes are not what was written."""

    exit_code = 5


class DigestMismatch(IntegrityError):
    """The SHA-256 of bytes differs from the one recorded for them."""


class PackLost(IntegrityError):
    """A pack is damaged or gone, which is recorded: what lies in it cannot be restored from it."""


class ManifestInvalid(IntegrityError):
    """A manifest or another signed document does not follow the format."""


class SignatureInvalid(IntegrityError):
    """A signature is missing, broken, by an unknown key, or for something else."""


class DecryptionFailed(IntegrityError):
    """Sealed bytes do not open with the identity at hand."""


class RowCountMismatch(IntegrityError):
    """A restored database holds other numbers of rows than its backup's manifest."""


def error_class(name: str) -> type[PgbenError] | None:
    """Return the class of an error that was recorded by name, or None when it is none of ours."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, PgbenError) else None
