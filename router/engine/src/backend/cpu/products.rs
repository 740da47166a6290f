use reprise_kernels::{
    matrix::{Input, InputForm, Matrix, multiply},
    pool::Pool,
};

/// `out = x . matrix^T (+ bias)` for each product, `x`: [rows, inputs]. One parallel region where all matrices take one form of
/// activations, as those of one format do.
pub(super) fn fill_and_multiply(
    pool: &Pool,
    input: &mut Input,
    x: &[f32],
    products: &mut [(&Matrix, &mut [f32])],
) {
    products.sort_by_key(|(matrix, _)| order(matrix.input_form()));
    for group in products.chunk_by_mut(|(a, _), (b, _)| a.input_form() == b.input_form()) {
        let Some((matrix, _)) = group.first() else { continue };
        input.fill(pool, matrix.input_form(), x, matrix.inputs());
        multiply(pool, input, group);
    }
}

const fn order(form: InputForm) -> u8 {
    match form {
        InputForm::F32 => 0,
        InputForm::Q8 => 1,
        InputForm::Q8K => 2,
    }
}
