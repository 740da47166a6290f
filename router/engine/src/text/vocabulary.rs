use tokenizers::{Tokenizer, models::bpe::BPE};

use super::{bytes::byte_of, pretokenizer::pretokenizer};
use crate::{
    EngineError,
    gguf::{Gguf, as_u32, required},
};

/// Names under which models keep tokens that end a turn.
const TURN_ENDS: [&str; 5] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>"];

/// A model's vocabulary: byte-level BPE, and tokens that stand for whole strings.
///
/// The BPE knows no special token, so text that spells one is ordinary text. Only [`Self::encode_with_controls`]
/// turns such strings into control tokens, as the prompt builder uses it.
#[derive(Debug)]
pub struct Vocabulary {
    bpe: Tokenizer,
    /// Strings that mean themselves wherever they stand (llama.cpp's user-defined tokens), longest first.
    literals: Vec<(String, u32)>,
    /// Control tokens, longest first.
    controls: Vec<(String, u32)>,
    bytes: TokenBytes,
    ends: Vec<u32>,
    bos: Option<(String, u32)>,
    eos: Option<(String, u32)>,
    adds_bos: bool,
}

/// The bytes of every token, end to end; a control token has none.
#[derive(Debug, Default)]
struct TokenBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Vocabulary {
    /// Builds it from the file's own vocabulary.
    ///
    /// # Errors
    /// If the file lacks one, or has a kind that is not byte-level BPE with a known pre-tokenizer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, EngineError> {
        let kind = required(gguf.string("tokenizer.ggml.model"), "tokenizer.ggml.model")?;
        if kind != "gpt2" {
            let (what, supported) = ("tokenizer", "gpt2 (byte-level BPE)");
            return Err(EngineError::Unsupported { what, value: kind.to_owned(), supported });
        }
        let pre = required(gguf.string("tokenizer.ggml.pre"), "tokenizer.ggml.pre")?;
        let tokens = strings(gguf, "tokenizer.ggml.tokens")?;
        let kinds: Vec<u32> =
            gguf.array("tokenizer.ggml.token_type")?.iter().map(|v| as_u32(v).unwrap_or(NORMAL)).collect();
        if kinds.len() != tokens.len() {
            return Err(EngineError::Inconsistent("token_type and tokens differ in length".into()));
        }
        let numbered = || (0u32..).zip(tokens.iter().zip(&kinds));
        let whole = |wanted: &[u32]| -> Vec<(String, u32)> {
            let mut found: Vec<_> = numbered()
                .filter(|(_, (text, kind))| wanted.contains(kind) && !text.is_empty())
                .map(|(id, (text, _))| (text.clone(), id))
                .collect();
            found.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
            found
        };
        let named = |key: &str| gguf.number(key).and_then(|id| Some((tokens.get(id as usize)?.clone(), id)));
        let controls = whole(&[UNKNOWN, CONTROL]);
        let eos = named("tokenizer.ggml.eos_token_id");
        let mut ends: Vec<u32> = eos.iter().map(|(_, id)| *id).collect();
        ends.extend(named("tokenizer.ggml.eot_token_id").map(|(_, id)| id));
        ends.extend(
            controls.iter().filter(|(text, _)| TURN_ENDS.contains(&text.as_str())).map(|(_, id)| *id),
        );
        ends.sort_unstable();
        ends.dedup();
        Ok(Self {
            bytes: TokenBytes::new(numbered().map(|(_, (text, kind))| (text.as_str(), *kind))),
            literals: whole(&[USER_DEFINED]),
            controls,
            ends,
            bos: named("tokenizer.ggml.bos_token_id"),
            eos,
            adds_bos: gguf.flag("tokenizer.ggml.add_bos_token").unwrap_or(false),
            bpe: bpe(gguf, pre, &tokens)?,
        })
    }

    /// Text as it is: control tokens' names in it are ordinary text.
    ///
    /// # Errors
    /// If the tokenizer fails, which it does for no text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_split(text, &[&self.literals], |text| text.to_owned())
    }

    /// Text in which control tokens' names are these tokens: for what the operator wrote, never for a message.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_controls(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.encode_marked_up(text, str::to_owned)
    }

    /// As [`Self::encode_with_controls`]; `restore` is applied to what lies between them.
    pub(crate) fn encode_marked_up(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
    ) -> Result<Vec<u32>, EngineError> {
        self.encode_split(text, &[&self.controls, &self.literals], restore)
    }

    fn encode_split(
        &self,
        text: &str,
        tables: &[&[(String, u32)]],
        restore: impl Fn(&str) -> String,
    ) -> Result<Vec<u32>, EngineError> {
        let mut pieces = vec![Piece::Text(text)];
        for (name, id) in tables.iter().flat_map(|table| table.iter()) {
            if text.contains(name.as_str()) {
                pieces = pieces.into_iter().flat_map(|piece| piece.split(name, *id)).collect();
            }
        }
        let mut ids = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Token(id) => ids.push(id),
                Piece::Text(text) => {
                    let encoding = self
                        .bpe
                        .encode_fast(restore(text), false)
                        .map_err(|error| EngineError::Tokenizer(error.to_string()))?;
                    ids.extend_from_slice(encoding.get_ids());
                }
            }
        }
        Ok(ids)
    }

    /// The bytes that a token adds to the answer; none for a control token.
    #[must_use]
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize)
    }

    /// The name of a control token, such as `<|im_end|>`.
    pub(crate) fn control_name(&self, id: u32) -> Option<&str> {
        self.controls.iter().find(|(_, control)| *control == id).map(|(name, _)| name.as_str())
    }

    /// True for a token that ends the model's turn.
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Tokens in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.ends.len()
    }

    /// True if there is no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.ends.is_empty()
    }

    pub(crate) fn controls(&self) -> impl Iterator<Item = &str> {
        self.controls.iter().map(|(text, _)| text.as_str())
    }

    pub(crate) fn bos(&self) -> Option<(&str, u32)> {
        self.bos.as_ref().map(|(text, id)| (text.as_str(), *id))
    }

    pub(crate) fn eos(&self) -> Option<(&str, u32)> {
        self.eos.as_ref().map(|(text, id)| (text.as_str(), *id))
    }

    /// True if a prompt has to begin with [`Self::bos`].
    pub(crate) fn adds_bos(&self) -> bool {
        self.adds_bos
    }
}

