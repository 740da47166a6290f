//! The schemas of all types, named.
//!
//! What is read and what is written of one type may differ: a field with a default may be left out by a client, but is always
//! told. So there are two generators; where a type comes out of both alike it is one schema, else the one that is read is
//! called `...Input`.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::operation::Shape;

const WRITTEN: &str = "#/components/schemas/";
/// Where schemas that are read stand until it is known which are the same.
const READ: &str = "#/components/read/";

#[derive(Debug)]
pub struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    pub fn new() -> Self {
        let at = |place: &'static str, settings: SchemaSettings| {
            settings.with(|settings| settings.definitions_path = place.into()).into_generator()
        };
        Self {
            read: at("/components/read", SchemaSettings::draft2020_12().for_deserialize()),
            written: at("/components/schemas", SchemaSettings::draft2020_12().for_serialize()),
        }
    }

    pub fn read(&mut self, shape: Shape) -> Value {
        shape(&mut self.read).to_value()
    }

    pub fn written(&mut self, shape: Shape) -> Value {
        shape(&mut self.written).to_value()
    }

    /// All named schemas; references in `document` come to point to them.
    pub fn finish(mut self, document: &mut Value) -> Map<String, Value> {
        let read = self.read.take_definitions(true);
        let mut all = self.written.take_definitions(true);
        let apart = apart(&read, &all);
        let rename = |reference: &str| {
            let name = reference.strip_prefix(READ)?;
            let suffix = if apart.contains(name) { "Input" } else { "" };
            Some(format!("{WRITTEN}{name}{suffix}"))
        };
        for (name, mut schema) in read {
            references(&mut schema, &mut |reference| rewrite(reference, &rename));
            let name = if apart.contains(&name) { format!("{name}Input") } else { name };
            all.insert(name, schema);
        }
        references(document, &mut |reference| rewrite(reference, &rename));
        all.sort_keys();
        all
    }
}

fn rewrite(reference: &mut String, rename: &impl Fn(&str) -> Option<String>) {
    if let Some(renamed) = rename(reference) {
        *reference = renamed;
    }
}

/// Names of what is read otherwise than it is written, itself or in what it refers to.
fn apart(read: &Map<String, Value>, written: &Map<String, Value>) -> BTreeSet<String> {
    let differs = |(name, schema): &(&String, &Value)| {
        let mut schema = (*schema).clone();
        references(&mut schema, &mut |reference| *reference = reference.replace(READ, WRITTEN));
        written.get(*name).is_some_and(|other| *other != schema)
    };
    let mut apart: BTreeSet<String> = read.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    loop {
        let refers = |(name, schema): &(&String, &Value)| {
            let mut found = false;
            references(&mut (*schema).clone(), &mut |reference| {
                found |= reference.strip_prefix(READ).is_some_and(|name| apart.contains(name));
            });
            found && written.contains_key(*name) && !apart.contains(*name)
        };
        let more: Vec<String> = read.iter().filter(refers).map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            return apart;
        }
        apart.extend(more);
    }
}

fn references(value: &mut Value, each: &mut impl FnMut(&mut String)) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(reference) if name == "$ref" => each(reference),
                    value => references(value, each),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| references(value, each)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
    struct Inner {
        #[serde(default)]
        left_out: u8,
    }

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
    struct Outer {
        inner: Inner,
        same: Same,
    }

    #[derive(JsonSchema, serde::Serialize, serde::Deserialize)]
    struct Same {
        a: u8,
    }

    #[test]
    fn what_is_read_otherwise_than_written_has_a_name_of_its_own() {
        let mut schemas = Schemas::new();
        let outer: Shape = |generator| generator.subschema_for::<Outer>();
        let mut document = json!({"read": schemas.read(outer), "written": schemas.written(outer)});
        let all = schemas.finish(&mut document);
        assert_eq!(document["read"]["$ref"], "#/components/schemas/OuterInput");
        assert_eq!(document["written"]["$ref"], "#/components/schemas/Outer");
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["Inner", "InnerInput", "Outer", "OuterInput", "Same"]);
        assert_eq!(all["OuterInput"]["properties"]["inner"]["$ref"], "#/components/schemas/InnerInput");
        assert_eq!(
            (&all["Inner"]["required"], &all["InnerInput"]["required"]),
            (&json!(["left_out"]), &Value::Null)
        );
    }
}
