use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use reprise_cache::{ModelHash, UnitVector};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::{
    LoadError,
    batch::{Batch, shorten},
};

/// Tokenizer and weights.
pub struct Bert {
    tokenizer: Tokenizer,
    model: BertModel,
    device: Device,
    dimensions: usize,
    padding: u32,
    max_tokens: usize,
}

impl Bert {
    /// The model and the hash of its weights.
    pub fn load(folder: &Path, max_tokens: usize) -> Result<(Self, ModelHash), LoadError> {
        let config_path = folder.join("config.json");
        let config: Config =
            serde_json::from_slice(&read(&config_path)?).map_err(|error| bad(&config_path, &error))?;
        let tokenizer_path = folder.join("tokenizer.json");
        let mut tokenizer =
            Tokenizer::from_bytes(read(&tokenizer_path)?).map_err(|error| bad(&tokenizer_path, &error))?;
        // The file fixes both at 128, which would pad every text to that length.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| bad(&tokenizer_path, &error))?;

        let weights_path = folder.join("model.safetensors");
        let weights = read(&weights_path)?;
        let hash = ModelHash::new(Sha256::digest(&weights).into());
        let device = Device::Cpu;
        let model = VarBuilder::from_buffered_safetensors(weights, DType::F32, &device)
            .and_then(|weights| BertModel::load(weights, &config))
            .map_err(|error| bad(&weights_path, &error))?;
        let bert = Self {
            padding: u32::try_from(config.pad_token_id).unwrap_or(0),
            max_tokens: max_tokens.clamp(2, config.max_position_embeddings),
            dimensions: config.hidden_size,
            tokenizer,
            model,
            device,
        };
        Ok((bert, hash))
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Token ids of a text, with the marks around it.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| error.to_string())?;
        Ok(shorten(encoding.get_ids(), self.max_tokens))
    }

    /// One vector for each text. `[rows, width]` ids -> `[rows, width, dimensions]` states -> `[rows, dimensions]`.
    pub fn embed(&self, texts: &[Vec<u32>]) -> Result<Vec<UnitVector>, String> {
        let means = self.means(texts).map_err(|error| error.to_string())?;
        means.into_iter().map(|mean| UnitVector::try_new(mean).map_err(|error| error.to_string())).collect()
    }

    fn means(&self, texts: &[Vec<u32>]) -> candle_core::Result<Vec<Vec<f32>>> {
        let Batch { ids, mask, rows, width } = Batch::of(texts, self.padding);
        let ids = Tensor::from_vec(ids, (rows, width), &self.device)?;
        let mask = Tensor::from_vec(mask, (rows, width), &self.device)?;
        let states = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sums = states.broadcast_mul(&mask)?.sum(1)?;
        sums.broadcast_div(&mask.sum(1)?)?.to_vec2()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, reason: &dyn ToString) -> LoadError {
    LoadError::File { path: PathBuf::from(path), reason: reason.to_string() }
}
