//! Answers that hold to a form: a JSON Schema, or calls of functions, as a grammar that says which tokens may come next.
//!
//! llguidance compiles the grammar and computes the mask; here stand what it is given ([`schema`], [`tools`]), the bounds on
//! what a client can make it do, and a few grammars kept ready, because a client that wants a form wants it again and again.

mod kept;
mod mask;
mod schema;
mod tools;

use std::sync::OnceLock;

use llguidance::{ParserFactory, api::TopLevelGrammar};
use parking_lot::Mutex;
use reprise_tier::{JsonForm, TierError, Tools};
use serde_json::Value;
use sha2::{Digest, Sha256};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::{sampling::TokenMask, text::Vocabulary};
use kept::{Compiled, Kept, Key};
use mask::GrammarMask;
use schema::SchemaError;

/// Fuel of llguidance's lexer, of which it burns about 50,000 a millisecond: what one client's schema may take.
const LEXER_FUEL: u64 = 1_000_000;
/// The same for the mask of one token, at about 14,000 a millisecond. All sequences of a batch wait for it.
const MASK_FUEL: u64 = 100_000;
/// States that a lexer may come to have, of 1 to 2 kB each.
const LEXER_STATES: usize = 16_000;
const GRAMMAR_SYMBOLS: usize = 200_000;

/// The grammars of one tier.
#[derive(Debug, Default)]
pub(crate) struct Grammars {
    /// Made when the first is asked for: it holds several tries of the vocabulary.
    factory: OnceLock<Result<Factory, String>>,
    kept: Mutex<Kept>,
}

struct Factory(ParserFactory);

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Factory")
    }
}

impl Grammars {
    /// The mask of an answer; `None` if it may be anything. Takes milliseconds: not for an async thread, nor for one that
    /// computes. `scope`: who may find the grammar ready.
    pub(crate) fn mask(
        &self,
        vocabulary: &Vocabulary,
        scope: u64,
        form: Option<&JsonForm>,
        tools: Option<&Tools>,
    ) -> Result<Option<Box<dyn TokenMask>>, TierError> {
        let grammar = match (form, tools) {
            (None, None) => return Ok(None),
            (form, Some(tools)) => tools::grammar(form, tools)?,
            (Some(form), None) => {
                TopLevelGrammar::from_json_schema(schema::of_form(form).map_err(|error| of_form(&error))?)
            }
        };
        let key = key(scope, &grammar);
        let kept = self.kept.lock().get(&key);
        let compiled = match kept {
            Some(compiled) => compiled,
            None => {
                let compiled = self.compile(vocabulary, &grammar).map_err(|reason| match tools {
                    Some(tools) => self.blame(vocabulary, form, tools, &reason),
                    None => of_form(&SchemaError::Grammar(reason)),
                })?;
                self.kept.lock().put(key, compiled)
            }
        };
        Ok(Some(Box::new(GrammarMask::new(&compiled, tools.is_none()))))
    }

    /// Which of several schemas cannot be compiled.
    fn blame(
        &self,
        vocabulary: &Vocabulary,
        form: Option<&JsonForm>,
        tools: &Tools,
        reason: &str,
    ) -> TierError {
        let compile = |schema: Result<Value, SchemaError>| {
            let grammar = TopLevelGrammar::from_json_schema(schema?);
            self.compile(vocabulary, &grammar).map(drop).map_err(SchemaError::Grammar)
        };
        if let Some(Err(error)) = form.map(|form| compile(schema::of_form(form))) {
            return of_form(&error);
        }
        for (index, function) in tools.functions.iter().enumerate() {
            if let Err(error) = compile(schema::of_function(function)) {
                return tools::of_function(index, &error);
            }
        }
        let message = format!("Unsupported 'tools': together they are too much: {reason}.");
        TierError::Unsupported { param: "tools".into(), message }
    }

    fn compile(&self, vocabulary: &Vocabulary, grammar: &TopLevelGrammar) -> Result<Compiled, String> {
        let factory = self.factory.get_or_init(|| factory(vocabulary)).as_ref().map_err(Clone::clone)?;
        let parser = factory.0.create_parser(grammar.clone()).map_err(|error| first_line(&error))?;
        Ok(Compiled::new(parser))
    }
}

fn of_form(error: &SchemaError) -> TierError {
    let message = format!("Unsupported schema in 'response_format': {error}.");
    TierError::Unsupported { param: "response_format".into(), message }
}

/// llguidance's reasons have details behind them that tell a client nothing.
fn first_line(error: &impl std::fmt::Display) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn key(scope: u64, grammar: &TopLevelGrammar) -> Key {
    let mut hash = Sha256::new();
    for grammar in &grammar.grammars {
        if let Some(schema) = &grammar.json_schema {
            hash.update(schema.to_string());
        }
        hash.update([0]);
        hash.update(grammar.lark_grammar.as_deref().unwrap_or_default());
    }
    Key { scope, grammar: hash.finalize().into() }
}

fn factory(vocabulary: &Vocabulary) -> Result<Factory, String> {
    let count = u32::try_from(vocabulary.len()).map_err(|error| error.to_string())?;
    let ends: Vec<u32> = (0..count).filter(|id| vocabulary.is_end(*id)).collect();
    let first = *ends.first().ok_or("the vocabulary has no token that ends a turn")?;
    // Control tokens have no bytes, and so no grammar lets them through.
    let words: Vec<Vec<u8>> = (0..count).map(|id| vocabulary.bytes(id).to_vec()).collect();
    let trie = TokTrie::from(&TokRxInfo::new(count, first), &words).with_eos_tokens(&ends);
    // "Approximate" is its tokenizer, which nothing here uses.
    let environment: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.initial_lexer_fuel = LEXER_FUEL;
    limits.step_lexer_fuel = MASK_FUEL;
    limits.max_lexer_states = LEXER_STATES;
    limits.max_grammar_size = GRAMMAR_SYMBOLS;
    limits.verbose_errors = false;
    Ok(Factory(factory))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod written_tests;
