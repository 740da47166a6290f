use crate::EngineError;

/// The sizes that all sub-layers of a model share.
#[derive(Debug, Clone, PartialEq)]
pub struct Sizes {
    pub hidden: usize,
    pub vocabulary: usize,
    /// Prompt and completion together, in tokens.
    pub context_length: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// What RMS norms add to the mean square.
    pub norm_eps: f32,
}

impl Sizes {
    /// Elements of all query heads.
    #[must_use]
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of all key heads, and of all value heads.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Refuses sizes that no model can have. Limits keep every product of two of them within 64 bits.
    pub(crate) fn check(self) -> Result<Self, EngineError> {
        let all =
            [self.hidden, self.vocabulary, self.context_length, self.heads, self.kv_heads, self.head_dim];
        if all.iter().any(|size| *size == 0 || *size > 1 << 28) {
            return Err(EngineError::Inconsistent(format!("a size is 0 or absurd: {self:?}")));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(EngineError::Inconsistent(format!(
                "{} heads over {} KV heads",
                self.heads, self.kv_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(EngineError::Inconsistent(format!(
                "rotary embedding turns pairs, and a head has {} dimensions",
                self.head_dim
            )));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return Err(EngineError::Inconsistent(format!("norm epsilon {}", self.norm_eps)));
        }
        Ok(self)
    }
}
