//! On the small model's real vocabulary, with tokens drawn at random among those allowed: what a grammar lets through is
//! what the schema admits, whatever a model would like to say.

use std::sync::{Arc, LazyLock};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use reprise_tier::{Function, ToolChoice};
use serde_json::json;

use super::*;
use crate::{gguf::Gguf, sampling::Mask, testing::small_model, text::tool_calls};

static VOCABULARY: LazyLock<Vocabulary> =
    LazyLock::new(|| Vocabulary::from_gguf(&Gguf::open(&small_model()).expect("opens")).expect("builds"));

/// Writes what a model without any sense would, until the grammar lets it end. `None`: it did not come to an end.
fn drawn(mut mask: Box<dyn TokenMask>, seed: u64, most: usize) -> Option<String> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut bytes = Vec::new();
    for step in 0..most {
        let mut allowed = Mask::new(VOCABULARY.len());
        mask.allow(&mut allowed);
        assert_eq!(mask.failure(), None, "{}", String::from_utf8_lossy(&bytes));
        let words = allowed.words_mut().to_vec();
        let open: Vec<u32> = (0..VOCABULARY.len() as u32)
            .filter(|id| words[*id as usize / 32] >> (id % 32) & 1 == 1)
            .collect();
        assert!(!open.is_empty(), "nothing may follow {}", String::from_utf8_lossy(&bytes));
        let end = open.iter().copied().find(|id| VOCABULARY.is_end(*id));
        // What ends strings and lists is likelier than among 49,000 tokens.
        let closing = open.iter().copied().find(|id| matches!(VOCABULARY.bytes(*id), b"\"" | b"}" | b"]"));
        let token = match (end, closing) {
            (Some(end), _) if step % 3 == 0 || random.random() => end,
            (_, Some(closing)) if random.random_bool(0.2) => closing,
            _ => open[random.random_range(0..open.len())],
        };
        mask.accept(token);
        if VOCABULARY.is_end(token) {
            return Some(String::from_utf8(bytes).expect("text"));
        }
        bytes.extend_from_slice(VOCABULARY.bytes(token));
        if mask.is_complete() {
            return Some(String::from_utf8(bytes).expect("text"));
        }
    }
    None
}

fn form(schema: Value) -> JsonForm {
    JsonForm::Schema(Arc::new(schema))
}

pub(super) fn mask(form: Option<&JsonForm>, tools: Option<&Tools>) -> Result<Box<dyn TokenMask>, TierError> {
    static GRAMMARS: LazyLock<Grammars> = LazyLock::new(Grammars::default);
    GRAMMARS.mask(&VOCABULARY, 0, form, tools).map(|mask| mask.expect("there is a form"))
}

/// A schema, and the same said again in Rust.
type Case = (Value, fn(&Value) -> bool);

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn is_tree(value: &Value) -> bool {
    let children = value.get("children").map(|children| children.as_array().expect("an array"));
    value["value"].is_boolean()
        && keys(value).iter().all(|key| ["value", "children"].contains(key))
        && children.is_none_or(|children| children.len() <= 2 && children.iter().all(is_tree))
}

fn is_code(value: &Value) -> bool {
    let bytes = value.as_str().expect("a string").as_bytes();
    bytes.len() == 6
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2] == b'-'
        && bytes[3..].iter().all(u8::is_ascii_digit)
}

