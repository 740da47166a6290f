//! How text is cut before byte-pair merging, by the name in `tokenizer.ggml.pre`.
//!
//! candle's `TokenizerFromGguf` was read and left: for `smollm` it falls back to GPT-2's cut, which joins digits
//! and puts a space before the text, and for `qwen2` it applies NFC, which llama.cpp does not.

use tokenizers::{
    Error, PreTokenizerWrapper, SplitDelimiterBehavior,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::EngineError;

const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The cut that `name` stands for.
pub(crate) fn pretokenizer(name: &str) -> Result<PreTokenizerWrapper, EngineError> {
    let steps: Vec<PreTokenizerWrapper> = match name {
        // Each digit alone, then GPT-2's pattern.
        "smollm" => vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()],
        "qwen2" => {
            let pattern = SplitPattern::Regex(QWEN2.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error: Error| EngineError::Tokenizer(error.to_string()))?;
            vec![split.into(), ByteLevel::new(false, false, false).into()]
        }
        other => {
            return Err(EngineError::Unsupported {
                what: "pre-tokenizer",
                value: other.to_owned(),
                supported: "smollm, qwen2",
            });
        }
    };
    Ok(Sequence::new(steps).into())
}
