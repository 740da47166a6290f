use reprise_router::{Arm, Pool, PoolError};
use reprise_tier::TierState;

use crate::fake_tier::{FakeTier, tiers};

#[test]
fn tiers_stand_in_order_of_cost_and_are_found_by_name_and_model() {
    let fakes =
        [FakeTier::shared("large", 1.0), FakeTier::shared("small", 0.1), FakeTier::shared("medium", 0.4)];
    let pool = Pool::new(tiers(&fakes), None).unwrap();
    let names: Vec<_> = pool.iter().map(|tier| tier.info().name.clone()).collect();
    assert_eq!(names, ["small", "medium", "large"]);
    assert_eq!(pool.get("medium").unwrap().0, 1);
    assert_eq!(pool.get("large-model").unwrap().0, 2);
    assert!(pool.get("huge").is_none());
    assert_eq!(pool.default_index(), 2, "the dearest, if none is named");
    assert_eq!(Pool::new(tiers(&fakes), Some("small")).unwrap().default_index(), 0);
}

#[test]
fn a_tier_name_goes_before_a_model_id() {
    let fakes = [FakeTier::shared("a", 0.1), FakeTier::shared("a-model", 1.0)];
    let pool = Pool::new(tiers(&fakes), None).unwrap();
    assert_eq!(pool.get("a-model").unwrap().0, 1);
}

#[test]
fn what_is_no_pool_is_refused() {
    let error = |fakes: &[_], default| Pool::new(tiers(fakes), default).unwrap_err();
    assert_eq!(error(&[], None), PoolError::Empty);
    let twins = [FakeTier::shared("a", 0.1), FakeTier::shared("a", 0.2)];
    assert_eq!(error(&twins, None), PoolError::DuplicateName("a".into()));
    assert_eq!(error(&[FakeTier::shared("a", 0.1)], Some("b")), PoolError::UnknownDefault("b".into()));
    assert_eq!(error(&[FakeTier::shared("a", f64::NAN)], None), PoolError::Cost("a".into()));
    assert_eq!(error(&[], Some("b")), PoolError::Empty);
}

#[test]
fn arms_carry_the_present_state() {
    let fakes = [FakeTier::shared("small", 0.1), FakeTier::shared("large", 1.0)];
    let pool = Pool::new(tiers(&fakes), None).unwrap();
    *fakes[1].state.lock() = TierState::Loading;
    let arms = pool.arms();
    let got: Vec<_> = arms.iter().map(|state| (state.arm, state.ready)).collect();
    let arm = |tier, examples| Arm { tier, examples };
    assert_eq!(
        got,
        [(arm(0, false), true), (arm(0, true), true), (arm(1, false), false), (arm(1, true), false)]
    );
    assert_eq!(arms[3].pressure.queued_seconds, 1.0);
    assert_eq!(arms[3].key.to_string(), "large with examples");
}

#[test]
fn fallbacks_go_up_first_then_down_and_leave_out_what_is_down() {
    let fakes =
        ["a", "b", "c", "d"].map(|name| FakeTier::shared(name, f64::from(name.as_bytes()[0] - b'a') / 4.0));
    let pool = Pool::new(tiers(&fakes), Some("b")).unwrap();
    assert_eq!(pool.fallbacks(1), [2, 3, 0]);
    assert_eq!(pool.straight(), Some(1));
    *fakes[1].state.lock() = TierState::Failed { reason: "gone".into() };
    *fakes[2].state.lock() = TierState::Loading;
    assert_eq!(pool.fallbacks(0), [3]);
    assert_eq!(pool.straight(), Some(3));
    for fake in &fakes {
        *fake.state.lock() = TierState::Loading;
    }
    assert_eq!((pool.straight(), pool.any_ready()), (None, false));
    assert!(pool.fallbacks(usize::MAX).is_empty());
}
