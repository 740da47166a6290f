use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::{Arm, Experience, RouterConfig, testing::four_arms};

fn score(state: &crate::ArmState, score: f64, cost: f64) -> ArmScore {
    ArmScore {
        arm: state.arm,
        key: state.key.clone(),
        mu: score,
        sigma: 0.0,
        sampled: score,
        cost,
        bias: 0.0,
        score,
    }
}

/// Small plain and with examples, large plain and with examples.
fn scores() -> Vec<ArmScore> {
    let costs = [0.05, 0.1, 0.5, 1.0];
    four_arms().iter().zip([0.4, 0.5, 0.6, 0.7]).zip(costs).map(|((arm, s), c)| score(arm, s, c)).collect()
}

fn choose(kind: PolicyKind, context: &Context<'_>, arms: &[ArmScore]) -> (Arm, Action) {
    let policy = build(kind, &RouterConfig::default(), &Arc::new(WinModel::new(WinModelState::default())));
    assert_eq!(policy.kind(), kind);
    let features = Features::of(context);
    let situation = Situation { context, features: &features, arms, load: 0.0, load_bias: 0.0 };
    let choice = policy.choose(&situation, &mut SmallRng::seed_from_u64(1));
    assert!(!choice.reason.is_empty());
    (arms[choice.index].arm, choice.action)
}

fn near() -> Context<'static> {
    Context { similarities: &[0.7, 0.9], utilities: &[0.6, 0.9], ..Context::default() }
}

#[test]
fn fixed_policies_take_what_they_are_named_for() {
    let arms = scores();
    for (kind, tier, examples) in [
        (PolicyKind::SmallPlain, 0, false),
        (PolicyKind::SmallExamples, 0, true),
        (PolicyKind::LargePlain, 1, false),
        (PolicyKind::LargeExamples, 1, true),
    ] {
        assert_eq!(choose(kind, &near(), &arms), (Arm { tier, examples }, Action::Generate), "{kind}");
    }
}

#[test]
fn where_an_arm_is_missing_the_nearest_is_taken() {
    let arms = scores();
    let (plain, large): (Vec<_>, Vec<_>) = (vec![arms[0].clone(), arms[2].clone()], arms[2..].to_vec());
    assert_eq!(choose(PolicyKind::SmallExamples, &near(), &plain).0, Arm { tier: 0, examples: false });
    assert_eq!(choose(PolicyKind::SmallPlain, &near(), &large).0, Arm { tier: 1, examples: false });
    for kind in PolicyKind::ALL {
        assert_eq!(choose(kind, &near(), &arms[1..2]).0, Arm { tier: 0, examples: true }, "{kind}");
    }
}

#[test]
fn reuse_needs_something_to_reuse() {
    let arms = scores();
    let large = Arm { tier: 1, examples: false };
    assert_eq!(choose(PolicyKind::Reuse, &near(), &arms), (large, Action::Reuse));
    assert_eq!(choose(PolicyKind::Reuse, &Context::default(), &arms), (large, Action::Generate));
    let none = Context { max_examples: Some(0), ..near() };
    assert_eq!(choose(PolicyKind::Reuse, &none, &arms), (large, Action::Generate));
}

#[test]
fn the_static_threshold_is_reached_at_its_value() {
    let arms = scores();
    let at = |similarity: f32| {
        choose(
            PolicyKind::StaticThreshold,
            &Context { similarities: &[similarity], ..Context::default() },
            &arms,
        )
        .0
    };
    assert_eq!(at(0.81), Arm { tier: 0, examples: true });
    assert_eq!(at(0.79), Arm { tier: 1, examples: false });
    assert_eq!(at(f32::NAN), Arm { tier: 1, examples: false });
}

#[test]
fn the_bandit_takes_the_cheapest_among_the_alike() {
    let mut arms = scores();
    assert_eq!(choose(PolicyKind::Bandit, &near(), &arms).0, Arm { tier: 1, examples: true });
    arms[1].score = 0.69;
    assert_eq!(choose(PolicyKind::Bandit, &near(), &arms).0, Arm { tier: 0, examples: true });
    arms[1].score = f64::NAN;
    assert_eq!(choose(PolicyKind::Bandit, &near(), &arms).0, Arm { tier: 1, examples: true });
}

#[test]
fn random_takes_every_arm() {
    let (arms, context) = (scores(), near());
    let features = Features::of(&context);
    let situation =
        Situation { context: &context, features: &features, arms: &arms, load: 0.0, load_bias: 0.0 };
    let mut rng = SmallRng::seed_from_u64(3);
    let mut counts = [0; 4];
    for _ in 0..4000 {
        counts[random::Random.choose(&situation, &mut rng).index] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn the_win_model_learns_where_the_small_tier_loses() {
    let model = Arc::new(WinModel::new(WinModelState::default()));
    let policy = win_probability::WinProbability { threshold: 0.5, model: Arc::clone(&model) };
    let of = |code: bool| {
        let flags = crate::TaskFlags { code, ..Default::default() };
        Context { flags, ..near() }
    };
    let arms = scores();
    let tier = |context: &Context<'_>| {
        let features = Features::of(context);
        let situation = Situation { context, features: &features, arms: &arms, load: 0.0, load_bias: 0.0 };
        arms[policy.choose(&situation, &mut SmallRng::seed_from_u64(1)).index].arm.tier
    };
    assert_eq!((tier(&of(true)), tier(&of(false))), (0, 0), "cold, a near example is enough");
    for _ in 0..400 {
        for (code, reward, baseline) in [(true, 0.3, Some(0.9)), (false, 0.9, None)] {
            let features = Features::of(&of(code));
            model.learn(&Experience { features, arm: arms[1].key.clone(), reward, baseline, cluster: None });
        }
    }
    assert_eq!((tier(&of(true)), tier(&of(false))), (1, 0));
    let back: WinModelState = serde_json::from_str(&serde_json::to_string(&model.state()).unwrap()).unwrap();
    assert_eq!(back, model.state());
}
