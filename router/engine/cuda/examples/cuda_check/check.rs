use half::{bf16, f16};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Failures so far.
#[derive(Debug, Default)]
pub struct Checks {
    failed: usize,
    passed: usize,
}

impl Checks {
    /// `found` against `expected`, by the norm of the difference over the norm of the second. NaN never passes.
    pub fn close(&mut self, name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
        let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
        let off = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - b));
        let off = off / norm(&mut expected.iter().copied()).max(1e-30);
        self.note(
            name,
            found.len() == expected.len() && off <= tolerance,
            &format!("{off:.2e} <= {tolerance:.0e}"),
        );
    }

    pub fn same<T: PartialEq>(&mut self, name: &str, found: &[T], expected: &[T]) {
        let differ = found.iter().zip(expected).filter(|(a, b)| a != b).count();
        let whole = found.len() == expected.len();
        self.note(name, whole && differ == 0, &format!("{differ} of {} differ", expected.len()));
    }

    fn note(&mut self, name: &str, passed: bool, detail: &str) {
        println!("{} {name}: {detail}", if passed { "ok  " } else { "FAIL" });
        self.failed += usize::from(!passed);
        self.passed += usize::from(passed);
    }

    pub fn end(&self) {
        println!("# {} checks passed, {} failed", self.passed, self.failed);
        if self.failed > 0 {
            std::process::exit(1);
        }
    }
}

pub struct Random(SmallRng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    pub fn numbers(&mut self, count: usize, range: f32) -> Vec<f32> {
        (0..count).map(|_| self.0.random_range(-range..range)).collect()
    }

    pub fn below(&mut self, end: u32) -> u32 {
        self.0.random_range(0..end)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes[..]);
        bytes
    }
}

pub fn to_bf16(numbers: &[f32]) -> (Vec<bf16>, Vec<f32>) {
    let rounded: Vec<bf16> = numbers.iter().map(|x| bf16::from_f32(*x)).collect();
    let seen = rounded.iter().map(|x| x.to_f32()).collect();
    (rounded, seen)
}

pub fn to_f16(numbers: &[f32]) -> (Vec<f16>, Vec<f32>) {
    let rounded: Vec<f16> = numbers.iter().map(|x| f16::from_f32(*x)).collect();
    let seen = rounded.iter().map(|x| x.to_f32()).collect();
    (rounded, seen)
}

pub fn widened(numbers: &[bf16]) -> Vec<f32> {
    numbers.iter().map(|x| x.to_f32()).collect()
}
