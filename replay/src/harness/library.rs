//! What examples are taken from: known good answers to requests that are not asked, found by an exact scan.
//!
//! The leakage guard: an example that holds an asked request word for word, or the request and its reference answer, is
//! never shown to it. [`pool::build`](crate::pool::build) leaves equal rows out; the guard also catches one that merely
//! contains them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::Context;
use reprise_cache::selection::Query;
use reprise_cache::{Candidate, Example, ExampleId, Instructions, NewExample, UnitVector};

use super::table::Key;
use crate::data::pairs::Pair;
use crate::data::requests::Request;
use crate::learn::seeded;
use crate::pool::fold;

/// The pool, embedded.
#[derive(Debug, Clone, Default)]
pub struct Library(Vec<Held>);

#[derive(Debug, Clone)]
struct Held {
    example: Arc<Example>,
    /// Request and answer with case and white space folded, for the guard.
    request: String,
    answer: String,
}

/// A request that is asked of the library.
#[derive(Debug, Clone)]
pub struct Seeker {
    pub embedding: UnitVector,
    bytes: usize,
    /// Its prompt and bare text, folded.
    faces: Vec<String>,
    references: Vec<String>,
}

impl Seeker {
    #[must_use]
    pub fn new(request: &Request, embedding: UnitVector) -> Self {
        let faces = std::iter::once(&request.prompt).chain(&request.text).map(|text| fold(text)).collect();
        let references = request.references.iter().map(|text| fold(text)).collect();
        Self { embedding, bytes: request.prompt.len(), faces, references }
    }

    #[must_use]
    pub fn query(&self, strength: f32) -> Query<'_> {
        Query { embedding: &self.embedding, bytes: self.bytes, strength }
    }
}

impl Library {
    /// Embeddings in the order of the pairs.
    ///
    /// # Errors
    /// As many embeddings as pairs are needed.
    pub fn new(pairs: Vec<Pair>, embeddings: Vec<UnitVector>) -> anyhow::Result<Self> {
        anyhow::ensure!(pairs.len() == embeddings.len(), "{} pairs need as many embeddings", pairs.len());
        pairs.into_iter().zip(embeddings).map(|(pair, embedding)| Held::new(pair, embedding)).collect()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn example(&self, index: usize) -> Option<&Arc<Example>> {
        self.0.get(index).map(|held| &held.example)
    }

    /// The `k` nearest that the guard lets pass, nearest first, and how many it did not.
    #[must_use]
    pub fn nearest(&self, seeker: &Seeker, k: usize) -> (Vec<Candidate>, usize) {
        let mut scored: Vec<(usize, f32)> =
            self.0.iter().map(|held| held.example.embedding.dot(&seeker.embedding)).enumerate().collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let (mut found, mut leaked) = (Vec::with_capacity(k), 0);
        for (index, similarity) in scored {
            if found.len() >= k {
                break;
            }
            let held = &self.0[index];
            if held.leaks_to(seeker) {
                leaked += 1;
            } else {
                found.push(Candidate { example: Arc::clone(&held.example), similarity });
            }
        }
        (found, leaked)
    }

    /// [`nearest`](Self::nearest) of all of them, on as many threads as the machine has.
    #[must_use]
    pub fn nearest_of_all(&self, seekers: &[Seeker], k: usize) -> Vec<(Vec<Candidate>, usize)> {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut found: Vec<(Vec<Candidate>, usize)> = vec![Default::default(); seekers.len()];
        let each = seekers.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            for (seekers, found) in seekers.chunks(each).zip(found.chunks_mut(each)) {
                scope.spawn(move || {
                    for (seeker, found) in seekers.iter().zip(found) {
                        *found = self.nearest(seeker, k);
                    }
                });
            }
        });
        found
    }

    /// `k` at random: the same for the same seed and request, whatever else is asked.
    #[must_use]
    pub fn random(&self, seeker: &Seeker, k: usize, seed: u64) -> Vec<Candidate> {
        let name = seeker.faces.first().map_or("", String::as_str);
        let key = Key::of(&["random", &seed.to_string(), name]);
        let mut rng = seeded(u64::from_str_radix(&key.as_str()[..16], 16).unwrap_or(seed));
        // More than are wanted, for the guard may refuse some.
        let drawn = rand::seq::index::sample(&mut rng, self.0.len(), self.0.len().min(4 * k + 32));
        let candidate = |held: &Held| Candidate {
            example: Arc::clone(&held.example),
            similarity: held.example.embedding.dot(&seeker.embedding),
        };
        let passed = drawn.iter().map(|index| &self.0[index]).filter(|held| !held.leaks_to(seeker));
        passed.take(k).map(candidate).collect()
    }
}

