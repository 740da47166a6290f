//! Rows of f32 activations side by side, so that a kernel reads one stream of values: many at a distance of some KiB fall into the
//! same few sets of the first-level cache.

use super::input::TILE;

type Interleave = fn(&[f32], &mut [f32]);

/// `[row][input]` to `[input][row]`, by the number of rows less one.
pub(super) const INTERLEAVE: [Interleave; TILE] = [
    interleave::<1>,
    interleave::<2>,
    interleave::<3>,
    interleave::<4>,
    interleave::<5>,
    interleave::<6>,
    interleave::<7>,
    interleave::<8>,
];

/// By blocks that stay in registers.
fn interleave<const R: usize>(rows: &[f32], into: &mut [f32]) {
    const BLOCK: usize = 8;
    let inputs = rows.len() / R;
    let rows: [&[f32]; R] = std::array::from_fn(|row| &rows[row * inputs..(row + 1) * inputs]);
    let rows = rows.map(|row| row.as_chunks::<BLOCK>());
    let into = into.as_chunks_mut::<R>().0;
    let whole = inputs / BLOCK * BLOCK;
    for (block, into) in into[..whole].as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        let values: [[f32; BLOCK]; R] = std::array::from_fn(|row| rows[row].0[block]);
        for (at, into) in into.iter_mut().enumerate() {
            *into = std::array::from_fn(|row| values[row][at]);
        }
    }
    for (at, into) in into[whole..].iter_mut().enumerate() {
        *into = std::array::from_fn(|row| rows[row].1[at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_comes_to_its_place() {
        for rows in 1..=TILE {
            for inputs in [1, 7, 8, 19] {
                let values: Vec<f32> = (0..rows * inputs).map(|index| index as f32).collect();
                let mut out = vec![f32::NAN; values.len()];
                INTERLEAVE[rows - 1](&values, &mut out);
                for (index, value) in out.iter().enumerate() {
                    assert_eq!(*value, values[index % rows * inputs + index / rows]);
                }
            }
        }
    }
}
