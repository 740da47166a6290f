use std::collections::HashSet;

use super::{
    MatrixPlan, Plan, VectorPlan,
    config::{Config, ExpertConfig},
    families::{ExpertFamily, QkNormExtent},
    names::{self, Outer, Part},
};
use crate::{
    EngineError,
    graph::{Attention, Experts, FeedForward, Graph, Mlp, QkNorm, Rope, SharedExpert, SubLayer},
    source::{TensorInfo, TensorSource},
};

/// Finds every weight that `config` calls for, holds its shape to what it must be, and sees that no tensor is left over: a left-over one
/// would mean that the model computes something else than was trained.
pub(super) fn plan(config: &Config, source: &dyn TensorSource) -> Result<Plan, EngineError> {
    let mut planner = Planner { config, source, used: HashSet::new() };
    let plan = planner.model()?;
    for name in source.names() {
        if !planner.used.contains(name) && !names::is_ignored(name) {
            return Err(EngineError::UnknownTensor { name: name.to_owned(), family: config.family.name });
        }
    }
    Ok(plan)
}

struct Planner<'a> {
    config: &'a Config,
    source: &'a dyn TensorSource,
    used: HashSet<String>,
}

impl<'a> Planner<'a> {
    fn model(&mut self) -> Result<Plan, EngineError> {
        let config = self.config;
        let (hidden, vocabulary) = (config.sizes.hidden, config.sizes.vocabulary);
        let embedding = self.outer_matrix(Outer::Embedding, vocabulary, hidden)?;
        let mut sub_layers = Vec::with_capacity(2 * config.layers);
        for layer in 0..config.layers {
            sub_layers.push(SubLayer::Attention(self.attention(layer)?));
            sub_layers.push(match (&config.experts, &config.family.experts) {
                (Some(experts), Some(family)) if experts.in_layer(layer, |part| self.has(layer, part)) => {
                    SubLayer::Experts(self.experts(layer, experts, family)?)
                }
                _ => SubLayer::FeedForward(self.feed_forward(layer)?),
            });
        }
        let final_norm = self.vector(names::outer(config.container, Outer::FinalNorm), hidden)?;
        let output = self.output()?;
        let rope = Rope::new(config.rope_base, config.sizes.head_dim, &config.rope_scaling, config.pairing);
        Ok(Graph { sizes: config.sizes.clone(), rope, embedding, sub_layers, final_norm, output })
    }

    fn output(&mut self) -> Result<Option<MatrixPlan>, EngineError> {
        let name = names::outer(self.config.container, Outer::Output);
        let tied = self.config.tied.unwrap_or_else(|| self.source.tensor(name).is_none());
        if tied {
            // Some writers store the embedding a second time.
            self.used.insert(name.to_owned());
            return Ok(None);
        }
        self.outer_matrix(Outer::Output, self.config.sizes.vocabulary, self.config.sizes.hidden).map(Some)
    }

    fn attention(&mut self, layer: usize) -> Result<Attention<MatrixPlan, VectorPlan>, EngineError> {
        let sizes = &self.config.sizes;
        let (hidden, q_width, kv_width) = (sizes.hidden, sizes.q_width(), sizes.kv_width());
        let bias = self.config.qkv_bias;
        let extents = match self.config.family.qk_norm {
            QkNormExtent::None => None,
            QkNormExtent::Head => Some((sizes.head_dim, sizes.head_dim)),
            QkNormExtent::Projection => Some((q_width, kv_width)),
        };
        let qk_norm = match extents {
            Some((q, k)) => Some(QkNorm {
                q: self.layer_vector(layer, Part::QNorm, q)?,
                k: self.layer_vector(layer, Part::KNorm, k)?,
            }),
            None => None,
        };
        Ok(Attention {
            norm: self.layer_vector(layer, Part::AttentionNorm, hidden)?,
            q: self.layer_matrix(layer, Part::Q, q_width, hidden, bias)?,
            k: self.layer_matrix(layer, Part::K, kv_width, hidden, bias)?,
            v: self.layer_matrix(layer, Part::V, kv_width, hidden, bias)?,
            qk_norm,
            output: self.layer_matrix(layer, Part::AttentionOutput, hidden, q_width, false)?,
        })
    }

    fn feed_forward(&mut self, layer: usize) -> Result<FeedForward<MatrixPlan, VectorPlan>, EngineError> {
        let norm = self.layer_vector(layer, Part::FeedForwardNorm, self.config.sizes.hidden)?;
        let mlp = self.mlp(layer, [Part::Gate, Part::Up, Part::Down], self.config.width)?;
        Ok(FeedForward { norm, mlp })
    }

    fn mlp(
        &mut self,
        layer: usize,
        [gate, up, down]: [Part; 3],
        width: usize,
    ) -> Result<Mlp<MatrixPlan>, EngineError> {
        let hidden = self.config.sizes.hidden;
        Ok(Mlp {
            gate: self.layer_matrix(layer, gate, width, hidden, false)?,
            up: self.layer_matrix(layer, up, width, hidden, false)?,
            down: self.layer_matrix(layer, down, hidden, width, false)?,
        })
    }