impl FromIterator<Held> for Library {
    fn from_iter<I: IntoIterator<Item = Held>>(held: I) -> Self {
        Self(held.into_iter().collect())
    }
}

impl Held {
    fn new(pair: Pair, embedding: UnitVector) -> anyhow::Result<Self> {
        let digits = Key::of(&["example", &pair.request, &pair.answer]);
        let id: ExampleId = digits.as_str()[..32].parse().context("an id from a hash")?;
        let (request, answer) = (fold(&pair.request), fold(&pair.answer));
        let new = NewExample {
            request: pair.request,
            answer: pair.answer,
            instructions: Instructions::NONE,
            embedding,
            source: pair.source.unwrap_or_default(),
            quality: pair.quality,
        };
        let example = Example::new(id, new, 0);
        Ok(Self { example: Arc::new(example), request, answer })
    }

    fn leaks_to(&self, seeker: &Seeker) -> bool {
        let whole = seeker.faces.iter().any(|face| self.request.contains(face.as_str()));
        // A short question ("hi") stands in many a text: only with its answer does it give anything away.
        let answered = seeker.references.contains(&self.answer);
        whole && (answered || seeker.faces.contains(&self.request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Metric;

    fn unit(x: f32, y: f32) -> UnitVector {
        UnitVector::try_new(vec![x, y]).unwrap()
    }

    fn pair(request: &str, answer: &str) -> Pair {
        Pair {
            request: request.into(),
            answer: answer.into(),
            instructions: None,
            quality: Some(1.0),
            source: None,
        }
    }

    fn seeker(prompt: &str, reference: &str) -> Seeker {
        let request = Request {
            id: "r".into(),
            set: "s".into(),
            source: "s".into(),
            task: "t".into(),
            prompt: prompt.into(),
            text: None,
            references: vec![reference.into()],
            metric: Metric::ExactMatch,
            solution: None,
        };
        Seeker::new(&request, unit(1.0, 0.0))
    }

    #[test]
    fn an_example_that_holds_request_and_answer_is_never_found() {
        let pairs = vec![
            pair("Name it: WHERE  is my card", "card_arrival"),
            pair("where is my card", "something else"),
            pair("where is my card now, please", "lost_card"),
            pair("where is my money", "card_arrival"),
        ];
        let library = Library::new(pairs, vec![unit(1.0, 0.0); 4]).unwrap();
        let (found, leaked) = library.nearest(&seeker("Where is my card", "card_arrival"), 4);
        let texts: Vec<&str> = found.iter().map(|found| found.example.request.as_str()).collect();
        // The first holds both; the second is the request itself, whatever its answer.
        assert_eq!(texts, ["where is my card now, please", "where is my money"]);
        assert_eq!(leaked, 2);
        assert_eq!(library.random(&seeker("Where is my card", "card_arrival"), 9, 1).len(), 2);
    }

    #[test]
    fn nearest_comes_first_and_random_is_repeatable() {
        let pairs = (0..20).map(|i| pair(&format!("r{i}"), "a")).collect();
        let library =
            Library::new(pairs, (0..20).map(|i| unit(20.0 - i as f32, i as f32)).collect()).unwrap();
        let seeker = seeker("q", "x");
        let (found, _) = library.nearest(&seeker, 3);
        assert!(found.windows(2).all(|pair| pair[0].similarity >= pair[1].similarity));
        let names = |found: &[Candidate]| found.iter().map(|one| one.example.id).collect::<Vec<_>>();
        let all = library.nearest_of_all(&vec![seeker.clone(); 5], 3);
        assert!(all.len() == 5 && all.iter().all(|(each, _)| names(each) == names(&found)));
        assert_eq!(found[0].example.request, "r0");
        let ids = |seed| -> Vec<ExampleId> {
            library.random(&seeker, 5, seed).iter().map(|found| found.example.id).collect()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }
}
