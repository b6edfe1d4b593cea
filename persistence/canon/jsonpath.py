"""The JSON Schema of event data as the database applies it: one SQL/JSON path predicate a field.

A predicate is true of data in which the field is absent or as its schema says. What a path cannot say (the length of a text) is left to the
constraints of the columns, the form of an id to its cast.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

# RFC 3339 in the years 2 to 9998, which no time zone leads out of what readers know. PostgreSQL would read `infinity` and the year 200000,
# too.
_YEAR: Final = "(000[2-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"
_TIME: Final = "[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)"
_DATE_TIME: Final = f"^{_YEAR}-[0-9]{{2}}-[0-9]{{2}}[Tt ]{_TIME}$"
_FORMATS: Final = {"date-time": _DATE_TIME}


def field_rules(schema: Mapping[str, Any]) -> dict[str, str]:
    """Predicates by field, for an object's schema. Fields that may hold anything have none."""
    rules = {}
    for field, form in schema.get("properties", {}).items():
        place = f"$.{json.dumps(field)}"
        condition = _condition(form, place)
        if condition:
            rules[field] = f"(!exists({place}) || ({condition}))"
    return rules


def _condition(form: Mapping[str, Any], place: str) -> str:
    given = form.get("type")
    kinds = [given] if isinstance(given, str) else list(given or ())
    if len(kinds) > 1:
        return " || ".join(f"({_condition({**form, 'type': kind}, place)})" for kind in kinds)
    return " && ".join(_parts(form, place, kinds[0] if kinds else None))


def _parts(form: Mapping[str, Any], place: str, kind: str | None) -> list[str]:
    parts: list[str] = []
    if kind is not None:
        parts.append(f'{place}.type() == "{"number" if kind == "integer" else kind}"')
    if kind == "null":
        return parts
    if kind == "integer":
        parts.append(f"{place}.floor() == {place}")
    if "enum" in form:
        parts.append("(" + " || ".join(f"{place} == {json.dumps(choice)}" for choice in form["enum"]) + ")")
    if "const" in form:
        parts.append(f"{place} == {json.dumps(form['const'])}")
    if form.get("minLength"):
        parts.append(f'{place} != ""')
    pattern = form.get("pattern") or _FORMATS.get(form.get("format", ""))
    if pattern:
        parts.append(f"{place} like_regex {json.dumps(pattern)}")
    for name, sign in (("minimum", ">="), ("maximum", "<="), ("exclusiveMinimum", ">")):
        if name in form:
            parts.append(f"{place} {sign} {form[name]}")
    parts.extend(f"exists({place}.{json.dumps(field)})" for field in form.get("required", ()))
    for field, inner in form.get("properties", {}).items():
        below = f"{place}.{json.dumps(field)}"
        if condition := _condition(inner, below):
            parts.append(f"(!exists({below}) || ({condition}))")
    if "items" in form and (condition := _condition(form["items"], "@")):
        parts.append(f"!exists({place}[*] ? (!({condition})))")
    return parts