#[test]
fn whatever_is_drawn_the_schema_admits() {
    let cases: [Case; 6] = [
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 8}, "b": {"type": "integer"},
                   "c": {"enum": ["x", "y", 3, null]}}, "required": ["a", "b"]}),
            |value| {
                let c = value
                    .get("c")
                    .is_none_or(|c| [json!("x"), json!("y"), json!(3), Value::Null].contains(c));
                let a = value["a"].as_str().expect("a string").chars().count() <= 8;
                // `-0` is read as a float.
                let b = value["b"].as_f64().expect("a number");
                a && b.fract() == 0.0
                    && b.abs() <= 9_007_199_254_740_991.0
                    && c
                    && keys(value).iter().all(|key| ["a", "b", "c"].contains(key))
            },
        ),
        (
            json!({"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 1, "maxItems": 3}),
            |value| {
                let items = value.as_array().expect("an array");
                let within = |item: &Value| (0.0..=1.0).contains(&item.as_f64().expect("a number"));
                (1..=3).contains(&items.len()) && items.iter().all(within)
            },
        ),
        (
            json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
                   "value": {"type": "boolean"}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
                   "required": ["value"]}}}),
            is_tree,
        ),
        (json!({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}), is_code),
        (
            json!({"type": "object", "properties": {"at": {"type": "string", "format": "date"}}, "required": ["at"]}),
            |value| value["at"].as_str().expect("a string").parse::<jiff::civil::Date>().is_ok(),
        ),
        (json!({"anyOf": [{"type": "null"}, {"const": {"k": [1, 2]}}]}), |value| {
            value.is_null() || *value == json!({"k": [1, 2]})
        }),
    ];
    for (schema, admits) in cases {
        let form = form(schema.clone());
        let mut whole = 0;
        for seed in 0..20 {
            let Some(text) = drawn(mask(Some(&form), None).expect("compiles"), seed, 200) else { continue };
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(admits(&value), "{schema} does not admit {text}");
            whole += 1;
        }
        assert!(whole >= 10, "{schema}: {whole} of 20 came to an end");
    }
}

#[test]
fn any_object_is_one() {
    let text =
        (0..40).find_map(|seed| drawn(mask(Some(&JsonForm::Object), None).expect("compiles"), seed, 100));
    assert!(serde_json::from_str::<Value>(&text.expect("one ends")).expect("JSON").is_object());
}

#[test]
fn what_cannot_be_held_to_is_said_and_named() {
    for (schema, word) in [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"type": "string", "pattern": "(?=a)b"}), ""),
        (json!({"type": "strin"}), "strin"),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"$ref": "https://example.com/schema.json"}), ""),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), ""),
    ] {
        let error = mask(Some(&form(schema.clone())), None).map(|_| ()).expect_err("refused");
        let TierError::Unsupported { param, message } = error else { panic!("{schema}: {error:?}") };
        assert_eq!(param, "response_format");
        assert!(message.contains(word) && !message.contains('\n'), "{message}");
    }
}

fn function(name: &str, parameters: Value, strict: bool) -> Function {
    Function { name: name.into(), description: None, parameters: Arc::new(parameters), strict }
}

pub(super) fn tools(choice: ToolChoice, parallel: bool) -> Tools {
    let weather = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 5}}, "required": ["city"]});
    let sum = json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"],
                     "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}});
    let functions = vec![function("weather", weather, true), function("sum", sum, false)];
    Tools { functions, choice, parallel }
}

/// Name and arguments of each call, and the text before the first.
fn read(text: &str) -> (String, Vec<(String, Value)>) {
    let mut parts = text.split(tool_calls::OPEN);
    let before = parts.next().unwrap_or_default().to_owned();
    let calls = parts.map(|part| {
        let body = part.trim().strip_suffix("</tool_call>").unwrap_or_else(|| panic!("unclosed: {text}"));
        let call: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"));
        (call["name"].as_str().expect("a name").to_owned(), call["arguments"].clone())
    });
    (before, calls.collect())
}

#[test]
fn calls_have_their_form_and_their_arguments() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let Some(text) =
            drawn(mask(None, Some(&tools(ToolChoice::Required, true))).expect("compiles"), seed, 300)
        else {
            continue;
        };
        let (before, calls) = read(&text);
        assert!(before.is_empty() && !calls.is_empty() && calls.len() <= 16, "{text}");
        for (name, arguments) in calls {
            match name.as_str() {
                "weather" => {
                    assert!(arguments["city"].as_str().expect("text").chars().count() <= 5);
                }
                "sum" => assert!(arguments["n"].as_u64().is_some_and(|n| n <= 9)),
                other => panic!("{other}"),
            }
            seen.insert(name);
        }
    }
    assert_eq!(seen.len(), 2, "both were called");
}

