//! Models of known shapes with random weights, for measuring speed where no checkpoint is at hand.

use reprise_kernels::rope::Pairing;

use super::{
    config::{Config, Container, ExpertConfig},
    families::{Family, QkNormExtent},
    names::{self, Outer, Part},
};
use crate::{
    EngineError,
    graph::{RopeScaling, Sizes},
};

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    family: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context_length: usize,
    experts: usize,
    top_k: usize,
    width: usize,
    renormalise: bool,
    rope_base: f64,
}

/// As the released checkpoints' `config.json` have them, and a small one for tests.
const SHAPES: [Shape; 6] = [
    Shape {
        name: "olmoe-1b-7b",
        family: "olmoe",
        layers: 16,
        hidden: 2048,
        heads: 16,
        kv_heads: 16,
        head_dim: 128,
        vocabulary: 50_304,
        context_length: 4096,
        experts: 64,
        top_k: 8,
        width: 1024,
        renormalise: false,
        rope_base: 10_000.0,
    },
    Shape {
        name: "qwen3-30b-a3b",
        family: "qwen3_moe",
        layers: 48,
        hidden: 2048,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        vocabulary: 151_936,
        context_length: 40_960,
        experts: 128,
        top_k: 8,
        width: 768,
        renormalise: true,
        rope_base: 1_000_000.0,
    },
    Shape {
        name: "mixtral-8x7b",
        family: "mixtral",
        layers: 32,
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 32_000,
        context_length: 32_768,
        experts: 8,
        top_k: 2,
        width: 14_336,
        renormalise: true,
        rope_base: 1_000_000.0,
    },
    Shape {
        name: "mixtral-tiny",
        family: "mixtral",
        layers: 3,
        hidden: 256,
        heads: 8,
        kv_heads: 2,
        head_dim: 32,
        vocabulary: 512,
        context_length: 512,
        experts: 8,
        top_k: 2,
        width: 192,
        renormalise: true,
        rope_base: 1_000_000.0,
    },
    Shape {
        name: "olmoe-tiny",
        family: "olmoe",
        layers: 2,
        hidden: 256,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        vocabulary: 512,
        context_length: 512,
        experts: 8,
        top_k: 2,
        width: 128,
        renormalise: false,
        rope_base: 10_000.0,
    },
    Shape {
        name: "qwen3-moe-tiny",
        family: "qwen3_moe",
        layers: 2,
        hidden: 256,
        heads: 8,
        kv_heads: 2,
        head_dim: 128,
        vocabulary: 512,
        context_length: 512,
        experts: 16,
        top_k: 4,
        width: 64,
        renormalise: true,
        rope_base: 1_000_000.0,
    },
];

/// Names and shapes.
type Tensors = Vec<(String, Vec<usize>)>;

/// A small one whose experts can be chosen, for measuring schedules: with any number of experts a layer has the same weights.
const MINI: Shape = Shape {
    name: "olmoe-mini-",
    family: "olmoe",
    layers: 8,
    hidden: 256,
    heads: 4,
    kv_heads: 4,
    head_dim: 64,
    vocabulary: 512,
    context_length: 2048,
    experts: 8,
    top_k: 2,
    width: MINI_WIDTH / 8,
    renormalise: true,
    rope_base: 10_000.0,
};
/// Of all experts of a layer together.
const MINI_WIDTH: usize = 8192;

/// `olmoe-mini-8x2`: 8 experts, of which 2 are chosen.
fn mini(name: &str) -> Option<Shape> {
    let (experts, top_k) = name.strip_prefix(MINI.name)?.split_once('x')?;
    let (experts, top_k) = (experts.parse::<usize>().ok()?, top_k.parse::<usize>().ok()?);
    let fits = (1..=128).contains(&experts) && experts.is_power_of_two() && (1..=experts).contains(&top_k);
    fits.then(|| Shape { experts, top_k, width: MINI_WIDTH / experts, ..MINI })
}

/// The settings of a shape, and its tensors; with fewer layers and other experts of a token, if so wanted.
pub(super) fn random(
    name: &str,
    layers: Option<usize>,
    top_k: Option<usize>,
) -> Result<(Config, Tensors), EngineError> {
    let unknown = || EngineError::Unsupported {
        what: "random shape",
        value: name.to_owned(),
        supported: "mixtral-8x7b, olmoe-1b-7b, qwen3-30b-a3b, mixtral-tiny, olmoe-tiny, qwen3-moe-tiny, olmoe-mini-ExK with E experts of which \
                    K are chosen",
    };
    let known = SHAPES.iter().find(|shape| shape.name == name).copied();
    let known = known.or_else(|| mini(name)).ok_or_else(unknown)?;
    let shape = known.cut(layers, top_k)?;
    let family = Family::by_name(shape.family).ok_or_else(unknown)?;
    let config = Config {
        container: Container::Folder,
        family,
        layers: shape.layers,
        sizes: Sizes {
            hidden: shape.hidden,
            vocabulary: shape.vocabulary,
            context_length: shape.context_length,
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            norm_eps: 1e-6,
        },
        width: shape.width,
        rope_base: shape.rope_base,
        rope_scaling: RopeScaling::None,
        pairing: Pairing::Halves,
        qkv_bias: family.qkv_bias,
        tied: Some(false),
        experts: Some(ExpertConfig {
            count: shape.experts,
            top_k: shape.top_k,
            width: shape.width,
            shared_width: None,
            renormalise: shape.renormalise,
            layers: Some(vec![true; shape.layers]),
        }),
    }
    .check()?;
    let tensors = shape.tensors(family);
    Ok((config, tensors))
}

