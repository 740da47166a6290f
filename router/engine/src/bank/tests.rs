use std::collections::BTreeMap;

use proptest::prelude::*;
use reprise_kernels::matrix::{Format, Matrix};

use super::*;

const BASE: [u8; 3] = [1, 2, 3];
const HIDDEN: usize = 32;
const WIDTH: usize = 64;

fn shapes() -> BTreeMap<ExpertMatrix, Shape> {
    let mut shapes = BTreeMap::new();
    for (layer, expert) in [(0, 0), (0, 1), (3, 0), (3, 1)] {
        for part in Part::ALL {
            let shape = if part == Part::Down { [HIDDEN, WIDTH] } else { [WIDTH, HIDDEN] };
            shapes.insert(ExpertMatrix { layer, expert, part }, shape);
        }
    }
    shapes
}

fn base() -> Bank {
    Bank::new(BankHash::of(&BASE), shapes())
}

fn info(version: u32, parent: BankHash) -> DeltaInfo {
    DeltaInfo { name: "sql".into(), version, parent, centroid: Some(vec![0.6, 0.8]) }
}

fn edit(shape: Shape) -> impl Strategy<Value = Edit> {
    let numbers = shape[0] * shape[1];
    let q8 = Format::Q8_0.row_bytes(shape[1]).unwrap() * shape[0];
    prop_oneof![
        any::<u32>().prop_map(move |seed| Edit::Add { shape, numbers: series(seed, numbers) }),
        any::<u32>().prop_map(move |seed| Edit::Replace {
            format: Format::F32,
            shape,
            bytes: series(seed, numbers).iter().flat_map(|x| x.to_le_bytes()).collect(),
        }),
        // A block's scale of zero: any bytes are a valid matrix then.
        Just(Edit::Replace { format: Format::Q8_0, shape, bytes: vec![0; q8] }),
    ]
}

fn series(seed: u32, count: usize) -> Vec<f32> {
    // Eighths: sums are exact, in whatever order.
    (0..count as u32).map(|at| ((at.wrapping_mul(seed | 1) >> 7) % 64) as f32 / 8.0 - 4.0).collect()
}

fn delta() -> impl Strategy<Value = BTreeMap<ExpertMatrix, Edit>> {
    let all: Vec<_> = shapes().into_iter().collect();
    prop::sample::subsequence(all, 0..6).prop_flat_map(|chosen| {
        let edits: Vec<_> = chosen
            .into_iter()
            .map(|(matrix, shape)| edit(shape).prop_map(move |edit| (matrix, edit)))
            .collect();
        edits.prop_map(|edits| edits.into_iter().collect())
    })
}

