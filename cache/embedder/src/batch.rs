//! Texts of different lengths, one after the other without padding.

use std::ops::Range;

/// Token ids of all texts in one row.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub ids: Vec<u32>,
    /// Where each text's ids lie.
    pub texts: Vec<Range<usize>>,
}

impl Batch {
    pub fn of(texts: &[Vec<u32>]) -> Self {
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
    fn a_long_text_keeps_both_ends() {
        assert_eq!(shorten(&[1, 2, 3, 4, 5, 6, 7], 5), [1, 2, 3, 6, 7]);
        assert_eq!(shorten(&[1, 2], 5), [1, 2]);
    }
}