impl Shape {
    fn cut(self, layers: Option<usize>, top_k: Option<usize>) -> Result<Self, EngineError> {
        let within = |what: &'static str, wanted: Option<usize>, most: usize, own: usize| match wanted {
            None => Ok(own),
            Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
            Some(wanted) => Err(EngineError::Unsupported {
                what,
                value: wanted.to_string(),
                supported: "at least 1, and no more than the shape has",
            }),
        };
        let layers = within("number of layers", layers, self.layers, self.layers)?;
        let top_k = within("number of experts of a token", top_k, self.experts, self.top_k)?;
        Ok(Self { layers, top_k, ..self })
    }

    fn tensors(&self, family: &'static Family) -> Tensors {
        let Self { hidden, vocabulary, width, .. } = *self;
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let folder = Container::Folder;
        let norms = match family.qk_norm {
            QkNormExtent::None => None,
            QkNormExtent::Head => Some((self.head_dim, self.head_dim)),
            QkNormExtent::Projection => Some((q, kv)),
        };
        let mut tensors = vec![
            (names::outer(folder, Outer::Embedding).to_owned(), vec![vocabulary, hidden]),
            (names::outer(folder, Outer::FinalNorm).to_owned(), vec![hidden]),
            (names::outer(folder, Outer::Output).to_owned(), vec![vocabulary, hidden]),
        ];
        for layer in 0..self.layers {
            let parts = [
                (Part::AttentionNorm, vec![hidden]),
                (Part::Q, vec![q, hidden]),
                (Part::K, vec![kv, hidden]),
                (Part::V, vec![kv, hidden]),
                (Part::AttentionOutput, vec![hidden, q]),
                (Part::FeedForwardNorm, vec![hidden]),
                (Part::ExpertGate, vec![self.experts, hidden]),
            ];
            let name =
                |part| format!("{}.weight", names::layer(folder, family.experts.as_ref(), layer, part));
            tensors.extend(parts.into_iter().map(|(part, shape)| (name(part), shape)));
            if let Some((q, k)) = norms {
                tensors.extend([(name(Part::QNorm), vec![q]), (name(Part::KNorm), vec![k])]);
            }
            let Some(names_of) = &family.experts else { continue };
            for expert in 0..self.experts {
                for (part, shape) in
                    [vec![width, hidden], vec![width, hidden], vec![hidden, width]].into_iter().enumerate()
                {
                    tensors.push((names::expert(folder, names_of, layer, expert, part), shape));
                }
            }
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use crate::loader::{Checkpoint, Plan};

    fn weights(plan: &Plan) -> usize {
        let (mut matrices, mut vectors) = (0, 0);
        plan.visit(|matrix| matrices += matrix.outputs * matrix.inputs, |vector| vectors += vector.len);
        matrices + vectors
    }

    #[test]
    fn shapes_have_the_weights_of_the_released_models() {
        for (name, billions) in [("olmoe-1b-7b", 6.92), ("qwen3-30b-a3b", 30.53), ("mixtral-8x7b", 46.70)] {
            let checkpoint = Checkpoint::random(name).expect("known");
            let found = weights(checkpoint.plan()) as f64 / 1e9;
            assert!((found - billions).abs() < 0.01, "{name}: {found}");
        }
        assert!(Checkpoint::random("gpt-5").is_err());
    }

    #[test]
    fn shapes_can_have_fewer_layers_and_other_experts_of_a_token() {
        let cut = Checkpoint::random_cut("mixtral-8x7b", Some(4), Some(1)).expect("known");
        let gated = cut.plan().sub_layers.iter().filter_map(|layer| match layer {
            crate::graph::SubLayer::Experts(layer) => Some(layer.top_k),
            _ => None,
        });
        assert_eq!(gated.collect::<Vec<_>>(), [1; 4]);
        for (layers, top_k) in [(0, 1), (33, 1), (4, 0), (4, 9)] {
            assert!(Checkpoint::random_cut("mixtral-8x7b", Some(layers), Some(top_k)).is_err());
        }
    }

    #[test]
    fn minis_have_the_same_weights_whatever_their_experts() {
        let experts = |name: &str| {
            let checkpoint = Checkpoint::random(name).expect("known");
            weights(checkpoint.plan())
                - checkpoint.plan().sub_layers.len() / 2
                    * 256
                    * match name {
                        "olmoe-mini-8x2" => 8,
                        _ => 64,
                    }
        };
        assert_eq!(experts("olmoe-mini-8x2"), experts("olmoe-mini-64x1"));
        for wrong in
            ["olmoe-mini-8", "olmoe-mini-8x9", "olmoe-mini-0x0", "olmoe-mini-7x1", "olmoe-mini-256x1"]
        {
            assert!(Checkpoint::random(wrong).is_err(), "{wrong}");
        }
    }

    #[cfg(feature = "cuda")]
    #[test]
    fn memory_on_a_gpu_is_predicted_from_shapes() {
        use crate::backend::cuda::{CudaOptions, estimate};
        let options = |kv_blocks| CudaOptions {
            ordinal: 0,
            rows: 256,
            sequences: 64,
            kv_blocks,
            context_length: Some(4096),
        };
        let checkpoint = Checkpoint::random("olmoe-1b-7b").expect("known");
        let few = estimate(checkpoint.plan(), &options(1000)).expect("computes it");
        let bytes = 2 * weights(checkpoint.plan());
        assert!(few.weights >= bytes && few.weights < bytes + bytes / 100, "{} beside {bytes}", few.weights);
        // 16 layers, keys and values of 2,048 halves.
        assert_eq!(few.kv, 1000 * 32 * 16 * 2 * 2048 * 2);
        let more = estimate(checkpoint.plan(), &options(2000)).expect("computes it");
        assert_eq!((more.kv, more.scratch), (2 * few.kv, few.scratch));
    }
}