fn plain(matrix: &Matrix) -> Vec<f32> {
    let mut all = vec![0.0; matrix.outputs() * matrix.inputs()];
    all.chunks_mut(matrix.inputs()).enumerate().for_each(|(at, row)| matrix.row(at, row));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_saved_is_loaded(edits in delta(), version in 1_u32..9) {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.safetensors"), folder.path().join("two.safetensors"));
        let delta = Delta::new(info(version, BankHash::of(&BASE)), edits).unwrap();
        let hash = delta.save(&one).unwrap();
        let (read, loaded) = Delta::load(&one).unwrap();
        prop_assert_eq!(&delta, &loaded);
        prop_assert_eq!(hash, read);
        prop_assert_eq!(hash, loaded.save(&two).unwrap());
        // Another reader of the same container.
        let tensors = candle_core::safetensors::load(&one, &candle_core::Device::Cpu).unwrap();
        prop_assert_eq!(tensors.len(), delta.edits().len() + 1);
        let whole = std::fs::read(&one).unwrap();
        std::fs::write(&one, &whole[..whole.len() - 1]).unwrap();
        prop_assert!(Delta::load(&one).is_err());
    }

    /// A chain does to a matrix what its edits do one after the other.
    #[test]
    fn a_chain_is_its_edits_in_order(versions in prop::collection::vec(delta(), 1..5)) {
        let first = base();
        let mut bank = first.clone();
        let origin = |shape: Shape| series(77, shape[0] * shape[1]);
        let mut expected: BTreeMap<_, _> = shapes().into_iter().map(|(at, shape)| (at, origin(shape))).collect();
        for (at, edits) in versions.into_iter().enumerate() {
            for (matrix, edit) in &edits {
                let before = expected.get_mut(matrix).unwrap();
                match edit {
                    Edit::Add { numbers, .. } => before.iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x),
                    Edit::Replace { format, shape: [outputs, inputs], bytes } => {
                        *before = plain(&Matrix::pack(*format, *outputs, *inputs, bytes).unwrap());
                    }
                }
            }
            let delta = Delta::new(info(at as u32 + 1, bank.tip()), edits).unwrap();
            let earlier = bank.clone();
            bank = bank.with(BankHash::of(&[at as u8]), delta).unwrap();
            let touched: Vec<_> = bank.deltas().last().unwrap().edits().keys().copied().collect();
            prop_assert_eq!(earlier.differences(&bank).into_iter().collect::<Vec<_>>(), touched);
        }
        for (matrix, shape) in shapes() {
            let bytes: Vec<u8> = origin(shape).iter().flat_map(|x| x.to_le_bytes()).collect();
            let of_base = Matrix::pack(Format::F32, shape[0], shape[1], &bytes).unwrap();
            match bank.change(matrix) {
                Some(change) => prop_assert_eq!(&plain(&change.matrix(&of_base).unwrap()), &expected[&matrix]),
                None => prop_assert_eq!(&origin(shape), &expected[&matrix]),
            }
            if !first.differences(&bank).contains(&matrix) {
                prop_assert!(bank.change(matrix).is_none());
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let at = ExpertMatrix { layer: 3, expert: 1, part: Part::Up };
    let add = |shape: Shape| Edit::Add { shape, numbers: vec![0.5; shape[0] * shape[1]] };
    let delta = |version, parent, at, edit| Delta::new(info(version, parent), BTreeMap::from([(at, edit)]));
    let (bank, hash) = (base(), BankHash::of(b"v1"));

    let error =
        bank.with(hash, delta(1, BankHash::of(b"other"), at, add([WIDTH, HIDDEN])).unwrap()).unwrap_err();
    assert!(matches!(error, BankError::Parent { found, .. } if found == bank.tip()), "{error}");
    let error = bank.with(hash, delta(1, bank.tip(), at, add([HIDDEN, WIDTH])).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layers.3.experts.1.up has the shape [32, 64] in the delta; the model has [64, 32]"
    );
    let dense = ExpertMatrix { layer: 1, ..at };
    let error = bank.with(hash, delta(1, bank.tip(), dense, add([WIDTH, HIDDEN])).unwrap()).unwrap_err();
    assert!(error.to_string().contains("layers.1.experts.1.up"), "{error}");
    let one = bank.with(hash, delta(2, bank.tip(), at, add([WIDTH, HIDDEN])).unwrap()).unwrap();
    let error = one.with(hash, delta(2, one.tip(), at, add([WIDTH, HIDDEN])).unwrap()).unwrap_err();
    assert!(matches!(error, BankError::Version { version: 2, after: 2, .. }), "{error}");

    let short = Edit::Replace { format: Format::Q4_1, shape: [WIDTH, HIDDEN], bytes: vec![0; 7] };
    assert!(matches!(
        delta(1, bank.tip(), at, short),
        Err(BankError::Bytes { found: 7, expected: Some(1280), .. })
    ));
    let nan = Edit::Add { shape: [1, 1], numbers: vec![f32::NAN] };
    assert!(matches!(delta(1, bank.tip(), at, nan), Err(BankError::NotFinite { .. })));
    let long = DeltaInfo { centroid: Some(vec![1.0, 1.0]), ..info(1, bank.tip()) };
    assert!(matches!(Delta::new(long, BTreeMap::new()), Err(BankError::Centroid(_))));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, b"not one").unwrap();
    assert!(matches!(Delta::load(&path), Err(BankError::NotADelta { .. })));
}
