//! The grammar of an answer that may call functions.

use std::fmt::Write as _;

use llguidance::api::TopLevelGrammar;
use reprise_tier::{JsonForm, TierError, ToolChoice, Tools};
use serde_json::Value;

use super::{
    of_form,
    schema::{self, SchemaError},
};
use crate::text::{
    tool_calls::{ARGUMENTS, CLOSE, NAME, OPEN},
    written_call,
};

/// Calls in one answer. A small model that must call would otherwise call until its tokens are spent.
const MOST_CALLS: usize = 16;
/// Of all functions' schemas.
const MOST_BYTES: usize = 256 << 10;

/// In llguidance's dialect of Lark; schemas stand in it as they are, each a grammar of its own, so that a `$ref` means
/// what it meant to the client.
pub(super) fn grammar(form: Option<&JsonForm>, tools: &Tools) -> Result<TopLevelGrammar, TierError> {
    let mut lark = String::new();
    let answer = match (&tools.choice, form) {
        (ToolChoice::Auto, Some(form)) => {
            let schema = schema::of_form(form).map_err(|error| of_form(&error))?;
            rule(&mut lark, "answer", &format!("%json {schema}"));
            "answer | open calls"
        }
        // The head is lazy: the first mark in the text begins a call, whatever the text goes on with.
        (ToolChoice::Auto, None) => {
            rule(&mut lark, "text", "TEXT");
            rule(&mut lark, "head[lazy]", &format!("TEXT {}", literal(OPEN)));
            rule(&mut lark, "TEXT", "/(\\n|.)*/");
            "text | head calls | written_calls"
        }
        (ToolChoice::Required | ToolChoice::Named(_), _) => "open calls",
    };
    rule(&mut lark, "start", answer);
    rule(&mut lark, "open", &literal(OPEN));
    let more = format!("({} call){{0,{}}}", literal(&format!("\n{OPEN}")), MOST_CALLS - 1);
    rule(&mut lark, "calls", &if tools.parallel { format!("call {more}") } else { "call".to_owned() });
    let written = written_call::may_be_written(tools, form);
    let (mut calls, mut written_calls) = (Vec::new(), Vec::new());
    for (index, function) in tools.functions.iter().enumerate() {
        if let ToolChoice::Named(name) = &tools.choice
            && *name != function.name
        {
            continue;
        }
        let schema = schema::of_function(function).map_err(|error| of_function(index, &error))?;
        let head = literal(&format!("{NAME}{}{ARGUMENTS}", function.name));
        rule(&mut lark, &format!("call_{index}"), &format!("{head} arguments_{index} {}", literal(CLOSE)));
        rule(&mut lark, &format!("arguments_{index}"), &format!("%json {schema}"));
        calls.push(format!("call_{index}"));
        if written {
            // Lazy as well: text that has come so far is no longer just text.
            rule(
                &mut lark,
                &format!("written_head_{index}[lazy]"),
                &regex(&written_call::pattern(&function.name)),
            );
            rule(
                &mut lark,
                &format!("written_{index}"),
                &format!("written_head_{index} SPACE? arguments_{index} written_end"),
            );
            written_calls.push(format!("written_{index}"));
        }
    }
    rule(&mut lark, "call", &calls.join(" | "));
    if written {
        rule(&mut lark, "written_call", &written_calls.join(" | "));
        let most = if tools.parallel { MOST_CALLS } else { 1 };
        rule(&mut lark, "written_calls", &format!("written_call{{1,{most}}}"));
        rule(&mut lark, "written_end", &regex(&written_call::end_pattern()));
        rule(&mut lark, "SPACE", "/[ \\n\\r\\t]+/");
    }
    if lark.len() > MOST_BYTES {
        let message = format!("Unsupported 'tools': their schemas have more than {MOST_BYTES} bytes.");
        return Err(TierError::Unsupported { param: "tools".into(), message });
    }
    Ok(TopLevelGrammar::from_lark(lark))
}

pub(super) fn of_function(index: usize, error: &SchemaError) -> TierError {
    let param = format!("tools[{index}].function.parameters");
    let message = format!("Unsupported schema in '{param}': {error}.");
    TierError::Unsupported { param: param.into(), message }
}

fn rule(lark: &mut String, name: &str, body: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(lark, "{name}: {body}");
}

fn regex(pattern: &str) -> String {
    format!("/{pattern}/")
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