// GGUF's token types.
const NORMAL: u32 = 1;
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

#[derive(Debug, Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    Token(u32),
}

impl<'a> Piece<'a> {
    /// Cuts out every `name`; what is left between is dropped where it is empty.
    fn split(self, name: &str, id: u32) -> Vec<Piece<'a>> {
        let Self::Text(text) = self else { return vec![self] };
        let mut pieces = Vec::new();
        for (index, part) in text.split(name).enumerate() {
            if index > 0 {
                pieces.push(Piece::Token(id));
            }
            if !part.is_empty() {
                pieces.push(Piece::Text(part));
            }
        }
        pieces
    }
}

impl TokenBytes {
    fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let mut table = Self::default();
        for (text, kind) in tokens {
            match kind {
                UNKNOWN | CONTROL => {}
                USER_DEFINED => table.bytes.extend_from_slice(text.as_bytes()),
                _ => match text.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => table.bytes.extend(bytes),
                    None => table.bytes.extend_from_slice(text.as_bytes()),
                },
            }
            table.ends.push(table.bytes.len());
        }
        table
    }

    fn get(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end).unwrap_or(&[])
    }
}

fn bpe(gguf: &Gguf, pre: &str, tokens: &[String]) -> Result<Tokenizer, EngineError> {
    let merges = strings(gguf, "tokenizer.ggml.merges")?
        .iter()
        .map(|merge| {
            let pair = merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
            pair.ok_or_else(|| EngineError::Inconsistent(format!("merge `{merge}`")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocab = tokens.iter().cloned().zip(0u32..).collect();
    let model = BPE::builder()
        .vocab_and_merges::<tokenizers::models::bpe::Vocab>(vocab, merges)
        .build()
        .map_err(|error| EngineError::Tokenizer(error.to_string()))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pretokenizer(pre)?));
    Ok(tokenizer)
}

fn strings(gguf: &Gguf, key: &str) -> Result<Vec<String>, EngineError> {
    gguf.array(key)?
        .iter()
        .map(|value| {
            value.to_string().cloned().map_err(|_| EngineError::Inconsistent(format!("{key} holds no text")))
        })
        .collect()
}
