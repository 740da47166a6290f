use std::convert::Infallible;

use super::{Attention, Experts, FeedForward, Graph, Mlp, QkNorm, SharedExpert, SubLayer};

/// Turns the weights of one graph into those of another, one after the other in the order of computation.
pub trait Convert<M, V> {
    type Matrix;
    type Vector;
    type Error;

    /// # Errors
    /// Ends the conversion of the graph.
    fn matrix(&mut self, matrix: &M) -> Result<Self::Matrix, Self::Error>;

    /// # Errors
    /// Ends the conversion of the graph.
    fn vector(&mut self, vector: &V) -> Result<Self::Vector, Self::Error>;
}

type Matrix<C, M, V> = <C as Convert<M, V>>::Matrix;
type Mapped<T, C, M, V> = Result<T, <C as Convert<M, V>>::Error>;

impl<M, V> Graph<M, V> {
    /// The same model with every weight converted.
    ///
    /// # Errors
    /// The first of `convert`.
    pub fn try_map<C: Convert<M, V>>(
        &self,
        convert: &mut C,
    ) -> Result<Graph<C::Matrix, C::Vector>, C::Error> {
        let embedding = convert.matrix(&self.embedding)?;
        let mut sub_layers = Vec::with_capacity(self.sub_layers.len());
        for layer in &self.sub_layers {
            sub_layers.push(match layer {
                SubLayer::Attention(attention) => SubLayer::Attention(attention.try_map(convert)?),
                SubLayer::FeedForward(feed_forward) => SubLayer::FeedForward(FeedForward {
                    norm: convert.vector(&feed_forward.norm)?,
                    mlp: feed_forward.mlp.try_map(convert)?,
                }),
                SubLayer::Experts(experts) => SubLayer::Experts(experts.try_map(convert)?),
            });
        }
        Ok(Graph {
            sizes: self.sizes.clone(),
            rope: self.rope.clone(),
            embedding,
            sub_layers,
            final_norm: convert.vector(&self.final_norm)?,
            output: self.output.as_ref().map(|output| convert.matrix(output)).transpose()?,
        })
    }

    /// Looks at every weight, in the order of [`Self::try_map`].
    pub fn visit(&self, matrix: impl FnMut(&M), vector: impl FnMut(&V)) {
        struct Visit<A, B>(A, B);
        impl<M, V, A: FnMut(&M), B: FnMut(&V)> Convert<M, V> for Visit<A, B> {
            type Matrix = ();
            type Vector = ();
            type Error = Infallible;
            fn matrix(&mut self, matrix: &M) -> Result<(), Infallible> {
                (self.0)(matrix);
                Ok(())
            }
            fn vector(&mut self, vector: &V) -> Result<(), Infallible> {
                (self.1)(vector);
                Ok(())
            }
        }
        let Ok(_) = self.try_map(&mut Visit(matrix, vector));
    }
}

impl<M, V> Attention<M, V> {
    fn try_map<C: Convert<M, V>>(&self, convert: &mut C) -> Mapped<Attention<C::Matrix, C::Vector>, C, M, V> {
        Ok(Attention {
            norm: convert.vector(&self.norm)?,
            q: convert.matrix(&self.q)?,
            k: convert.matrix(&self.k)?,
            v: convert.matrix(&self.v)?,
            qk_norm: match &self.qk_norm {
                Some(norm) => Some(QkNorm { q: convert.vector(&norm.q)?, k: convert.vector(&norm.k)? }),
                None => None,
            },
            output: convert.matrix(&self.output)?,
        })
    }
}

impl<M> Mlp<M> {
    fn try_map<V, C: Convert<M, V>>(&self, convert: &mut C) -> Mapped<Mlp<Matrix<C, M, V>>, C, M, V> {
        Ok(Mlp {
            gate: convert.matrix(&self.gate)?,
            up: convert.matrix(&self.up)?,
            down: convert.matrix(&self.down)?,
        })
    }
}

impl<M, V> Experts<M, V> {
    fn try_map<C: Convert<M, V>>(&self, convert: &mut C) -> Mapped<Experts<C::Matrix, C::Vector>, C, M, V> {
        let norm = convert.vector(&self.norm)?;
        let gate = convert.matrix(&self.gate)?;
        let mut experts = Vec::with_capacity(self.experts.len());
        for expert in &self.experts {
            experts.push(expert.try_map(convert)?);
        }
        let shared = match &self.shared {
            Some(shared) => {
                Some(SharedExpert { gate: convert.matrix(&shared.gate)?, mlp: shared.mlp.try_map(convert)? })
            }
            None => None,
        };
        Ok(Experts { norm, gate, experts, top_k: self.top_k, renormalise: self.renormalise, shared })
    }
}
