//! A sample that two runs agree on without sharing a file: rows are ordered by a hash of seed and id, so the
//! choice depends neither on the order of the file nor on which other rows it holds.

use sha2::{Digest, Sha256};

use super::requests::Request;

/// Which rows of each file are asked. Rows `offset..offset + limit` in hash order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub seed: u64,
    pub offset: usize,
    /// `None`: all rows behind the offset.
    pub limit: Option<usize>,
}

impl Sample {
    /// Splits one file's rows into the sampled ones and the others, both in hash order.
    #[must_use]
    pub fn split(&self, requests: Vec<Request>) -> (Vec<Request>, Vec<Request>) {
        let ordered = by_hash(requests, self.seed, "sample");
        let end = self.limit.map_or(ordered.len(), |limit| self.offset.saturating_add(limit));
        let (mut sampled, mut others) = (Vec::new(), Vec::new());
        for (index, request) in ordered.into_iter().enumerate() {
            if (self.offset..end).contains(&index) { sampled.push(request) } else { others.push(request) }
        }
        (sampled, others)
    }
}

/// Orders rows by hash: the order in which a mixed run asks them, the same in every run with this seed.
#[must_use]
pub fn by_hash(requests: Vec<Request>, seed: u64, purpose: &str) -> Vec<Request> {
    let mut keyed: Vec<_> =
        requests.into_iter().map(|request| (key(seed, purpose, &request.id), request)).collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    keyed.into_iter().map(|(_, request)| request).collect()
}

fn key(seed: u64, purpose: &str, id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Metric;

    fn rows(ids: impl IntoIterator<Item = usize>) -> Vec<Request> {
        ids.into_iter()
            .map(|id| Request {
                id: format!("r{id}"),
                set: "s".into(),
                source: "s".into(),
                task: "t".into(),
                prompt: format!("p{id}"),
                text: None,
                references: vec!["x".into()],
                metric: Metric::ExactMatch,
                solution: None,
            })
            .collect()
    }

    #[test]
    fn order_of_the_file_does_not_matter() {
        let sample = Sample { seed: 7, offset: 3, limit: Some(10) };
        assert_eq!(sample.split(rows(0..50)), sample.split(rows((0..50).rev())));
    }

    #[test]
    fn offsets_tile_the_file_and_the_rest_is_the_complement() {
        let first = Sample { seed: 1, offset: 0, limit: Some(20) }.split(rows(0..50));
        let second = Sample { seed: 1, offset: 20, limit: Some(20) }.split(rows(0..50));
        assert_eq!((first.0.len(), first.1.len()), (20, 30));
        assert!(first.0.iter().all(|row| !second.0.contains(row)));
        assert!(first.0.iter().all(|row| !first.1.contains(row)));
    }

    #[test]
    fn another_seed_chooses_other_rows() {
        let of = |seed| Sample { seed, offset: 0, limit: Some(10) }.split(rows(0..100)).0;
        assert_ne!(of(1), of(2));
    }
}
