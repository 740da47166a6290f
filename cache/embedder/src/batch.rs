//! Texts of different lengths, one after the other without padding.

use std::ops::Range;

/// Token ids of all texts in one row.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub ids: Vec<u32>,
    /// Where each text's ids lie.
    pub texts: Vec<Range<usize>>,
}

/// Tokens of a batch, at most, but for a longer text: the widest activations of as many rows fill most of a core's second-level cache
/// (MiniLM: 128 x 1536 x 4 bytes of 1 MiB), and a batch of 32 short texts still gives each thread several.
const MOST_TOKENS: usize = 128;

impl Batch {
    /// The texts in batches of neighbours, each of at most [`MOST_TOKENS`] tokens or one text.
    pub fn cut(texts: &[Vec<u32>]) -> Vec<Self> {
        let (mut batches, mut first, mut tokens) = (Vec::new(), 0, 0);
        for (at, text) in texts.iter().enumerate() {
            if at > first && tokens + text.len() > MOST_TOKENS {
                batches.push(Self::of(&texts[first..at]));
                (first, tokens) = (at, 0);
            }
            tokens += text.len();
        }
        if first < texts.len() {
            batches.push(Self::of(&texts[first..]));
        }
        batches
    }

    fn of(texts: &[Vec<u32>]) -> Self {
        let mut end = 0;
        let ranges = texts.iter().map(|text| {
            let begin = end;
            end += text.len();
            begin..end
        });
        Self { texts: ranges.collect(), ids: texts.concat() }
    }
}

/// At most `limit` ids: the first half and the last half, with the end marks of the whole text.
pub fn shorten(ids: &[u32], limit: usize) -> Vec<u32> {
    if ids.len() <= limit {
        return ids.to_vec();
    }
    let head = limit.div_ceil(2);
    let tail = limit - head;
    [&ids[..head], &ids[ids.len() - tail..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_follow_each_other() {
        let batch = Batch::of(&[vec![1, 2, 3], vec![4], vec![5, 6]]);
        assert_eq!(batch.ids, [1, 2, 3, 4, 5, 6]);
        assert_eq!(batch.texts, [0..3, 3..4, 4..6]);
    }

    #[test]
    fn batches_are_neighbours_up_to_a_number_of_tokens() {
        let lengths = |texts: &[usize]| {
            let texts: Vec<_> = texts.iter().map(|length| vec![7; *length]).collect();
            Batch::cut(&texts)
                .iter()
                .map(|batch| batch.texts.iter().map(Range::len).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert_eq!(
            lengths(&[100, 28, 1, 300, 5, 123, 1]),
            [vec![100, 28], vec![1], vec![300], vec![5, 123], vec![1]]
        );
        assert!(lengths(&[]).is_empty());
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        assert_eq!(shorten(&[1, 2, 3, 4, 5, 6, 7], 5), [1, 2, 3, 6, 7]);
        assert_eq!(shorten(&[1, 2], 5), [1, 2]);
    }
}
