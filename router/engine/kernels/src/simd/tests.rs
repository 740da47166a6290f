use super::*;

/// A function of each number, sixteen at a time.
struct Map<'a, F>(&'a mut [f32], F);

trait Function {
    fn apply<S: Simd>(&self, simd: S, x: S::Vector) -> S::Vector;
}

impl<F: Function> Kernel for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for chunk in self.0.chunks_mut(LANES) {
            // SAFETY: a part of the chunk's length.
            unsafe {
                let x = simd.load_part(chunk.as_ptr(), chunk.len());
                simd.store_part(chunk.as_mut_ptr(), self.1.apply(simd, x), chunk.len());
            }
        }
    }
}

macro_rules! function {
    ($name:ident, $of:path) => {
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn apply<S: Simd>(&self, simd: S, x: S::Vector) -> S::Vector {
                $of(simd, x)
            }
        }
    };
}
function!(Exp, exp);
function!(Silu, silu);
function!(Gelu, gelu);

fn grid(low: f32, high: f32) -> Vec<f32> {
    (0..20_011).map(|step| low + (high - low) * step as f32 / 20_010.0).collect()
}

fn map(level: Level, x: &[f32], function: impl Function) -> Vec<f32> {
    let mut y = x.to_vec();
    level.run(Map(&mut y, function));
    y
}

/// Maclaurin series; converges for all x, exact enough below 6.
fn erf_exact(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn exp_is_within_a_millionth() {
    for level in Level::all() {
        let x = grid(-87.0, 88.7);
        for (x, y) in x.iter().zip(map(level, &x, Exp)) {
            let exact = f64::from(*x).exp();
            assert!((f64::from(y) / exact - 1.0).abs() < 4e-7, "{level:?} exp({x}) = {y}, not {exact}");
        }
    }
}

#[test]
fn exp_has_the_right_ends() {
    for level in Level::all() {
        let y = map(
            level,
            &[f32::NEG_INFINITY, -1e30, -110.0, 0.0, -0.0, 89.0, 1e30, f32::INFINITY, f32::NAN],
            Exp,
        );
        assert_eq!(
            y[..8],
            [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY],
            "{level:?}"
        );
        assert!(y[8].is_nan());
    }
}

#[test]
fn silu_is_close_and_has_the_right_ends() {
    for level in Level::all() {
        let x = grid(-80.0, 80.0);
        for (x, y) in x.iter().zip(map(level, &x, Silu)) {
            let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
            assert!(
                (f64::from(y) - exact).abs() <= 6e-7 * exact.abs(),
                "{level:?} silu({x}) = {y}, not {exact}"
            );
        }
        assert_eq!(map(level, &[-1e30, -200.0, 0.0, 200.0], Silu), [0.0, 0.0, 0.0, 200.0], "{level:?}");
    }
}

#[test]
fn gelu_is_close() {
    for level in Level::all() {
        let x = grid(-6.0, 6.0);
        for (x, y) in x.iter().zip(map(level, &x, Gelu)) {
            let exact = 0.5 * f64::from(*x) * (1.0 + erf_exact(f64::from(*x) / 2.0_f64.sqrt()));
            assert!((f64::from(y) - exact).abs() < 1e-6, "{level:?} gelu({x}) = {y}, not {exact}");
        }
        let y = map(level, &[-100.0, 0.0, 100.0], Gelu);
        assert!(y[0].abs() < 1e-5 && y[1] == 0.0 && (y[2] - 100.0).abs() < 1e-5, "{level:?} {y:?}");
    }
}

#[test]
fn levels_give_the_same_bits() {
    let x = grid(-120.0, 120.0);
    let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let all = |level| [bits(map(level, &x, Exp)), bits(map(level, &x, Silu)), bits(map(level, &x, Gelu))];
    let first = Level::all().next().map(all);
    assert!(Level::all().map(all).all(|found| Some(found) == first));
}

struct Parts<'a>(&'a [f32], &'a mut [f32], usize);

impl Kernel for Parts<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, f32) {
        // SAFETY: the test gives LANES numbers each.
        unsafe {
            let all = simd.load(self.0.as_ptr());
            let first = simd.first(self.2, all, simd.splat(-1.0));
            simd.store_part(self.1.as_mut_ptr(), first, LANES);
            (simd.sum(all), simd.largest(all))
        }
    }
}

#[test]
fn parts_sums_and_maxima() {
    let x: Vec<f32> = (0..LANES).map(|lane| (lane * 7 % 16) as f32).collect();
    for level in Level::all() {
        for count in 0..=LANES + 1 {
            let mut y = [0.0; LANES];
            assert_eq!(level.run(Parts(&x, &mut y, count)), (120.0, 15.0), "{level:?}");
            for lane in 0..LANES {
                assert_eq!(y[lane], if lane < count { x[lane] } else { -1.0 }, "{level:?} {count}");
            }
        }
    }
}
