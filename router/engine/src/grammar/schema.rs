//! A client's JSON Schema, made ready for llguidance: within bounds, and closed where it was left open.

use reprise_tier::{Function, JsonForm};
use serde_json::{Map, Value, json};

/// Of the schema as JSON.
const MOST_BYTES: usize = 64 << 10;
/// Arrays and objects in one another; a level of a schema takes two or three.
const MOST_LEVELS: usize = 64;
/// Between two tokens of JSON: enough to set it out in lines. Without a bound a small model may never come to an end.
const WHITESPACE: &str = r"[ \t\r\n]{1,24}";
/// Integers that every reader of JSON keeps exact.
const MOST_INTEGER: i64 = (1 << 53) - 1;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("it has {0} bytes, more than {most}", most = MOST_BYTES)]
    TooLong(usize),
    #[error("it is nested deeper than {most} levels", most = MOST_LEVELS)]
    TooDeep,
    #[error("{0}")]
    Grammar(String),
}

pub(super) fn of_form(form: &JsonForm) -> Result<Value, SchemaError> {
    match form {
        JsonForm::Object => ready(&json!({"type": "object"}), true),
        JsonForm::Schema(schema) => ready(schema, true),
    }
}

pub(super) fn of_function(function: &Function) -> Result<Value, SchemaError> {
    ready(&function.parameters, function.strict)
}

fn ready(schema: &Value, strict: bool) -> Result<Value, SchemaError> {
    check(schema)?;
    let mut schema = schema.clone();
    if !joins(&schema) {
        narrow(&mut schema);
    }
    if let Value::Object(root) = &mut schema {
        // llguidance's own key: what a client wrote there must not set aside what the schema says.
        root.insert("x-guidance".to_owned(), json!({"whitespace_pattern": WHITESPACE, "lenient": !strict}));
    }
    Ok(schema)
}

fn check(schema: &Value) -> Result<(), SchemaError> {
    if !is_within(schema, MOST_LEVELS) {
        return Err(SchemaError::TooDeep);
    }
    let bytes = schema.to_string().len();
    if bytes > MOST_BYTES { Err(SchemaError::TooLong(bytes)) } else { Ok(()) }
}

/// True if no more than `most` arrays and objects stand in one another.
fn is_within(value: &Value, most: usize) -> bool {
    match value {
        Value::Array(items) => most > 0 && items.iter().all(|item| is_within(item, most - 1)),
        Value::Object(map) => most > 0 && map.values().all(|value| is_within(value, most - 1)),
        _ => true,
    }
}

