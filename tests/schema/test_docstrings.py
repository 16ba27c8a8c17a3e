# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_h11.schema.docstrings import parse

GOOGLE = """Search the index.

    Looks everywhere: titles first.

    Args:
        query: What to look for,
            on two lines.
        limit (int, optional): How many.
        deep (Callable[[int], str]): Odd type.
        *args: The rest.
        **options: More.

        undocumented:

    Returns:
        hits: The hits.

    Keyword Args:
        last: The last.
    """
NUMPY = """Search the index.

    Parameters
    ----------
    query : str
        What to look for,
        on two lines.

    limit, offset : int, optional
        How many.
    bare
        No type.

    Returns
    -------
    list
        The hits.
    """
SPHINX = """Search the index.

    :param query: What to look for,
        on two lines.
    :param int limit: How many.
    :parameter dict[str, int] table: A table.
    :type query: str,
        or so
    :arg \\*args: no
    :returns: The hits.
    """


def test_google_style() -> None:
    description, found = parse(GOOGLE)
    assert description == "Search the index.\n\nLooks everywhere: titles first.\n\nReturns:\n    hits: The hits."
    assert found == {
        "query": "What to look for, on two lines.",
        "limit": "How many.",
        "deep": "Odd type.",
        "args": "The rest.",
        "options": "More.",
        "last": "The last.",
    }


def test_numpy_style() -> None:
    description, found = parse(NUMPY)
    assert description == "Search the index.\n\nReturns\n-------\nlist\n    The hits."
    assert found == {
        "query": "What to look for, on two lines.",
        "limit": "How many.",
        "offset": "How many.",
        "bare": "No type.",
    }


def test_sphinx_style() -> None:
    description, found = parse(SPHINX)
    assert description == "Search the index.\n\n:arg \\*args: no\n:returns: The hits."
    assert found == {"query": "What to look for, on two lines.", "limit": "How many.", "table": "A table."}


@pytest.mark.parametrize(
    ("docstring", "description", "found"),
    [
        (None, "", {}),
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("Args: are not a section here.", "Args: are not a section here.", {}),
        ("Args:\nnot indented", "Args:\nnot indented", {}),
        ("Args:", "Args:", {}),
        ("S.\n\nParameters\n----------", "S.", {}),
        ("S.\n\nParameters\n----------\nprose that goes on", "S.\n\nprose that goes on", {}),
        ("S.\n\nAttributes:\n    a: A.", "S.", {"a": "A."}),
        ("S.\n\nArgs:\n    a: A.\n    no item here\n    b: B.", "S.", {"a": "A.", "b": "B."}),
    ],
)
def test_what_is_no_section_is_description(docstring: str | None, description: str, found: dict[str, str]) -> None:
    assert parse(docstring) == (description, found)


@given(
    st.text()
    | st.lists(st.sampled_from(["Args:", "Parameters", "---", "  a: b", "    c", ":param x: y", ""])).map("\n".join)
)
def test_any_text_is_read(docstring: str) -> None:
    description, found = parse(docstring)
    assert isinstance(description, str)
    assert all(text for text in found.values())
