use proptest::prelude::*;

use super::*;
use crate::{
    Context,
    testing::{arm, four_arms},
};

fn cold() -> (BanditConfig, Bandit, Vec<ArmState>) {
    let (config, arms) = (BanditConfig::default(), four_arms());
    let mut bandit = Bandit::default();
    bandit.ensure(&config, &arms);
    (config, bandit, arms)
}

fn with_example(similarity: f32, utility: f32) -> Features {
    Features::of(&Context { similarities: &[similarity], utilities: &[utility], ..Context::default() })
}

fn mus(bandit: &Bandit, arms: &[ArmState], features: &Features) -> Vec<f64> {
    arms.iter().map(|arm| bandit.belief(&arm.key, features).mu).collect()
}

fn experience(arm: &ArmState, features: Features, reward: f64) -> Experience {
    Experience { features, arm: arm.key.clone(), reward, baseline: None, cluster: None }
}

#[test]
fn cold_the_large_tier_leads_without_examples() {
    let (_, bandit, arms) = cold();
    let mu = mus(&bandit, &arms, &Features::of(&Context::default()));
    assert!(mu[2] > mu[0] + 0.1, "{mu:?}");
}

#[test]
fn cold_a_near_good_example_lifts_both_tiers_and_the_small_one_over_the_large_one_without() {
    let (_, bandit, arms) = cold();
    let near = mus(&bandit, &arms, &with_example(0.95, 0.9));
    assert!(near[1] > near[2] + 0.2 && near[3] > near[1] + 0.1, "{near:?}");
    for (similarity, utility) in [(0.6, 0.6), (0.75, 0.4)] {
        let mu = mus(&bandit, &arms, &with_example(similarity, utility));
        assert!(mu[1] < mu[2], "similarity {similarity}, utility {utility}: {mu:?}");
    }
}

#[test]
fn what_is_observed_moves_the_belief_and_narrows_it() {
    let (config, mut bandit, arms) = cold();
    let features = with_example(0.7, 0.7);
    let before = bandit.belief(&arms[1].key, &features);
    for _ in 0..200 {
        assert!(bandit.learn(&config, &experience(&arms[1], features, 1.0)));
    }
    let after = bandit.belief(&arms[1].key, &features);
    assert!(after.mu > 0.93 && before.mu < 0.7, "{before:?} {after:?}");
    assert!(after.sigma < before.sigma / 2.0);
    let report = bandit.report();
    let learned = report.iter().find(|arm| arm.key == arms[1].key).unwrap();
    assert_eq!((learned.updates, learned.mean_reward), (200, Some(1.0)));
}

#[test]
fn examples_that_an_arm_is_not_shown_do_not_matter_to_it() {
    let (config, mut bandit, arms) = cold();
    bandit.learn(&config, &experience(&arms[0], with_example(0.9, 0.9), 0.1));
    let plain = |features: &Features| bandit.belief(&arms[0].key, features);
    assert_eq!(plain(&with_example(0.3, 0.1)), plain(&Features::of(&Context::default())));
}

#[test]
fn without_news_an_arm_returns_to_its_prior() {
    let (config, mut bandit, arms) = cold();
    let features = Features::of(&Context::default());
    let cold = bandit.belief(&arms[0].key, &features);
    for _ in 0..50 {
        bandit.learn(&config, &experience(&arms[0], features, 1.0));
    }
    let sure = bandit.belief(&arms[0].key, &features);
    for _ in 0..10_000 {
        bandit.learn(&config, &experience(&arms[2], features, 0.5));
    }
    let forgot = bandit.belief(&arms[0].key, &features);
    assert!(sure.mu > cold.mu + 0.2);
    assert!(
        (forgot.mu - cold.mu).abs() < 1e-6 && (forgot.sigma - cold.sigma).abs() < 1e-6,
        "{cold:?} {forgot:?}"
    );
}

#[test]
fn another_model_behind_the_same_name_starts_cold() {
    let (config, mut bandit, arms) = cold();
    let features = Features::of(&Context::default());
    for _ in 0..50 {
        bandit.learn(&config, &experience(&arms[0], features, 1.0));
    }
    let mut changed = arms.clone();
    for state in changed.iter_mut().filter(|state| state.arm.tier == 0) {
        state.key.model = "other".into();
    }
    let cold = Bandit::default();
    let mut fresh = cold.clone();
    fresh.ensure(&config, &changed);
    bandit.ensure(&config, &changed);
    let belief = |bandit: &Bandit, key| bandit.belief(key, &features);
    assert_eq!(belief(&bandit, &changed[0].key), belief(&fresh, &changed[0].key));
    assert!(belief(&bandit, &arms[0].key).mu > 0.6, "the old model's arm is still known");
    bandit.forget("small");
    assert!(!bandit.knows(&arms[..1]) && bandit.knows(&arms[2..]));
}

