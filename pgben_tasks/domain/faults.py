"""What pydantic finds, in our own words: settings, requests and stored documents are refused so.

No phrase repeats a value, which may be a secret in the wrong place.
"""

from __future__ import annotations

from typing import Final

from pydantic_core import ErrorDetails

_MOMENT: Final = "must be a moment with its offset, like '2026-11-22T17:30:00Z'"
_NAMED_VALUES: Final = "must be a set of named values"
_WHOLE_NUMBER: Final = "must be a whole number"
_TRUE_OR_FALSE: Final = "must be true or false"
_LENGTH_OF_TIME: Final = "must be a length of time like '14d'"
_UUID: Final = "must be a whole id, like '1f0c9a2b-5d0e-4c6b-9d8e-3b7f6a5c4d2e'"

#: The phrase of every finding that our models can have; its gaps are filled from the finding.
PHRASES: Final[dict[str, str]] = {
    "bool_parsing": _TRUE_OR_FALSE,
    "bool_type": _TRUE_OR_FALSE,
    "byte_size": "must be a size like '64MiB'",
    "datetime_from_date_parsing": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_type": _MOMENT,
    "decimal_parsing": "must be a share between 0 and 1, like 0.2",
    "dict_type": _NAMED_VALUES,
    "extra_forbidden": "is not known",
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "int_type": _WHOLE_NUMBER,
    "json_invalid": "must be JSON in UTF-8",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": _NAMED_VALUES,
    "path_type": "must be a path",
    "string_pattern_mismatch": "has a form that is not allowed",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "string_unicode": "must be text in UTF-8",
    "time_delta_parsing": _LENGTH_OF_TIME,
    "time_delta_type": _LENGTH_OF_TIME,
    "timezone_aware": _MOMENT,
    "too_long": "must have at most {max_length} entries",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "uuid_parsing": _UUID,
    "uuid_type": _UUID,
}
#: What a kind of finding is called that no phrase knows.
UNKNOWN: Final = "is not valid"


def of_document(fault: ErrorDetails, *, whole: str = "document") -> str:
    """Return what is wrong where in a stored document; ``whole`` names all of it."""
    place = ".".join(str(part) for part in fault["loc"]) or whole
    # A sentence of a validator follows a colon, a phrase follows its field.
    return f"{place}{':' if fault['type'] == 'value_error' else ''} {phrase(fault)}"


def phrase(fault: ErrorDetails) -> str:
    """Return what is wrong with a field: ``must be a whole number``."""
    if fault["type"] == "value_error":
        # A sentence of our own, raised by a validator.
        return str(fault["ctx"]["error"])
    if fault["type"] == "pgben":
        return fault["msg"]
    return PHRASES.get(fault["type"], UNKNOWN).format(**fault.get("ctx", {}))
