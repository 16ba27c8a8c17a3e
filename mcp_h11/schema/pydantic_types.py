# SPDX-License-Identifier: MIT
"""Annotations that are pydantic's: how to recognise them, and how to read values by them.

Rule: pydantic is loaded only where an annotation is pydantic's own; recognising one never loads it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from . import coercion
from .documents.mismatch import MAX_PROBLEMS, Mismatch
from .documents.work import size, spend
from .readers import Reader


def is_pydantic(annotation: Any) -> bool:
    """Whether this is a type of pydantic's: a model, a pydantic dataclass, or one of its own types."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type):
        return False
    return hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_validator__")


def is_pydantic_metadata(item: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False
    module = type(item).__module__.partition(".")[0]
    return module in {"pydantic", "pydantic_core", "annotated_types"} or hasattr(item, "__get_pydantic_core_schema__")


def pydantic_readers(adapter: Any, *, numbers: bool) -> tuple[Reader, Reader]:
    """Readers in pydantic's strict mode, that for JSON, and in its lax mode; `numbers`: there may be floats."""
    import pydantic

    def guarded(validate: Reader) -> Reader:
        def read(value: Any) -> Any:
            # Before, because pydantic itself cannot be interrupted.
            spend(size(value))
            try:
                return validate(value)
            except pydantic.ValidationError as error:
                found = error.errors(include_url=False, include_context=False, include_input=False)
                raise Mismatch([(tuple(item["loc"]), item["msg"]) for item in found[:MAX_PROBLEMS]]) from None

        return read

    def validate_lax(value: Any) -> Any:
        made = adapter.validate_python(value)
        if numbers and coercion.says_infinite(value) and coercion.holds_infinite(adapter.dump_python(made)):
            raise Mismatch([((), "a number that is not finite")])
        return made

    def validate_strict(value: Any) -> Any:
        # As JSON: in Python's strict mode a date is no string.
        try:
            return adapter.validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError:
            whole = coercion.lax_whole(value)  # in a schema 1.0 is an integer, and here it is none
            return adapter.validate_json(json.dumps(whole), strict=True)

    return guarded(validate_strict), guarded(validate_lax)
