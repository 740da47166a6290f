//! Every key of the configuration with its type, default and meaning, as Markdown: made of the comments on the sections
//! themselves, so that there is no second text to keep.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::raw::RawConfig;
use super::read::ConfigError;

const HEAD: &str = "# Configuration

Every key, made by `reprise config reference`; `reprise config print` shows what is in force. Unknown keys are refused, with the
nearest known one. Secrets stand in environment variables or files that keys here name, and are never printed. A file that changes
while the gateway runs is read again: keys marked \u{21bb} take effect at once, others wait for a restart, and the log names them. A
file that does not hold changes nothing.
";

pub(super) fn markdown() -> Result<String, ConfigError> {
    let syntax = |error: &dyn std::fmt::Display| ConfigError::Syntax(error.to_string());
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<RawConfig>();
    let defaults = serde_json::to_value(RawConfig::default()).map_err(|error| syntax(&error))?;
    let mut text = HEAD.to_owned();
    section(&mut text, "", schema.as_value(), &defaults, "").map_err(|error| syntax(&error))?;
    Ok(text)
}

/// A table of the values of a section, then the sections in it.
fn section(text: &mut String, path: &str, schema: &Value, defaults: &Value, about: &str) -> std::fmt::Result {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let mut inner = Vec::new();
    let mut rows = String::new();
    for (name, property) in properties {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = defaults.get(name).unwrap_or(&Value::Null);
        let told = property
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .replace('\n', " ")
            .replace('|', "\\|");
        match shape(property) {
            Shape::Section(schema) => inner.push((at, schema, default.clone(), told)),
            Shape::List(schema) => inner.push((format!("{at}[]"), schema, Value::Null, told)),
            Shape::Value(kind) => {
                let live = if super::reload::is_live(&at.replace("[]", "")) { " \u{21bb}" } else { "" };
                let default = if default.is_null() { String::new() } else { format!("`{default}`") };
                writeln!(rows, "| `{name}`{live} | {kind} | {default} | {told} |")?;
            }
        }
    }
    if !path.is_empty() {
        writeln!(text, "\n## `{}`\n\n{about}", toml_head(path))?;
    }
    if !rows.is_empty() {
        write!(text, "\n| key | type | default | |\n|---|---|---|---|\n{rows}")?;
    }
    inner.iter().try_for_each(|(at, schema, defaults, about)| section(text, at, schema, defaults, about))
}

/// As it stands in the file.
fn toml_head(path: &str) -> String {
    let bare = path.replace("[]", "");
    if path.ends_with("[]") { format!("[[{bare}]]") } else { format!("[{bare}]") }
}

enum Shape<'a> {
    Section(&'a Value),
    List(&'a Value),
    Value(String),
}

fn shape(schema: &Value) -> Shape<'_> {
    let schema = meant(schema);
    if schema.get("properties").is_some() {
        return Shape::Section(schema);
    }
    match schema.get("items").map(meant) {
        Some(items) if items.get("properties").is_some() => Shape::List(items),
        Some(items) => Shape::Value(format!("list of {}", kind(items))),
        None => Shape::Value(kind(schema)),
    }
}

/// What may be left out is described as if it were there.
fn meant(schema: &Value) -> &Value {
    let others = schema.get("anyOf").and_then(Value::as_array);
    let given =
        others.and_then(|all| all.iter().find(|one| one.get("type").is_none_or(|kind| kind != "null")));
    given.unwrap_or(schema)
}

fn kind(schema: &Value) -> String {
    let words = |values: &[Value]| {
        values.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return words(values);
    }
    if let Some(all) = schema.get("oneOf").and_then(Value::as_array) {
        let each: Vec<String> = all
            .iter()
            .map(|one| one.get("const").map_or_else(|| kind(one), |word| words(std::slice::from_ref(word))))
            .collect();
        return each.join(", ");
    }
    let of = |kind: &str| match kind {
        "boolean" => "true or false",
        "integer" => "whole number",
        "number" => "number",
        "string" => "text",
        _ => "value",
    };
    match schema.get("type") {
        Some(Value::String(name)) => of(name).to_owned(),
        Some(Value::Array(names)) => {
            let name = names.iter().filter_map(Value::as_str).find(|name| *name != "null");
            of(name.unwrap_or_default()).to_owned()
        }
        _ => "value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reprise config reference > deploy/config/REFERENCE.md` makes it anew.
    #[test]
    fn the_committed_reference_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/config/REFERENCE.md");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == markdown().unwrap(), "reprise config reference > deploy/config/REFERENCE.md");
    }

    #[test]
    fn every_key_has_its_meaning() {
        let text = markdown().unwrap();
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            assert!(!row.trim_end().ends_with("|  |"), "{row}");
        }
        for key in ["`max_body_bytes`", "`prefill_weight`", "`tokens_per_minute`", "`prompt_price` \u{21bb}"]
        {
            assert!(text.contains(key), "{key}");
        }
    }
}
