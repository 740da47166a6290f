use std::{
    fs,
    path::{Path, PathBuf},
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

    /// Token ids of a text, with the marks around it.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(shorten(encoding.get_ids(), self.max_tokens))
    }

    /// One vector for each text.
    pub fn embed(&self, texts: &[Vec<u32>], compute: &mut Compute) -> Result<Vec<UnitVector>, String> {
        let means = self.encoder.means(&Batch::of(texts), compute)?;
        means.into_iter().map(|mean| UnitVector::try_new(mean).map_err(|error| error.to_string())).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, reason: &dyn ToString) -> LoadError {
    LoadError::File { path: PathBuf::from(path), reason: reason.to_string() }
}
