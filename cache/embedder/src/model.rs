use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use reprise_cache::{ModelHash, UnitVector};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::{
    LoadError,
    batch::{Batch, shorten},
    bert::{BertConfig, Compute, Encoder},
    weights::Weights,
};

/// Texts whose tokenisation is worth waking another thread for.
const WORTH_SHARING: usize = 4;

/// Tokenizer and weights.
pub struct Bert {
    tokenizer: Tokenizer,
    encoder: Encoder,
    max_tokens: usize,
}

impl Bert {
    /// The model and the hash of its weights.
    pub fn load(folder: &Path, max_tokens: usize) -> Result<(Self, ModelHash), LoadError> {
        let config_path = folder.join("config.json");
        let config: BertConfig =
            serde_json::from_slice(&read(&config_path)?).map_err(|error| bad(&config_path, &error))?;
        config.check().map_err(|error| bad(&config_path, &error))?;
        let tokenizer_path = folder.join("tokenizer.json");
        let mut tokenizer =
            Tokenizer::from_bytes(read(&tokenizer_path)?).map_err(|error| bad(&tokenizer_path, &error))?;
        // The file fixes both at 128, which would pad every text to that length.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| bad(&tokenizer_path, &error))?;

        let weights_path = folder.join("model.safetensors");
        let weights = read(&weights_path)?;
        let hash = ModelHash::new(Sha256::digest(&weights).into());
        let file = SafeTensors::deserialize(&weights).map_err(|error| bad(&weights_path, &error))?;
        let max_tokens = max_tokens.clamp(2, config.max_position_embeddings);
        let encoder =
            Encoder::load(config, &Weights::of(&file)).map_err(|error| bad(&weights_path, &error))?;
        Ok((Self { tokenizer, encoder, max_tokens }, hash))
    }

    pub fn dimensions(&self) -> usize {
        self.encoder.config().hidden_size
    }

    /// Token ids of each text, with the marks around it.
    pub fn tokens(&self, texts: &[String], compute: &Compute) -> Vec<Result<Vec<u32>, String>> {
        let tokens: Vec<OnceLock<_>> = texts.iter().map(|_| OnceLock::new()).collect();
        let job = |at: usize| _ = tokens[at].set(self.tokens_of(&texts[at]));
        match texts.len() {
            0..WORTH_SHARING => (0..texts.len()).for_each(job),
            count => compute.pool().each(count, |_| (), |at, _| job(at)),
        }
        tokens.into_iter().map(|tokens| tokens.into_inner().unwrap_or_else(|| Ok(Vec::new()))).collect()
    }

    fn tokens_of(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(shorten(encoding.get_ids(), self.max_tokens))
    }

    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Uncut.
    pub fn count_tokens(&self, text: &str) -> Result<usize, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(encoding.len())
    }

    /// One vector for each text.
    pub fn embed(&self, texts: &[Vec<u32>], compute: &Compute) -> Result<Vec<UnitVector>, String> {
        let means = self.encoder.means(&Batch::cut(texts), compute)?;
        means.into_iter().map(|mean| UnitVector::try_new(mean).map_err(|error| error.to_string())).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, reason: &dyn ToString) -> LoadError {
    LoadError::File { path: PathBuf::from(path), reason: reason.to_string() }
}
