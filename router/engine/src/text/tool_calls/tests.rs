use proptest::prelude::*;
use reprise_tier::ToolCalls;
use serde_json::{Value, json};

use super::*;

fn read<'a>(pieces: impl Iterator<Item = &'a str>) -> (String, Option<Value>) {
    read_with(Vec::new(), pieces)
}

fn read_with<'a>(names: Vec<String>, pieces: impl Iterator<Item = &'a str>) -> (String, Option<Value>) {
    let mut reader = ToolCallReader::new(7, names);
    let mut parts: Vec<Part> = pieces.flat_map(|piece| reader.push(piece)).collect();
    parts.extend(reader.finish());
    let (mut text, mut calls) = (String::new(), ToolCalls::default());
    for part in parts {
        match part {
            Part::Text(piece) => text.push_str(&piece),
            Part::Call { index, piece } => calls.add(index, piece).expect("in order"),
        }
    }
    (text, calls.into_value())
}

fn call(name: &str, arguments: &str) -> String {
    format!("{OPEN}{NAME}{name}{ARGUMENTS}{arguments}{CLOSE}")
}

fn cut(whole: &str, size: usize) -> Vec<String> {
    let mut pieces: Vec<String> = vec![String::new()];
    for c in whole.chars() {
        if pieces.last().is_some_and(|piece| piece.len() >= size) {
            pieces.push(String::new());
        }
        pieces.last_mut().expect("one").push(c);
    }
    pieces
}

#[test]
fn calls_without_marks_are_calls_wherever_they_are_cut() {
    let names = || vec!["f".to_owned(), "g-2".to_owned()];
    let arguments = "{\n    \"city\": \"a } ``` é\",\n    \"n\": {\"x\": {}}\n  }";
    let one = format!("```json\n{{\n  \"name\": \"f\",\n  \"arguments\": {arguments}\n}}\n```");
    let two = format!("{one}\n\n```json\n{{\"name\": \"g-2\", \"arguments\": {{}}}}\n```\n");
    let bare = "{\"name\":\"g-2\",\"arguments\":{}}";
    let call = |number: u8, name: &str, arguments: &str| json!({"id": format!("call_{:016x}{number:02x}", 7), "type": "function", "function": {"name": name, "arguments": arguments}});
    for (whole, expected) in [
        (one.as_str(), vec![call(0, "f", arguments)]),
        (two.as_str(), vec![call(0, "f", arguments), call(1, "g-2", "{}")]),
        (bare, vec![call(0, "g-2", "{}")]),
    ] {
        for size in 1..whole.len() {
            let (text, calls) = read_with(names(), cut(whole, size).iter().map(String::as_str));
            assert_eq!((text.as_str(), calls), ("", Some(json!(expected))), "{size}: {whole}");
        }
    }
}

#[test]
fn json_that_calls_nothing_is_text_and_marked_calls_are_read_beside_it() {
    let names = || vec!["f".to_owned()];
    for text in [
        "```json\n{\n  \"name\": \"John\"\n}\n```",
        "{\"name\": \"f\"}",
        "Use {\"name\": \"f\", \"arguments\": {}}",
        " \n",
        "```",
    ] {
        for size in 1..=text.len() {
            let (told, calls) = read_with(names(), cut(text, size).iter().map(String::as_str));
            assert_eq!((told.as_str(), calls), (text, None), "{size}");
        }
    }
    let (text, calls) = read_with(names(), std::iter::once(call("f", "{}").as_str()));
    assert_eq!((text.as_str(), calls.expect("a call")[0]["function"]["name"].as_str()), ("", Some("f")));
    let cut_off = "{\"name\": \"f\", \"arguments\": {\"a\": \"b";
    let (_, calls) = read_with(names(), std::iter::once(cut_off));
    assert_eq!(calls.expect("a call")[0]["function"]["arguments"], "{\"a\": \"b");
}

#[test]
fn text_and_calls_are_divided_wherever_it_is_cut() {
    let arguments = r#"{"city": "a } </tool_call> é", "n": {"x": {}}}"#;
    let whole = format!("Well, <tool>.\n{}\n{}", call("f", arguments), call("g-2", "{}"));
    let expected = json!([
        {"id": "call_000000000000000700", "type": "function", "function": {"name": "f", "arguments": arguments}},
        {"id": "call_000000000000000701", "type": "function", "function": {"name": "g-2", "arguments": "{}"}},
    ]);
    for size in 1..whole.len() {
        let (text, calls) = read(cut(&whole, size).iter().map(String::as_str));
        assert_eq!((text.as_str(), calls.as_ref()), ("Well, <tool>.\n", Some(&expected)), "{size}");
    }
}

#[test]
fn a_call_that_is_cut_off_is_told_as_far_as_it_came() {
    let cut = call("f", r#"{"a": "b"#).replace(CLOSE, "}");
    let (text, calls) = read(std::iter::once(cut.as_str()));
    assert!(text.is_empty());
    assert_eq!(calls.expect("a call")[0]["function"]["arguments"], r#"{"a": "b}"#);
    assert_eq!(read(std::iter::once("<tool_call>\n{\"na")), (String::new(), None));
}

proptest! {
    #[test]
    fn text_without_calls_is_left_alone(text in "[<tol_ca>\n{}é]{0,40}", cut in 0usize..40) {
        prop_assume!(!text.contains(OPEN));
        let cut = text.floor_char_boundary(cut);
        let (head, tail) = text.split_at(cut);
        prop_assert_eq!(read([head, tail].into_iter()), (text.clone(), None));
    }
}
