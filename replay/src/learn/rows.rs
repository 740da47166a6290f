//! Outcomes as training rows: a request, one example of its prompt, and how the answer turned out.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context;
use reprise_cache::selection::SimilarityPrior;
use reprise_cache::selection::utility::{SCALARS, Traits, scalars};

use crate::harness::outcome::Outcome;
use crate::harness::table::{Key, Table, Vector};

/// What a request's rows serve for. A request is in one part only, whatever arms it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Train,
    Calibrate,
    Test,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub request: String,
    pub set: String,
    pub part: Part,
    /// Indices of [`Rows::vector`].
    pub asked: usize,
    pub shown: usize,
    pub scalars: [f32; SCALARS],
    /// What the similarity prior says.
    pub prior: f32,
    /// Score of the answer, in [0, 1].
    pub label: f32,
    /// 1 / n where n examples stood in the prompt together: none of them can claim the whole.
    pub weight: f32,
    /// The only example in its prompt: the outcome is its own.
    pub alone: bool,
    /// Tokens that the example adds, about.
    pub tokens: f32,
}

/// All rows, and the vectors they share.
#[derive(Debug)]
pub struct Rows {
    pub rows: Vec<Row>,
    vectors: Vec<Vec<f32>>,
    pub dimensions: usize,
}

impl Rows {
    /// # Errors
    /// A vector is missing or has other dimensions than the rest.
    pub fn from_outcomes(outcomes: &[Outcome], table: &Table<Vector>, seed: u64) -> anyhow::Result<Self> {
        let mut held = Held { table, index: HashMap::new(), vectors: Vec::new() };
        let mut rows = Vec::new();
        for outcome in outcomes.iter().filter(|outcome| !outcome.examples.is_empty()) {
            let asked = held.index_of(&outcome.vector)?;
            for example in &outcome.examples {
                let traits = Traits {
                    similarity: example.similarity,
                    nearest: outcome.nearest,
                    quality: example.quality,
                    bytes: example.bytes,
                };
                rows.push(Row {
                    request: outcome.id.clone(),
                    set: outcome.set.clone(),
                    part: part(seed, &outcome.id),
                    asked,
                    shown: held.index_of(&example.vector)?,
                    scalars: scalars(&traits, outcome.request_bytes, outcome.strength),
                    prior: SimilarityPrior::score(example.similarity, example.quality),
                    label: outcome.score as f32,
                    weight: 1.0 / outcome.examples.len() as f32,
                    alone: outcome.examples.len() == 1,
                    tokens: example.bytes as f32 / 4.0 + 8.0,
                });
            }
        }
        let vectors = held.vectors;
        let dimensions = vectors.first().map_or(0, Vec::len);
        anyhow::ensure!(vectors.iter().all(|vector| vector.len() == dimensions), "vectors of two embedders");
        Ok(Self { rows, vectors, dimensions })
    }

    #[must_use]
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index]
    }

    #[must_use]
    pub fn of(&self, part: Part) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.part == part).collect()
    }
}

struct Held<'t> {
    table: &'t Table<Vector>,
    index: HashMap<Key, usize>,
    vectors: Vec<Vec<f32>>,
}

impl Held<'_> {
    fn index_of(&mut self, key: &Key) -> anyhow::Result<usize> {
        if let Some(index) = self.index.get(key) {
            return Ok(*index);
        }
        let vector = self.table.get(key).with_context(|| format!("no vector {}", key.as_str()))?;
        self.vectors.push(vector.values.clone());
        self.index.insert(key.clone(), self.vectors.len() - 1);
        Ok(self.vectors.len() - 1)
    }
}

/// Half of the requests train, a fifth calibrates, the rest tests.
#[must_use]
pub fn part(seed: u64, request: &str) -> Part {
    let key = Key::of(&["part", &seed.to_string(), request]);
    match u8::from_str_radix(&key.as_str()[..2], 16).unwrap_or(0) {
        0..128 => Part::Train,
        128..179 => Part::Calibrate,
        _ => Part::Test,
    }
}

#[must_use]
pub fn requests(rows: &[&Row]) -> usize {
    rows.iter().map(|row| row.request.as_str()).collect::<BTreeSet<_>>().len()
}
