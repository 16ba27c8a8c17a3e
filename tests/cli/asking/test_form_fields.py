# SPDX-License-Identifier: MIT
"""A field of a form: what to type into it in words, and the value of what was typed."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_h11.cli.asking.form_fields import MAX_CHOICES_SHOWN, MAX_FIELD_TEXT, MAX_FIELDS, FormField, fields_of

TITLED = {
    "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}, {"const": "3"}],
    "type": "string",
}
NAMED = {"type": "string", "enum": ["s", "l"], "enumNames": ["Small", "Large"]}
SEVERAL = {"type": "array", "items": {"anyOf": [{"const": "a", "title": "Ann"}, {"const": "b"}]}, "minItems": 1}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, " 1 ", " 1 "),
        ({"type": "string", "minLength": 1, "maxLength": 2}, "\u00e9\u00e9", "\u00e9\u00e9"),
        ({"type": "string", "format": "email"}, "a@b", "a@b"),
        ({"type": "string", "format": "uri"}, "urn:x", "urn:x"),
        ({"type": "string", "format": "date"}, "2026-02-28", "2026-02-28"),
        ({"type": "string", "format": "date-time"}, "2026-02-28T00:00:00.1234567z", "2026-02-28T00:00:00.1234567z"),
        ({"type": "string", "format": "date-time"}, "2026-02-28 10:00:00+01:00", "2026-02-28 10:00:00+01:00"),
        ({"type": "string", "format": "ipv4"}, "x", "x"),  # a form has no such format
        ({"type": "string", "format": ["x"], "minLength": "x", "pattern": "^(a+)+$"}, "b", "b"),
        ({"type": ["string", "null"]}, "x", "x"),
        ({"type": "integer"}, " -7 ", -7),
        ({"type": "integer"}, "2.0", 2),
        ({"type": "integer", "minimum": 1, "maximum": 3}, "3", 3),
        ({"type": "number"}, "2", 2),
        ({"type": "number", "minimum": 0.5}, "0.5", 0.5),
        *(({"type": "boolean"}, text, True) for text in ("y", "YES", " true ", "1", "on")),
        *(({"type": "boolean"}, text, False) for text in ("n", "No", "false", "0", "off")),
        (NAMED, "l", "l"),
        (NAMED, "large", "l"),
        (NAMED, "2", "l"),
        (TITLED, "SMALL", "s"),
        (TITLED, "3", "3"),  # a value goes before the number of one
        ({"enum": ["s"], "enumNames": ["too", "many"]}, "S", "s"),
        (SEVERAL, "ann, 2", ["a", "b"]),
        ({"type": "array", "items": {"type": "string"}}, "x, y,", ["x", "y"]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        ({}, "null", None),
        ({"type": ["integer", "string"]}, '"x"', "x"),
    ],
)
def test_what_is_typed_has_the_type_of_the_field(schema, text, value):
    found = FormField("f", schema, True).read(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("schema", "texts", "wanted"),
    [
        ({"type": "string", "minLength": 2}, ["a"], "text of 2 characters or more"),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["", "abc"], "text of 1 to 2 characters"),
        ({"type": "string", "format": "email"}, ["a", "a b@c", "a@b@c"], "an e-mail address"),
        ({"type": "string", "format": "uri"}, ["x", "http://[", "urn:a b"], "an address such as https://example.com/"),
        ({"type": "string", "format": "date"}, ["2026-02-30", "20260228", "x"], "a date such as 2026-01-31"),
        (
            {"type": "string", "format": "date-time"},
            ["2026-02-28", "2026-02-28T10:00:00", "2026-02-28T25:00:00Z", "x"],
            "a time such as 2026-01-31T13:45:00Z",
        ),
        ({"type": "integer"}, ["x", "1.5", "true", '"1"', "NaN", ""], "a whole number"),
        ({"type": "integer", "minimum": 1, "maximum": 3}, ["0", "4"], "a whole number from 1 to 3"),
        ({"type": "number", "maximum": 3}, ["3.1", "true", "1e999"], "a number of 3 or less"),
        ({"type": "boolean"}, ["x", "", "2"], "yes or no"),
        (NAMED, ["x", "3", "0", ""], "one of: 1 Small (s), 2 Large (l)"),
        (SEVERAL, ["", "c", "a, c"], "several, with commas between, of: 1 Ann (a), 2 b; 1 values or more"),
        (
            {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 2},
            ["a,b,c"],
            "several, with commas between, of: 1 a, 2 b, 3 c; 2 values or less",
        ),
        ({"type": "object"}, ["x"], "JSON"),
    ],
)
def test_what_does_not_fit_is_told_in_words(schema, texts, wanted):
    field = FormField("f", schema, True)
    assert field.wanted == wanted
    for text in texts:
        with pytest.raises(ValueError, match="^has to be ") as said:
            field.read(text)
        assert str(said.value) == f"has to be {wanted}"


def test_a_value_that_is_chosen_twice_is_refused():
    with pytest.raises(ValueError, match="once"):
        FormField("f", SEVERAL, True).read("a, ann")


def test_a_pattern_of_a_server_is_shown_and_never_run():
    # One that needs a time without end for a text of 30 letters.
    field = FormField("f", {"type": "string", "pattern": "^(a+)+$"}, True)
    assert field.wanted == "text that matches ^(a+)+$" and field.read("a" * 30 + "b")


@pytest.mark.parametrize(
    ("schema", "default", "shown"),
    [
        ({"type": "string", "default": "a\x1b"}, "a\x1b", "a\\x1b"),
        ({"type": "boolean", "default": True}, True, "yes"),
        ({"type": "boolean", "default": False}, False, "no"),
        ({"type": "integer", "default": 3}, 3, "3"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "default": ["a", "b"]}, ["a", "b"], "a, b"),
        ({"type": "integer", "default": "3"}, None, ""),  # what its own schema refuses is no default
        ({"type": "integer", "default": 9, "maximum": 3}, None, ""),
        ({"enum": ["a"], "default": "b"}, None, ""),
        ({"type": "array", "items": {"enum": ["a"]}, "default": [1]}, None, ""),
        ({"type": "boolean", "default": 1}, None, ""),
        ({"type": "string"}, None, ""),
    ],
)
def test_a_default_is_a_value_that_the_field_can_have(schema, default, shown):
    field = FormField("f", schema, False)
    assert (field.default, field.suggested) == (default, shown)


def test_texts_of_a_server_are_cut_and_steer_nothing():
    choices = [f"c{number}" for number in range(MAX_CHOICES_SHOWN + 1)]
    assert FormField("f", {"enum": choices}, True).wanted.endswith(
        f"{MAX_CHOICES_SHOWN} c{MAX_CHOICES_SHOWN - 1}, and 1 more"
    )
    assert "more" not in FormField("f", {"enum": choices[:-1]}, True).wanted
    label = FormField("f\n", {"title": "t" * MAX_FIELD_TEXT, "description": "d" * (MAX_FIELD_TEXT + 1)}, True).label
    assert label == f"f\\n - {'t' * MAX_FIELD_TEXT} - {'d' * MAX_FIELD_TEXT}... (1 characters more)"
    assert FormField("f", {"title": "f", "description": 1}, True).label == "f"


def test_the_fields_of_a_form():
    form: dict[str, Any] = {"properties": {"a": {"type": "string"}, "b": True}, "required": ["b", 1]}
    assert [(one.name, one.required, one.kind) for one in fields_of(form)] == [
        ("a", False, "string"),
        ("b", True, "json"),
    ]
    assert fields_of({"type": "object"}) == []
    assert len(fields_of({"properties": dict.fromkeys(map(str, range(MAX_FIELDS)))})) == MAX_FIELDS
    with pytest.raises(ValueError, match=f"{MAX_FIELDS} are the most"):
        fields_of({"properties": dict.fromkeys(map(str, range(MAX_FIELDS + 1)))})
    for wrong in (None, [], {"properties": []}):
        with pytest.raises(ValueError, match="no fields that can be read"):
            fields_of(wrong)


@pytest.mark.parametrize(
    ("schema", "example"), [(NAMED, "s"), ({"type": "boolean"}, "yes"), ({"type": "integer"}, "...")]
)
def test_an_example_of_an_answer(schema, example):
    assert FormField("f", schema, True).example == example
