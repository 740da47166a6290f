//! A model as what it computes: a sequence of sub-layers, each with its shapes and weights.
//!
//! The graph is generic over what stands for a weight. A checkpoint's header gives a graph of *plans* (where the bytes
//! are, in which format and shape), checked once; everything downstream trusts its shapes. A device turns it into a graph
//! of its own weights with [`Graph::try_map`]: the CPU packs them for its kernels, and the prediction of memory looks at
//! the plans only.

mod layout;
mod map;
mod rope;
mod sizes;

pub use layout::{Layout, SubLayerRole};
pub use map::Convert;
pub use rope::{Rope, RopeScaling, Yarn};
pub use sizes::Sizes;

/// A pre-norm decoder. `M`: a matrix, with its bias if it has one. `V`: a vector.
#[derive(Debug, Clone)]
pub struct Graph<M, V> {
    pub sizes: Sizes,
    pub rope: Rope,
    /// [vocabulary, hidden]
    pub embedding: M,
    pub sub_layers: Vec<SubLayer<M, V>>,
    /// `[hidden]`
    pub final_norm: V,
    /// [vocabulary, hidden]; none: the embedding serves (tied weights).
    pub output: Option<M>,
}

#[derive(Debug, Clone)]
pub enum SubLayer<M, V> {
    Attention(Attention<M, V>),
    FeedForward(FeedForward<M, V>),
    Experts(Experts<M, V>),
}

/// Causal grouped-query attention with rotary embedding.
#[derive(Debug, Clone)]
pub struct Attention<M, V> {
    /// RMS norm before, `[hidden]`.
    pub norm: V,
    /// [heads * head_dim, hidden]
    pub q: M,
    /// [kv_heads * head_dim, hidden]
    pub k: M,
    /// [kv_heads * head_dim, hidden]
    pub v: M,
    pub qk_norm: Option<QkNorm<V>>,
    /// [hidden, heads * head_dim]
    pub output: M,
}

/// RMS norms of queries and keys before they are turned. Each head by itself where the weights are `[head_dim]`, the whole
/// projection at once where they are as long as it is.
#[derive(Debug, Clone)]
pub struct QkNorm<V> {
    pub q: V,
    pub k: V,
}

/// `down(silu(gate(x)) * up(x))` (SwiGLU, arXiv 2002.05202).
#[derive(Debug, Clone)]
pub struct Mlp<M> {
    /// [width, hidden]
    pub gate: M,
    /// [width, hidden]
    pub up: M,
    /// [hidden, width]
    pub down: M,
}

#[derive(Debug, Clone)]
pub struct FeedForward<M, V> {
    /// RMS norm before, `[hidden]`.
    pub norm: V,
    pub mlp: Mlp<M>,
}

/// A mixture of experts: `sum over the top_k of p_e * expert_e(x)`, `p = softmax(gate(x))`.
#[derive(Debug, Clone)]
pub struct Experts<M, V> {
    /// RMS norm before, `[hidden]`.
    pub norm: V,
    /// [experts, hidden]
    pub gate: M,
    pub experts: Vec<Mlp<M>>,
    pub top_k: usize,
    /// Whether the weights of the chosen ones are scaled to sum to 1.
    pub renormalise: bool,
    pub shared: Option<SharedExpert<M>>,
}

/// An expert that sees every token: `sigmoid(gate(x)) * mlp(x)` is added.
#[derive(Debug, Clone)]
pub struct SharedExpert<M> {
    /// [1, hidden]
    pub gate: M,
    pub mlp: Mlp<M>,
}

impl<M, V> SubLayer<M, V> {
    #[must_use]
    pub const fn role(&self) -> SubLayerRole {
        match self {
            Self::Attention(_) => SubLayerRole::Attention,
            Self::FeedForward(_) => SubLayerRole::FeedForward,
            Self::Experts(_) => SubLayerRole::Experts,
        }
    }
}

impl<M, V> Graph<M, V> {
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.sub_layers.iter().map(SubLayer::role).collect()
    }

    /// The matrix whose product gives the logits.
    #[must_use]
    pub fn head(&self) -> &M {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// The largest number of experts that any sub-layer sends a token to; 0 without experts.
    #[must_use]
    pub fn max_top_k(&self) -> usize {
        let top_k = |layer: &SubLayer<M, V>| match layer {
            SubLayer::Experts(experts) => experts.top_k,
            SubLayer::Attention(_) | SubLayer::FeedForward(_) => 0,
        };
        self.sub_layers.iter().map(top_k).max().unwrap_or(0)
    }
}
