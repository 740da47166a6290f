//! Texts of different lengths as one rectangle.

/// Token ids and attention mask, row by row, each row padded to the longest.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    pub ids: Vec<u32>,
    pub mask: Vec<u32>,
    pub rows: usize,
    pub width: usize,
}

impl Batch {
    pub fn of(texts: &[Vec<u32>], padding: u32) -> Self {
        let width = texts.iter().map(Vec::len).max().unwrap_or(0);
        let mut batch = Self {
            ids: vec![padding; texts.len() * width],
            mask: vec![0; texts.len() * width],
            rows: texts.len(),
            width,
        };
        for (row, text) in texts.iter().enumerate() {
            let begin = row * width;
            batch.ids[begin..begin + text.len()].copy_from_slice(text);
            batch.mask[begin..begin + text.len()].fill(1);
        }
        batch
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
    fn rows_are_padded_to_the_longest() {
        let batch = Batch::of(&[vec![1, 2, 3], vec![4]], 9);
        assert_eq!((batch.rows, batch.width), (2, 3));
        assert_eq!(batch.ids, [1, 2, 3, 4, 9, 9]);
        assert_eq!(batch.mask, [1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        assert_eq!(shorten(&[1, 2, 3, 4, 5, 6, 7], 5), [1, 2, 3, 6, 7]);
        assert_eq!(shorten(&[1, 2], 5), [1, 2]);
    }
}
