use reprise_kernels::matrix::Matrix;

use super::{Bank, BankError, BankHash, ExpertMatrix, Part, Shape};
use crate::{
    graph::{Graph, Mlp, SubLayer},
    loader::Plan,
};

impl Bank {
    /// The bank of a checkpoint's experts without any delta. `base`: SHA-256 of the checkpoint.
    #[must_use]
    pub fn of(base: BankHash, plan: &Plan) -> Self {
        let mut shapes: Vec<(ExpertMatrix, Shape)> = Vec::new();
        let layers = of_layers(&plan.sub_layers);
        for (layer, sub_layer) in layers.zip(&plan.sub_layers) {
            let SubLayer::Experts(experts) = sub_layer else { continue };
            for (expert, mlp) in (0..).zip(&experts.experts) {
                let Mlp { gate, up, down } = mlp;
                for (part, plan) in Part::ALL.into_iter().zip([gate, up, down]) {
                    shapes.push((ExpertMatrix { layer, expert, part }, [plan.outputs, plan.inputs]));
                }
            }
        }
        Self::new(base, shapes)
    }

    /// Puts what this bank changes in place of a loaded base's matrices, and returns how many they were.
    ///
    /// # Errors
    /// A matrix of the model has another shape, or cannot be packed. Those before it are changed then.
    pub(crate) fn apply<V>(&self, model: &mut Graph<Matrix, V>) -> Result<usize, BankError> {
        let layers: Vec<u32> = of_layers(&model.sub_layers).collect();
        let mut changed = 0;
        for (layer, sub_layer) in layers.into_iter().zip(&mut model.sub_layers) {
            let SubLayer::Experts(experts) = sub_layer else { continue };
            for (expert, mlp) in (0..).zip(&mut experts.experts) {
                let Mlp { gate, up, down } = mlp;
                for (part, matrix) in Part::ALL.into_iter().zip([gate, up, down]) {
                    if let Some(change) = self.change(ExpertMatrix { layer, expert, part }) {
                        *matrix = change.matrix(&*matrix)?;
                        changed += 1;
                    }
                }
            }
        }
        Ok(changed)
    }
}

/// For each sub-layer the transformer layer that it is part of: each begins with its attention.
fn of_layers<M, V>(sub_layers: &[SubLayer<M, V>]) -> impl Iterator<Item = u32> {
    let mut begun = 0_u32;
    sub_layers.iter().map(move |sub_layer| {
        begun += u32::from(matches!(sub_layer, SubLayer::Attention(_)));
        begun.saturating_sub(1)
    })
}
