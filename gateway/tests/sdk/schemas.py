"""Fifty schemas as applications ask for them: extraction, classification, forms, plans, API arguments.

Strings and lists are bounded: a grammar makes an answer valid, but no grammar makes a small model come to an end.
"""

from __future__ import annotations

import decimal
import json

import jsonschema


def obj(properties: dict, optional: tuple[str, ...] = (), **more) -> dict:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False} | more


def text(most: int = 40, **more) -> dict:
    return {"type": "string", "maxLength": most} | more


def whole(low: int, high: int) -> dict:
    return {"type": "integer", "minimum": low, "maximum": high}


def number(low: float, high: float) -> dict:
    return {"type": "number", "minimum": low, "maximum": high, "multipleOf": 0.01}


def one_of(*values) -> dict:
    return {"enum": list(values)}


def many(items: dict, most: int = 3, least: int = 0) -> dict:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def maybe(schema: dict) -> dict:
    return {"anyOf": [schema, {"type": "null"}]}


def like(pattern: str) -> dict:
    return {"type": "string", "pattern": pattern}


FLAG = {"type": "boolean"}
DATE = {"type": "string", "format": "date"}
MONEY = obj({"amount": number(0, 100000), "currency": one_of("EUR", "USD", "GBP", "JPY")})
ADDRESS = obj({"street": text(), "city": text(20), "zip": like("^[0-9]{5}$"), "country": like("^[A-Z]{2}$")})