/// Narrows what the schema admits, never widens it: an object whose properties are named has these alone unless it says
/// otherwise, and integers have at most 16 digits. A small model has no sense of when to stop: where JSON Schema's own
/// default is "anything more", it adds more until its tokens are spent.
fn narrow(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let listed = map.contains_key("enum") || map.contains_key("const");
    if !listed && is_left_open(map) {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    if !listed && map.get("type").and_then(Value::as_str) == Some("integer") {
        bound(map);
    }
    for key in ["$defs", "definitions", "properties", "patternProperties"] {
        if let Some(Value::Object(schemas)) = map.get_mut(key) {
            schemas.values_mut().for_each(narrow);
        }
    }
    for key in ["items", "additionalProperties"] {
        map.get_mut(key).into_iter().for_each(narrow);
    }
    for key in ["anyOf", "prefixItems"] {
        if let Some(Value::Array(schemas)) = map.get_mut(key) {
            schemas.iter_mut().for_each(narrow);
        }
    }
}

/// True if somewhere in it several schemas have a say in one value: there to narrow one could leave nothing, or, in a
/// `oneOf`, let through what two admit.
fn joins(schema: &Value) -> bool {
    match schema {
        Value::Array(items) => items.iter().any(joins),
        Value::Object(map) => {
            let chooses = map.contains_key("$ref") || map.contains_key("anyOf");
            JOINING.iter().any(|key| map.contains_key(*key))
                || (chooses && CONSTRAINING.iter().any(|key| map.contains_key(*key)))
                || map.values().any(joins)
        }
        _ => false,
    }
}

const JOINING: [&str; 7] =
    ["allOf", "oneOf", "not", "if", "dependentSchemas", "propertyNames", "unevaluatedProperties"];

/// Beside a reference or a choice.
const CONSTRAINING: [&str; 6] =
    ["properties", "patternProperties", "additionalProperties", "required", "items", "minimum"];

fn is_left_open(map: &Map<String, Value>) -> bool {
    let Some(properties) = map.get("properties").and_then(Value::as_object) else { return false };
    let named = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
    let required = map.get("required").and_then(Value::as_array);
    ["additionalProperties", "patternProperties", "minProperties"].iter().all(|key| !map.contains_key(*key))
        && required.is_none_or(|required| required.iter().all(named))
}

/// Where an integer has no bound, and its other bound, if it has one, leaves room for this one.
fn bound(map: &mut Map<String, Value>) {
    let most = MOST_INTEGER as f64;
    let (least, greatest) = (["minimum", "exclusiveMinimum"], ["maximum", "exclusiveMaximum"]);
    for (side, other, value) in [(least, greatest, -MOST_INTEGER), (greatest, least, MOST_INTEGER)] {
        let mut opposite = other.into_iter().filter_map(|key| map.get(key)?.as_f64());
        let room = opposite.all(|bound| bound.abs() <= most);
        if room && side.iter().all(|key| !map.contains_key(*key)) {
            map.insert(side[0].to_owned(), json!(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn narrowed(schema: Value) -> Value {
        let mut schema = ready(&schema, true).expect("within bounds");
        let options = schema.as_object_mut().expect("an object").shift_remove("x-guidance").expect("options");
        assert_eq!(options["lenient"], false);
        schema
    }

    #[test]
    fn open_objects_are_closed_where_they_stand_alone() {
        let schema = json!({
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": "array", "items": {"properties": {"c": {}}}}},
            "$defs": {"A": {"type": "object", "properties": {"d": {"anyOf": [{"type": "null"}, {"properties": {"e": {}}}]}}}},
        });
        let narrowed = narrowed(schema);
        assert_eq!(narrowed["additionalProperties"], false);
        assert_eq!(narrowed["$defs"]["A"]["additionalProperties"], false);
        assert_eq!(narrowed["$defs"]["A"]["properties"]["d"]["anyOf"][1]["additionalProperties"], false);
        assert_eq!(narrowed["properties"]["b"]["items"]["additionalProperties"], false);
        assert!(narrowed["properties"]["a"].get("additionalProperties").is_none());
    }

    #[test]
    fn what_is_said_or_joined_is_left_as_it_is() {
        for schema in [
            json!({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}}),
            json!({"type": "object", "properties": {"a": {}}, "required": ["b"]}),
            json!({"type": "object", "properties": {"a": {}}, "minProperties": 2}),
            json!({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {"type": "integer"}}}]}),
            json!({"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}),
            json!({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"type": "object", "additionalProperties": true}),
        ] {
            assert_eq!(narrowed(schema.clone()), schema);
        }
    }

    #[test]
    fn integers_are_bounded_where_they_were_not() {
        let of = |schema: Value| narrowed(schema);
        assert_eq!(of(json!({"type": "integer"}))["maximum"], MOST_INTEGER);
        let above = of(json!({"type": "integer", "exclusiveMinimum": 3}));
        assert_eq!((above.get("minimum"), &above["maximum"]), (None, &json!(MOST_INTEGER)));
        let far = json!({"type": "integer", "minimum": 1e18});
        assert!(of(far).get("maximum").is_none());
        assert!(of(json!({"type": "integer", "enum": [1, 2]})).get("maximum").is_none());
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let mut deep = json!({});
        for _ in 0..MOST_LEVELS {
            deep = json!({ "items": deep });
        }
        assert_eq!(ready(&deep, true), Err(SchemaError::TooDeep));
        assert!(ready(&deep["items"], true).is_ok());
        let long = json!({"enum": ["x".repeat(MOST_BYTES)]});
        assert!(matches!(ready(&long, true), Err(SchemaError::TooLong(_))));
    }

    #[test]
    fn a_client_cannot_set_llguidances_options() {
        let ready = ready(&json!({"x-guidance": {"lenient": true}}), true).expect("ready");
        assert_eq!(ready["x-guidance"]["lenient"], false);
    }
}
