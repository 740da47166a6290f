use crate::{
    Entry, Format, Header, Layers, Tensor, UpcycleError, Value,
    gguf::{ALIGNMENT_KEY, align_up},
};

/// What is made of a dense model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcycle {
    pub layers: Layers,
    /// Copies of the feed-forward in each chosen layer, 2 to 512 (the most that llama.cpp loads).
    pub experts: u16,
    /// Experts that a token goes to, 1 to `experts`.
    pub top_k: u16,
    /// Of the gates.
    pub seed: u64,
}

/// The file to write.
#[derive(Debug)]
pub(crate) struct Plan {
    pub entries: Vec<Entry>,
    /// Offsets ascend and leave only padding between tensors.
    pub tensors: Vec<(Tensor, Content)>,
    pub alignment: u64,
    /// The layers that were chosen.
    pub layers: Vec<u32>,
}

/// Where a tensor's bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// So many times the source's bytes from here, counted from its start.
    Copies { from: u64, bytes: u64, times: u16 },
    /// Random numbers.
    Gate { layer: u32 },
}

const ARCHITECTURE: &str = "general.architecture";
const NAME: &str = "general.name";
const EXPERTS: &str = "llama.expert_count";
const USED: &str = "llama.expert_used_count";
/// True of the dense model and no longer of the copy, or written anew.
const REPLACED: [&str; 6] =
    [NAME, "general.description", "general.size_label", "general.parameter_count", EXPERTS, USED];
const MOST_EXPERTS: u16 = 512;

impl Plan {
    /// `source_sha256`: of the dense file, noted in the copy.
    pub fn new(source: &Header, source_sha256: &str, options: &Upcycle) -> Result<Self, UpcycleError> {
        let Upcycle { experts, top_k, .. } = *options;
        if !(2..=MOST_EXPERTS).contains(&experts) {
            return Err(UpcycleError::Experts(experts));
        }
        if !(1..=experts).contains(&top_k) {
            return Err(UpcycleError::TopK { top_k, experts });
        }
        let architecture = source.string(ARCHITECTURE).ok_or(UpcycleError::MissingMetadata(ARCHITECTURE))?;
        if architecture != "llama" {
            return Err(UpcycleError::Architecture(architecture.to_owned()));
        }
        if let Some(experts) = source.number(EXPERTS).filter(|experts| *experts > 0) {
            return Err(UpcycleError::NotDense(experts));
        }
        let count = |key| source.number(key).ok_or(UpcycleError::MissingMetadata(key));
        let (blocks, hidden) = (count("llama.block_count")?, u64::from(count("llama.embedding_length")?));
        let layers = options.layers.of(blocks)?;
        for layer in &layers {
            check(source, *layer, hidden)?;
        }
        let mut plan = Self {
            entries: entries(source, source_sha256, options, &layers),
            tensors: Vec::new(),
            alignment: source.alignment,
            layers,
        };
        for tensor in &source.tensors {
            plan.place(source, tensor, hidden, options);
        }
        Ok(plan)
    }

    /// Of the tensor data.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.last().map_or(0, |(tensor, _)| align_up(tensor.offset + tensor.bytes, self.alignment))
    }

    fn place(&mut self, source: &Header, tensor: &Tensor, hidden: u64, options: &Upcycle) {
        let from = source.data_start + tensor.offset;
        let copies = |times| Content::Copies { from, bytes: tensor.bytes, times };
        let Some((layer, matrix)) =
            feed_forward(&tensor.name).filter(|(layer, _)| self.layers.contains(layer))
        else {
            return self.push(tensor.name.clone(), tensor.shape.clone(), tensor.format, copies(1));
        };
        let experts = u64::from(options.experts);
        if matrix == "gate" {
            let name = format!("blk.{layer}.ffn_gate_inp.weight");
            self.push(name, vec![hidden, experts], Format::F32, Content::Gate { layer });
        }
        let mut shape = tensor.shape.clone();
        shape.push(experts);
        let name = format!("blk.{layer}.ffn_{matrix}_exps.weight");
        self.push(name, shape, tensor.format, copies(options.experts));
    }

    fn push(&mut self, name: String, shape: Vec<u64>, format: Format, content: Content) {
        let bytes = match content {
            Content::Copies { bytes, times, .. } => bytes * u64::from(times),
            Content::Gate { .. } => shape.iter().product::<u64>() * size_of::<f32>() as u64,
        };
        let offset = self.data_bytes();
        self.tensors.push((Tensor { name, shape, format, offset, bytes }, content));
    }
}