SCHEMAS: dict[str, dict] = {
    "sentiment": obj({"sentiment": one_of("positive", "neutral", "negative"), "confidence": number(0, 1)}),
    "ticket": obj({"title": text(60), "priority": one_of("low", "medium", "high", "urgent"), "labels": many(text(12))}),
    "contact": obj({"name": text(), "email": maybe(like("^[a-z]{1,12}@[a-z]{1,12}\\.(com|org)$")), "phone": maybe(like("^\\+[0-9]{6,12}$"))}),
    "invoice": obj({
        "number": like("^INV-[0-9]{4}$"), "date": DATE, "total": MONEY,
        "lines": many(obj({"item": text(30), "quantity": whole(1, 99), "price": number(0, 9999)}), 3, 1),
    }),
    "person": obj({"first_name": text(20), "last_name": text(20), "age": whole(0, 130), "address": ADDRESS}, ("address",)),
    "recipe": obj({
        "title": text(), "servings": whole(1, 12), "ingredients": many(obj({"name": text(20), "grams": whole(1, 2000)}), 4, 1),
        "steps": many(text(60), 3, 1), "vegan": FLAG,
    }),
    "intent": obj({"intent": one_of("card_arrival", "card_lost", "balance", "transfer", "other"), "needs_human": FLAG}),
    "geo": obj({"type": {"const": "Point"}, "coordinates": {"type": "array", "prefixItems": [number(-180, 180), number(-90, 90)], "items": False, "minItems": 2}}),
    "calendar": obj({"summary": text(), "start": {"type": "string", "format": "date-time"}, "minutes": whole(5, 480), "attendees": many(text(20))}),
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {"node": obj({"label": text(10), "children": many({"$ref": "#/$defs/leaf"}, 2)}), "leaf": obj({"label": text(10)})},
    },
    "shape": {"anyOf": [
        obj({"kind": {"const": "circle"}, "radius": number(0, 10)}),
        obj({"kind": {"const": "square"}, "side": number(0, 10)}),
    ]},
    "version": obj({"version": like("^[0-9]{1,2}\\.[0-9]{1,2}\\.[0-9]{1,2}$"), "breaking": FLAG}),
    "weather": obj({"city": text(20), "unit": one_of("celsius", "fahrenheit"), "days": whole(1, 7)}, ("days",)),
    "sql": obj({"table": like("^[a-z_]{1,16}$"), "columns": many(like("^[a-z_]{1,12}$"), 4, 1), "limit": maybe(whole(1, 1000))}),
    "product": obj({"sku": like("^[A-Z]{3}-[0-9]{3}$"), "name": text(), "price": MONEY, "tags": many(text(10)), "in_stock": FLAG}),
    "review": obj({"stars": whole(1, 5), "summary": text(60), "pros": many(text(20), 2), "cons": many(text(20), 2)}),
    "flight": obj({"from": like("^[A-Z]{3}$"), "to": like("^[A-Z]{3}$"), "date": DATE, "class": one_of("economy", "business", "first")}),
    "translation": obj({"language": like("^[a-z]{2}$"), "text": text(80)}),
    "quiz": obj({"question": text(60), "options": many(text(20), 4, 4), "answer": whole(0, 3)}),
    "verdict": obj({"reason": text(80), "verdict": one_of("A", "B", "tie")}),
    "colour": obj({"hex": like("^#[0-9a-f]{6}$"), "name": text(16)}),
    "network": obj({"host": {"type": "string", "format": "ipv4"}, "port": whole(1, 65535), "protocol": one_of("tcp", "udp")}),
    "job": obj({"title": text(), "remote": FLAG, "salary": maybe(obj({"low": whole(0, 500000), "high": whole(0, 500000)})), "skills": many(text(12), 4)}),
    "movie": obj({"title": text(), "year": whole(1888, 2030), "genres": many(one_of("drama", "comedy", "action", "horror"), 2, 1)}),
    "medical": obj({"symptoms": many(text(20), 3, 1), "severity": whole(1, 10), "refer": FLAG}),
    "log": obj({"level": one_of("DEBUG", "INFO", "WARN", "ERROR"), "code": maybe(whole(100, 599)), "message": text(60)}),
    "config": obj({"replicas": whole(1, 20), "image": like("^[a-z]{1,12}:[a-z0-9]{1,8}$"), "env": many(obj({"name": like("^[A-Z_]{1,12}$"), "value": text(12)}), 2)}),
    "matrix": many(many(whole(-9, 9), 2, 2), 2, 2),
    "primes": many(whole(2, 99), 5, 1),
    "label": one_of("spam", "ham"),
    "score": number(0, 10),
    "yes": FLAG,
    "nothing": {"type": "null"},
    "sentence": text(60, minLength=5),
    "uuid": obj({"id": {"type": "string", "format": "uuid"}, "kind": one_of("user", "group")}),
    "order": obj({"customer": text(20), "ship_to": ADDRESS, "bill_to": maybe(ADDRESS), "items": many(obj({"sku": like("^[A-Z]{3}-[0-9]{3}$"), "quantity": whole(1, 9)}), 2, 1)}),
    "plan": obj({"goal": text(40), "steps": many(obj({"n": whole(1, 9), "action": text(40), "done": FLAG}), 3, 1)}),
    "entities": obj({"entities": many(obj({"text": text(20), "type": one_of("PER", "LOC", "ORG")}), 4)}),
    "relation": obj({"subject": text(20), "predicate": one_of("born_in", "works_for", "part_of"), "object": text(20)}),
    "meta": obj({"title": text(60), "description": text(100), "slug": like("^[a-z]{1,10}(-[a-z]{1,10}){0,3}$")}),
    "payment": {"anyOf": [
        obj({"method": {"const": "card"}, "last4": like("^[0-9]{4}$")}),
        obj({"method": {"const": "iban"}, "country": like("^[A-Z]{2}$"), "check": whole(2, 98)}),
        obj({"method": {"const": "cash"}}),
    ]},
    "options": {"type": "object", "properties": {"verbose": FLAG, "depth": whole(0, 9)}, "additionalProperties": False},
    "scores": {"type": "object", "patternProperties": {"^[a-z]{1,6}$": whole(0, 100)}, "additionalProperties": False, "minProperties": 1, "maxProperties": 3},
    "survey": obj({"answers": many({"anyOf": [whole(1, 5), text(20), {"type": "null"}]}, 3, 3)}),
    "pydantic": {
        "title": "Character", "type": "object", "required": ["name", "pet"],
        "properties": {
            "name": text(20, title="Name"), "pet": {"$ref": "#/$defs/Pet"},
            "home": {"anyOf": [{"$ref": "#/$defs/Home"}, {"type": "null"}], "default": None, "title": "Home"},
        },
        "$defs": {
            "Pet": {"type": "object", "title": "Pet", "properties": {"species": {"enum": ["cat", "dog"], "type": "string"}, "age": whole(0, 30)}, "required": ["species", "age"]},
            "Home": {"type": "object", "title": "Home", "properties": {"rooms": whole(1, 9)}, "required": ["rooms"]},
        },
    },
    "unit": obj({"value": number(-1000, 1000), "unit": one_of("m", "kg", "s", "K", "°C")}),
    "timezone": obj({"offset": like("^[+-][01][0-9]:[03]0$"), "dst": FLAG}),
    "chess": obj({"move": like("^[a-h][1-8][a-h][1-8]$"), "check": FLAG}),
    "diff": obj({"file": like("^[a-z]{1,8}\\.(rs|py)$"), "added": whole(0, 999), "removed": whole(0, 999), "summary": text(50)}),
    "escalation": obj({"team": one_of("billing", "security", "product"), "page": FLAG, "notes": maybe(text(60)), "due": maybe(DATE)}),
}

assert len(SCHEMAS) == 50


def check(schema: dict, text: str) -> None:
    """Raises if `text` is not JSON that the schema admits. In decimals: as floats, 1.11 is no multiple of 0.01."""

    def exact(json_text: str):
        return json.loads(json_text, parse_float=decimal.Decimal)

    formats = jsonschema.FormatChecker(["date", "ipv4", "uuid"])
    jsonschema.Draft202012Validator(exact(json.dumps(schema)), format_checker=formats).validate(exact(text))
