//! Products of groups of rows, each with a matrix of its own: the experts of a layer in one parallel region. One region for each expert
//! would leave threads waiting at a barrier for work of a few microseconds.

use super::{
    Input, Matrix,
    product::{Then, Work, check, run},
    shared::Shared,
};
use crate::pool::Pool;

/// `out[m, n] = sum_k input[m, k] matrix[n, k] (+ bias[n])` with the matrix of the group that row m belongs to, as
/// [`Input::fill_groups`] was told. `out`: `[M, outputs]`.
///
/// # Panics
/// If there is not one matrix for each group, they differ in outputs or take another input, or `out` has another size.
pub fn multiply_groups<'a>(
    pool: &Pool,
    input: &Input,
    matrices: impl IntoIterator<Item = &'a Matrix>,
    out: &mut [f32],
) {
    of_groups(pool, input, matrices.into_iter().map(|matrix| (matrix, Then::Store)), out);
}

/// `out[m, n] = silu(gate product) * (up product)` with the gate and up of the group that row m belongs to. `out`: `[M, outputs]`.
///
/// # Panics
/// As [`multiply_groups`].
pub fn gate_up_groups<'a>(
    pool: &Pool,
    input: &Input,
    matrices: impl IntoIterator<Item = (&'a Matrix, &'a Matrix)>,
    out: &mut [f32],
) {
    let opened = matrices.into_iter().map(|(gate, up)| {
        check(input, up);
        assert_eq!(gate.outputs(), up.outputs(), "gate and up have the same outputs");
        (gate, Then::Gate(up))
    });
    of_groups(pool, input, opened, out);
}

fn of_groups<'a>(
    pool: &Pool,
    input: &Input,
    matrices: impl Iterator<Item = (&'a Matrix, Then<'a>)>,
    out: &mut [f32],
) {
    let length = out.len();
    let out = Shared::new(out);
    let mut work = Vec::with_capacity(input.groups());
    for (group, (matrix, then)) in matrices.enumerate() {
        assert_eq!(length, input.rows() * matrix.outputs(), "rows x outputs of the product");
        work.push(Work::of_group(pool, input, group, matrix, out, then));
    }
    assert_eq!(work.len(), input.groups(), "a matrix for each group");
    run(pool, input, &work);
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::matrix::{Format, gate_up, multiply};

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let step = |x: u32| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = step(state);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn matrix(outputs: usize, inputs: usize, seed: u32) -> Matrix {
        let bytes: Vec<u8> = numbers(outputs * inputs, seed).iter().flat_map(|x| x.to_le_bytes()).collect();
        Matrix::pack(Format::F32, outputs, inputs, &bytes).unwrap()
    }

    /// Groups of any size, empty ones too, get the bits that each gets alone.
    #[test]
    fn groups_have_the_bits_of_their_own_products() {
        let (outputs, inputs) = (50, 40);
        for sizes in [&[1, 1][..], &[9, 0, 3, 17, 1], &[0], &[0, 0, 5]] {
            let rows: usize = sizes.iter().sum();
            let x = numbers(rows * inputs, 1);
            let matrices: Vec<_> = (0..sizes.len() as u32)
                .map(|i| (matrix(outputs, inputs, 2 + i), matrix(outputs, inputs, 100 + i)))
                .collect();
            for threads in [1, 3] {
                let pool = Pool::new(NonZeroUsize::new(threads).unwrap()).unwrap();
                let (mut input, mut single) = (Input::new(), Input::new());
                let form = matrices[0].0.input_form();
                input.fill_groups(&pool, form, &x, inputs, sizes.iter().copied());
                let (mut products, mut opened) =
                    (vec![f32::NAN; rows * outputs], vec![f32::NAN; rows * outputs]);
                multiply_groups(&pool, &input, matrices.iter().map(|(gate, _)| gate), &mut products);
                gate_up_groups(&pool, &input, matrices.iter().map(|(gate, up)| (gate, up)), &mut opened);
                let mut begin = 0;
                for (size, (gate, up)) in sizes.iter().zip(&matrices) {
                    single.fill(&pool, form, &x[begin * inputs..(begin + size) * inputs], inputs);
                    let mut expected = vec![0.0; size * outputs];
                    multiply(&pool, &single, &mut [(gate, &mut expected)]);
                    assert_eq!(expected, products[begin * outputs..(begin + size) * outputs]);
                    gate_up(&pool, &single, gate, up, &mut expected);
                    assert_eq!(expected, opened[begin * outputs..(begin + size) * outputs]);
                    begin += size;
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a matrix for each group")]
    fn each_group_needs_its_matrix() {
        let pool = Pool::new(NonZeroUsize::MIN).unwrap();
        let matrix = matrix(3, 4, 1);
        let mut input = Input::new();
        input.fill_groups(&pool, matrix.input_form(), &[1.0; 12], 4, [1, 2]);
        multiply_groups(&pool, &input, [&matrix], &mut [0.0; 9]);
    }
}