const MATRICES: [&str; 3] = ["gate", "up", "down"];

/// Layer and matrix of `blk.N.ffn_{gate,up,down}.weight`.
fn feed_forward(name: &str) -> Option<(u32, &'static str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let matrix = rest.strip_prefix("ffn_")?.strip_suffix(".weight")?;
    let matrix = MATRICES.into_iter().find(|known| *known == matrix)?;
    Some((layer.parse().ok()?, matrix))
}

/// The feed-forward of a layer must be what experts can be: three matrices of fitting shapes, no biases.
fn check(source: &Header, layer: u32, hidden: u64) -> Result<(), UpcycleError> {
    let mut inner = None;
    for matrix in MATRICES {
        let bias = format!("blk.{layer}.ffn_{matrix}.bias");
        if source.tensor(&bias).is_some() {
            return Err(UpcycleError::Bias(bias));
        }
        let name = format!("blk.{layer}.ffn_{matrix}.weight");
        let tensor = source.tensor(&name).ok_or_else(|| UpcycleError::MissingTensor(name.clone()))?;
        let inner = *inner.get_or_insert_with(|| tensor.shape.get(1).copied().unwrap_or(0));
        let expected = if matrix == "down" { [inner, hidden] } else { [hidden, inner] };
        if tensor.shape != expected {
            return Err(UpcycleError::Shape { name, shape: tensor.shape.clone(), expected: expected.into() });
        }
    }
    Ok(())
}

/// The source's metadata with what is no longer true replaced, and a note that says what the file is.
fn entries(source: &Header, source_sha256: &str, options: &Upcycle, layers: &[u32]) -> Vec<Entry> {
    let Upcycle { experts, top_k, seed, .. } = options;
    let of = source.string(NAME).unwrap_or("a dense llama model");
    let name = format!("{of} MoE {experts}x{top_k} (upcycled copies)");
    let list = layers.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let description = format!(
        "Upcycled copy of {of}, function-preserving, experts are copies: in the layers {list} the feed-forward was \
         replaced by {experts} experts, each a byte-for-byte copy of it, behind a random gate (seed {seed}); each token \
         goes to {top_k}, their weights sum to 1. It computes what the dense model computes. Nothing was trained."
    );
    let mut entries: Vec<Entry> =
        source.entries.iter().filter(|entry| !REPLACED.contains(&entry.key.as_str())).cloned().collect();
    // Readers expect the architecture first.
    let at = entries.iter().position(|entry| entry.key == ARCHITECTURE).map_or(0, |at| at + 1);
    entries.splice(
        at..at,
        [
            Entry::new(NAME, &Value::Str(&name)),
            Entry::new("general.description", &Value::Str(&description)),
            Entry::new(EXPERTS, &Value::U32(u32::from(*experts))),
            Entry::new(USED, &Value::U32(u32::from(*top_k))),
            Entry::new("reprise.upcycle.layers", &Value::U32s(layers)),
            Entry::new("reprise.upcycle.seed", &Value::U64(*seed)),
            Entry::new("reprise.upcycle.source_sha256", &Value::Str(source_sha256)),
        ],
    );
    debug_assert!(source.alignment == 32 || entries.iter().any(|entry| entry.key == ALIGNMENT_KEY));
    entries
}