    fn experts(
        &mut self,
        layer: usize,
        config: &ExpertConfig,
        family: &'a ExpertFamily,
    ) -> Result<Experts<MatrixPlan, VectorPlan>, EngineError> {
        let hidden = self.config.sizes.hidden;
        let norm = self.layer_vector(layer, Part::FeedForwardNorm, hidden)?;
        let gate = self.layer_matrix(layer, Part::ExpertGate, config.count, hidden, false)?;
        let experts = (0..config.count)
            .map(|expert| {
                Ok(Mlp {
                    gate: self.expert(layer, expert, 0, config, family)?,
                    up: self.expert(layer, expert, 1, config, family)?,
                    down: self.expert(layer, expert, 2, config, family)?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        let shared = match config.shared_width {
            Some(width) if family.shared => Some(SharedExpert {
                gate: self.layer_matrix(layer, Part::SharedExpertGate, 1, hidden, false)?,
                mlp: self.mlp(layer, [Part::SharedGate, Part::SharedUp, Part::SharedDown], width)?,
            }),
            _ => None,
        };
        let (top_k, renormalise) = (config.top_k, config.renormalise);
        Ok(Experts { norm, gate, experts, top_k, renormalise, shared })
    }

    /// `part`: 0 gate, 1 up, 2 down.
    fn expert(
        &mut self,
        layer: usize,
        expert: usize,
        part: usize,
        config: &ExpertConfig,
        family: &ExpertFamily,
    ) -> Result<MatrixPlan, EngineError> {
        let hidden = self.config.sizes.hidden;
        let (outputs, inputs) = if part == 2 { (hidden, config.width) } else { (config.width, hidden) };
        let stacked = names::stacked_experts(layer, part);
        let single = names::expert(self.config.container, family, layer, expert, part);
        if self.source.tensor(&single).is_some() || self.source.tensor(&stacked).is_none() {
            return self.matrix(&single, outputs, inputs);
        }
        let info = self.tensor(&stacked, &[config.count, outputs, inputs])?;
        let format = info.format;
        // The whole tensor consists of such matrices.
        let start = info.bytes().unwrap_or(0) / config.count * expert;
        Ok(MatrixPlan { tensor: stacked, start, format, outputs, inputs, bias: None })
    }

    fn has(&self, layer: usize, part: Part) -> bool {
        self.source.tensor(&format!("{}.weight", self.name(layer, part))).is_some()
    }

    fn name(&self, layer: usize, part: Part) -> String {
        names::layer(self.config.container, self.config.family.experts.as_ref(), layer, part)
    }

    fn layer_vector(&mut self, layer: usize, part: Part, len: usize) -> Result<VectorPlan, EngineError> {
        self.vector(&format!("{}.weight", self.name(layer, part)), len)
    }

    fn layer_matrix(
        &mut self,
        layer: usize,
        part: Part,
        outputs: usize,
        inputs: usize,
        needs_bias: bool,
    ) -> Result<MatrixPlan, EngineError> {
        let name = self.name(layer, part);
        let mut matrix = self.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias = format!("{name}.bias");
        if needs_bias || self.source.tensor(&bias).is_some() {
            matrix.bias = Some(self.vector(&bias, outputs)?);
        }
        Ok(matrix)
    }

    fn outer_matrix(
        &mut self,
        part: Outer,
        outputs: usize,
        inputs: usize,
    ) -> Result<MatrixPlan, EngineError> {
        self.matrix(names::outer(self.config.container, part), outputs, inputs)
    }

    fn matrix(&mut self, name: &str, outputs: usize, inputs: usize) -> Result<MatrixPlan, EngineError> {
        let format = self.tensor(name, &[outputs, inputs])?.format;
        Ok(MatrixPlan { tensor: name.to_owned(), start: 0, format, outputs, inputs, bias: None })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<VectorPlan, EngineError> {
        let format = self.tensor(name, &[len])?.format;
        Ok(VectorPlan { tensor: name.to_owned(), format, len })
    }

    /// The tensor, if it has the shape. Leading dimensions of 1 do not count.
    fn tensor(&mut self, name: &str, expected: &[usize]) -> Result<&'a TensorInfo, EngineError> {
        let Some(info) = self.source.tensor(name) else {
            return Err(EngineError::MissingTensor { name: name.to_owned() });
        };
        if squeezed(&info.shape) != squeezed(expected) {
            return Err(EngineError::TensorShape {
                name: name.to_owned(),
                expected: expected.to_vec(),
                found: info.shape.clone(),
            });
        }
        self.used.insert(name.to_owned());
        Ok(info)
    }
}

fn squeezed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|size| **size == 1).count();
    &shape[ones..]
}