#[test]
fn an_arm_never_offered_or_a_reward_that_is_no_number_is_refused() {
    let (config, mut bandit, arms) = cold();
    let features = Features::of(&Context::default());
    assert!(!bandit.learn(&config, &experience(&arms[0], features, f64::NAN)));
    assert!(!bandit.learn(&config, &experience(&arm(7, "ghost", 0.5, false), features, 0.5)));
    assert_eq!(bandit.updates(), 0);
}

#[test]
fn a_state_reads_back_to_the_same_beliefs() {
    let (config, mut bandit, arms) = cold();
    for i in 0..40 {
        let features = with_example(0.5 + i as f32 / 100.0, 0.8);
        bandit.learn(&config, &experience(&arms[i % 4], features, (i % 5) as f64 / 4.0));
    }
    let text = serde_json::to_string(&bandit.state()).unwrap();
    let back = Bandit::from_state(&config, serde_json::from_str(&text).unwrap());
    let features = with_example(0.77, 0.6);
    for (a, b) in mus(&bandit, &arms, &features).into_iter().zip(mus(&back, &arms, &features)) {
        assert!((a - b).abs() < 1e-9);
    }
    assert_eq!(back.updates(), 40);
}

#[test]
fn an_arm_that_knows_nothing_any_more_is_not_kept() {
    let (config, mut bandit, arms) = cold();
    let features = with_example(0.7, 0.7);
    let kept = |bandit: &Bandit| bandit.state().arms.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(kept(&bandit), []);
    bandit.learn(&config, &experience(&arms[0], features, 1.0));
    assert_eq!(kept(&bandit), [arms[0].key.clone()]);
    for _ in 0..5000 {
        bandit.learn(&config, &experience(&arms[3], features, 1.0));
    }
    assert_eq!(kept(&bandit), [arms[3].key.clone()]);
}

#[test]
fn a_state_that_is_no_posterior_starts_that_arm_cold() {
    let (config, mut bandit, arms) = cold();
    for arm in &arms {
        bandit.learn(&config, &experience(arm, with_example(0.7, 0.7), 0.5));
    }
    let mut value = serde_json::to_value(bandit.state()).unwrap();
    value["arms"][0][1]["precision"][0] = (-1.0).into();
    value["arms"][1][1]["b"] = serde_json::json!([1.0]);
    let back = Bandit::from_state(&config, serde_json::from_value(value).unwrap());
    let known = arms.iter().filter(|arm| back.knows(std::slice::from_ref(*arm))).count();
    assert_eq!(known, 2);
}

/// Values that hurt naive arithmetic.
fn adversarial() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -1.0..1.0_f64,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::MIN_POSITIVE),
        Just(1e308)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_input_makes_a_belief_nan(
        rows in prop::collection::vec((prop::collection::vec(adversarial(), DIMENSIONS), adversarial(), 0_usize..4), 1..60),
        noise_variance in prop_oneof![Just(1e-6), Just(0.05), Just(1e6)],
        prior_sd in prop_oneof![Just(1e-4), Just(0.05), Just(100.0)],
        discount in prop_oneof![Just(0.5), Just(0.998), Just(1.0)],
    ) {
        let config = BanditConfig { noise_variance, prior_sd, discount, ..BanditConfig::default() };
        let arms = four_arms();
        let mut bandit = Bandit::default();
        bandit.ensure(&config, &arms);
        for (x, reward, index) in rows {
            let x: [f64; DIMENSIONS] = x.try_into().unwrap();
            let features = Features::from(x);
            for _ in 0..5 {
                bandit.learn(&config, &experience(&arms[index], features, reward));
            }
            for arm in &arms {
                let belief = bandit.belief(&arm.key, &features);
                prop_assert!(belief.mu.is_finite() && belief.sigma.is_finite() && belief.sigma >= 0.0);
                let limit = prior_sd * (DIMENSIONS as f64).sqrt() * 1.001;
                prop_assert!(belief.sigma <= limit.max(Belief::IGNORANT.sigma), "never less sure than the prior");
            }
        }
    }
}
