use reprise_cuda::{
    BLOCK_TOKENS, Device, MAX_EXPERTS, MAX_TOP_K,
    weights::{Form, STEP},
};
use reprise_scheduler::{ModelLayout, SubLayerKind};

use super::{
    CudaOptions,
    load::common_form,
    work::{Lengths, Widths},
};
use crate::{
    EngineError,
    backend::MemoryEstimate,
    graph::{Mlp, SubLayer, SubLayerRole},
    loader::{MatrixPlan, Plan},
    memory::{AvailableMemory, MemoryBound},
};

/// Bytes of the GPU's memory that a model takes, from a checkpoint's header alone.
///
/// # Errors
/// The GPU cannot compute the model.
pub fn estimate(plan: &Plan, options: &CudaOptions) -> Result<MemoryEstimate, EngineError> {
    let layout = layout(plan, options)?;
    let lengths = Lengths::new(&plan.sizes, widths(plan), &layout, options);
    let mut weights = 2 * 4 * plan.rope.inverse_frequencies.len() * layout.context_length;
    let one = |plan: &MatrixPlan, form: Form| {
        form.bytes(plan.outputs, plan.inputs) + plan.bias.as_ref().map_or(0, |bias| 4 * bias.len)
    };
    let mut vectors = 0;
    let mut matrices = 0;
    plan.visit(|matrix| matrices += one(matrix, Form::of(matrix.format)), |vector| vectors += 4 * vector.len);
    // Experts of several forms are widened to one.
    for layer in &plan.sub_layers {
        if let SubLayer::Experts(layer) = layer {
            for plans in stacks(&layer.experts) {
                let form = common_form(plans.iter());
                matrices += plans.iter().map(|plan| one(plan, form)).sum::<usize>();
                matrices -= plans.iter().map(|plan| one(plan, Form::of(plan.format))).sum::<usize>();
            }
        }
    }
    weights += matrices + vectors;
    let (arena, scratch) = lengths.bytes();
    let attentions = plan.layout().count(SubLayerRole::Attention);
    Ok(MemoryEstimate { weights, kv: 2 * 2 * lengths.kv_of_attention * attentions, arena, scratch })
}

/// Experts' gates and ups, which share a form, and downs.
fn stacks(experts: &[Mlp<MatrixPlan>]) -> [Vec<&MatrixPlan>; 2] {
    [
        experts.iter().flat_map(|mlp| [&mlp.gate, &mlp.up]).collect(),
        experts.iter().map(|mlp| &mlp.down).collect(),
    ]
}

/// Free memory of a GPU.
///
/// # Errors
/// It failed.
pub fn available(device: &Device) -> Result<AvailableMemory, EngineError> {
    let (free, _) = device.memory()?;
    Ok(AvailableMemory { bytes: free as u64, bound: MemoryBound::Device })
}

fn widths(plan: &Plan) -> Widths {
    let mut widths = Widths::default();
    let mut dense = |mlp: &Mlp<MatrixPlan>| {
        let width = mlp.gate.outputs;
        widths.dense = widths.dense.max(width);
        let alike = Form::of(mlp.gate.format) == Form::of(mlp.up.format) && width.is_multiple_of(8);
        if !alike || mlp.gate.bias.is_some() || mlp.up.bias.is_some() {
            widths.apart = widths.apart.max(width);
        }
    };
    for layer in &plan.sub_layers {
        match layer {
            SubLayer::Attention(_) => {}
            SubLayer::FeedForward(layer) => dense(&layer.mlp),
            SubLayer::Experts(layer) => layer.shared.iter().for_each(|shared| dense(&shared.mlp)),
        }
    }
    for layer in &plan.sub_layers {
        if let SubLayer::Experts(layer) = layer {
            let width = layer.experts.first().map_or(0, |mlp| mlp.gate.outputs);
            widths.expert = widths.expert.max(width);
            widths.experts = widths.experts.max(layer.experts.len());
            widths.top_k = widths.top_k.max(layer.top_k);
            widths.shared |= layer.shared.is_some();
        }
    }
    widths
}

/// What the scheduler must know; refuses what the kernels do not compute.
pub(super) fn layout(plan: &Plan, options: &CudaOptions) -> Result<ModelLayout, EngineError> {
    let sizes = &plan.sizes;
    let refuse = |what: &'static str, value: String, supported: &'static str| {
        Err(EngineError::Unsupported { what, value, supported })
    };
    if options.rows == 0 || options.sequences == 0 {
        return Err(EngineError::Inconsistent("an arena of no rows".into()));
    }
    if ![32, 64, 128].contains(&sizes.head_dim) {
        return refuse("head dimension on a GPU", sizes.head_dim.to_string(), "32, 64, 128");
    }
    if sizes.heads / sizes.kv_heads > 16 {
        let value = format!("{} to {}", sizes.heads, sizes.kv_heads);
        return refuse("heads to KV heads on a GPU", value, "up to 16 to 1");
    }
    let mut odd = None;
    plan.visit(
        |matrix| {
            if !matrix.inputs.is_multiple_of(STEP) {
                odd = Some(matrix.tensor.clone());
            }
        },
        |_| {},
    );
    if let Some(tensor) = odd {
        return refuse("inputs on a GPU", tensor, "multiples of 64");
    }
    let own = sizes.context_length;
    let mut sub_layers = Vec::with_capacity(plan.sub_layers.len());
    for layer in &plan.sub_layers {
        sub_layers.push(match layer {
            SubLayer::Attention(_) => SubLayerKind::Attention,
            SubLayer::FeedForward(_) => SubLayerKind::DenseFeedForward,
            SubLayer::Experts(layer) => {
                let (experts, top_k) = (layer.experts.len(), layer.top_k);
                if experts > MAX_EXPERTS || top_k > MAX_TOP_K {
                    return refuse("experts on a GPU", format!("{top_k} of {experts}"), "up to 32 of 512");
                }
                let small = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
                SubLayerKind::Experts { experts: small(experts), top_k: small(top_k) }
            }
        });
    }
    Ok(ModelLayout {
        sub_layers,
        vocabulary: sizes.vocabulary,
        rows: options.rows,
        kv_blocks: options.kv_blocks,
        kv_block_tokens: BLOCK_TOKENS,
        context_length: options.context_length.map_or(own, |most| most.min(own)),
    })
}