#[test]
fn a_named_function_is_the_only_one_and_one_call_is_one() {
    let tools = tools(ToolChoice::Named("sum".into()), false);
    let texts: Vec<String> =
        (0..10).filter_map(|seed| drawn(mask(None, Some(&tools)).expect("compiles"), seed, 200)).collect();
    assert!(texts.len() >= 5);
    for text in texts {
        let (before, calls) = read(&text);
        assert_eq!((before.as_str(), calls.len(), calls[0].0.as_str()), ("", 1, "sum"), "{text}");
    }
}

/// The model's tokens as they would come for `text`; true if the grammar lets them through, and an end after them.
pub(super) fn admits(mut mask: Box<dyn TokenMask>, text: &str) -> (bool, bool) {
    for token in VOCABULARY.encode(text).expect("encodes") {
        let mut allowed = Mask::new(VOCABULARY.len());
        mask.allow(&mut allowed);
        if allowed.words_mut()[token as usize / 32] >> (token % 32) & 1 == 0 {
            return (false, false);
        }
        mask.accept(token);
    }
    if mask.is_complete() {
        return (true, true);
    }
    let mut allowed = Mask::new(VOCABULARY.len());
    mask.allow(&mut allowed);
    let words = allowed.words_mut().to_vec();
    let ends = |id: &u32| VOCABULARY.is_end(*id) && words[*id as usize / 32] >> (id % 32) & 1 == 1;
    (true, (0..VOCABULARY.len() as u32).any(|id| ends(&id)))
}

#[test]
fn where_the_model_decides_it_may_speak_or_call() {
    let tools = tools(ToolChoice::Auto, true);
    let try_it = |text: &str| admits(mask(None, Some(&tools)).expect("compiles"), text);
    let call = "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"n\": 3}}\n</tool_call>";
    assert_eq!(try_it("It is warm, <b>I think</b> é.\n"), (true, true));
    assert_eq!(try_it(call), (true, true));
    assert_eq!(try_it(&format!("I will look.\n{call}\n{call}")), (true, true));
    assert_eq!(try_it("Well <tool_call>"), (true, false), "a call that has begun is finished");
    assert_eq!(try_it("<tool_call>\n{\"name\": \"none\""), (false, false), "there is no such function");
    assert_eq!(try_it("<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"n\": 30"), (false, false));
}

#[test]
fn a_form_and_tools_go_together() {
    let answer =
        form(json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}));
    let tools = tools(ToolChoice::Auto, true);
    let try_it = |text: &str| admits(mask(Some(&answer), Some(&tools)).expect("compiles"), text);
    assert_eq!(try_it("{\"ok\": true}"), (true, true));
    assert_eq!(
        try_it("<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"n\": 3}}\n</tool_call>"),
        (true, true)
    );
    assert_eq!(try_it("Well"), (false, false));
}

#[test]
fn the_function_whose_schema_is_at_fault_is_named() {
    let mut tools = tools(ToolChoice::Auto, true);
    let unique = json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}});
    tools.functions.push(function("unique", unique.clone(), false));
    assert!(mask(None, Some(&tools)).is_ok(), "only advice, where it is not strict");
    tools.functions.push(function("strict", unique, true));
    let error = mask(None, Some(&tools)).map(|_| ()).expect_err("refused");
    let TierError::Unsupported { param, message } = error else { panic!("{error:?}") };
    assert_eq!(param, "tools[3].function.parameters");
    assert!(message.contains("uniqueItems"), "{message}");
}

#[test]
fn a_grammar_is_kept_for_its_scope_alone() {
    let grammars = Grammars::default();
    let compile = |scope| grammars.mask(&VOCABULARY, scope, Some(&JsonForm::Object), None).expect("compiles");
    compile(1);
    compile(1);
    assert_eq!(grammars.kept.lock().len(), 1);
    compile(2);
    assert_eq!(grammars.kept.lock().len(), 2);
}
