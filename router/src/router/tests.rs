use std::time::Duration;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    Action, Arm, Exclusion,
    testing::{arm, four_arms, with_queue},
};

fn router() -> Router {
    Router::new(RouterConfig::default()).unwrap()
}

fn near() -> Context<'static> {
    Context {
        similarities: &[0.95, 0.9],
        utilities: &[0.95, 0.9],
        example_tokens: 200,
        prompt_tokens: 50,
        ..Context::default()
    }
}

/// How often each of the four arms is chosen, in 1000 decisions at one moment.
fn shares(router: &Router, context: &Context<'_>, arms: &[ArmState]) -> [usize; 4] {
    let (mut rng, now) = (SmallRng::seed_from_u64(9), Instant::now());
    let mut counts = [0; 4];
    for _ in 0..1000 {
        let Arm { tier, examples } = router.decide(context, arms, now, &mut rng).unwrap().arm;
        counts[tier * 2 + usize::from(examples)] += 1;
    }
    counts
}

fn decide(context: &Context<'_>, arms: &[ArmState]) -> Result<Decision, RouteError> {
    router().decide(context, arms, Instant::now(), &mut SmallRng::seed_from_u64(5))
}

#[test]
fn cold_it_shows_near_examples_idle_to_the_large_tier_and_under_load_to_the_small_one() {
    let idle = shares(&router(), &near(), &four_arms());
    assert!(idle[3] > 800 && idle[0] + idle[2] == 0, "{idle:?}");
    let busy: Vec<_> = four_arms().into_iter().map(|arm| with_queue(arm, 20.0)).collect();
    let loaded = shares(&router(), &near(), &busy);
    assert!(loaded[1] > 900, "{loaded:?}");
    let none = shares(&router(), &Context { prompt_tokens: 50, ..Context::default() }, &four_arms());
    assert!(none[2] > 850 && none[1] + none[3] == 0, "{none:?}");
}

#[test]
fn under_theta_load_changes_nothing() {
    let loaded: Vec<_> = four_arms().into_iter().map(|arm| with_queue(arm, 2.0)).collect();
    let context = near();
    assert_eq!(shares(&router(), &context, &loaded), shares(&router(), &context, &four_arms()));
}

#[test]
fn more_load_never_means_more_work_for_the_large_tier_and_much_load_means_nearly_none() {
    let context = Context { prompt_tokens: 50, ..Context::default() };
    let large = |seconds: f64| {
        let arms: Vec<_> = four_arms().into_iter().map(|arm| with_queue(arm, seconds)).collect();
        let counts = shares(&router(), &context, &arms);
        counts[2] + counts[3]
    };
    let counts: Vec<_> = [0.0, 2.5, 3.0, 3.5, 4.0, 5.0, 8.0, 20.0].map(large).to_vec();
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    assert!(counts[0] > 850 && counts[7] < 50, "{counts:?}");
}

#[test]
fn under_load_example_tokens_are_part_of_the_price() {
    let arms: Vec<_> = four_arms().into_iter().map(|arm| with_queue(arm, 20.0)).collect();
    let with = |example_tokens| {
        let context = Context { example_tokens, ..near() };
        let decision = decide(&context, &arms).unwrap();
        (decision.scores[1].bias, decision.scores[0].bias)
    };
    let (short, long) = (with(50), with(1000));
    assert!(long.0 / long.1 > 3.0 * (short.0 / short.1), "{short:?} {long:?}");
}

#[test]
fn arms_that_cannot_take_the_request_are_left_out_with_the_reason() {
    let mut arms = four_arms();
    arms[0].ready = false;
    arms[1].pressure.waiting = 16;
    let decision = decide(&Context { max_examples: Some(0), ..near() }, &arms).unwrap();
    assert_eq!(decision.arm, Arm { tier: 1, examples: false });
    let reasons: Vec<_> = decision.excluded.iter().map(|excluded| excluded.reason).collect();
    assert_eq!(reasons, [Exclusion::NotReady, Exclusion::Saturated, Exclusion::NoExamples]);
    assert!(!decision.solicit_preference, "one arm cannot be compared");
    let pinned = decide(&Context { pinned_tier: Some(0), ..near() }, &four_arms()).unwrap();
    assert_eq!(pinned.arm.tier, 0);
}

#[test]
fn a_prompt_that_fits_nowhere_is_still_given_to_a_tier() {
    let mut arms = four_arms();
    arms[0].context_length = 100;
    arms[1].context_length = 100;
    let long = Context { prompt_tokens: 200, ..Context::default() };
    assert_eq!(decide(&long, &arms).unwrap().arm.tier, 1);
    let endless = Context { prompt_tokens: u32::MAX, ..Context::default() };
    assert!(decide(&endless, &arms).is_ok());
}

#[test]
fn where_nothing_fits_the_error_says_why() {
    let down: Vec<_> = four_arms().into_iter().map(|arm| ArmState { ready: false, ..arm }).collect();
    assert_eq!(decide(&near(), &down), Err(RouteError::NotReady));
    assert_eq!(decide(&near(), &[]), Err(RouteError::NotReady));
    let full: Vec<_> = four_arms()
        .into_iter()
        .map(|arm| {
            let mut arm = with_queue(arm, 7.0);
            arm.pressure.waiting = 16;
            arm
        })
        .collect();
    assert_eq!(decide(&near(), &full), Err(RouteError::Saturated { retry_after: Duration::from_secs(7) }));
    let unknown = decide(&Context { pinned_tier: Some(9), ..near() }, &four_arms());
    assert_eq!(unknown, Err(RouteError::UnknownTier { tier: 9 }));
}

#[test]
fn the_same_seed_gives_the_same_decision_and_every_policy_can_be_switched_on() {
    let (router, arms, now) = (router(), four_arms(), Instant::now());
    let mut previous = router.policy();
    for kind in PolicyKind::ALL {
        assert_eq!(router.set_policy(kind), previous);
        previous = kind;
        let run = || router.decide(&near(), &arms, now, &mut SmallRng::seed_from_u64(4)).unwrap();
        let decision = run();
        assert_eq!(decision, run());
        assert_eq!(decision.policy, kind);
        assert_eq!(decision.action == Action::Reuse, kind == PolicyKind::Reuse);
    }
}

#[test]
fn a_decision_is_json_with_every_arms_score() {
    let decision = decide(&near(), &four_arms()).unwrap();
    let value = serde_json::to_value(&decision).unwrap();
    assert_eq!(value["policy"], "bandit");
    assert_eq!(value["scores"].as_array().unwrap().len(), 4);
    for field in ["mu", "sigma", "sampled", "cost", "bias", "score"] {
        assert!(value["scores"][1][field].is_number(), "{field}");
    }
    assert_eq!(value["scores"][3]["key"]["tier"], "large");
    assert_eq!(value["scores"][3]["cost"], 1.0);
}

#[test]
fn a_comparison_is_asked_for_where_the_arms_look_alike() {
    let router = router();
    let (arms, context) = (four_arms(), Context { prompt_tokens: 50, ..Context::default() });
    let ask = |rng: u64| {
        let mut rng = SmallRng::seed_from_u64(rng);
        router.decide(&context, &arms, Instant::now(), &mut rng).unwrap()
    };
    let known = router.decide(&near(), &arms, Instant::now(), &mut SmallRng::seed_from_u64(1)).unwrap();
    assert!(!known.solicit_preference, "cold, examples are taken to be better than none");
    for _ in 0..300 {
        for index in [0, 2] {
            let decision = ask(1);
            let experience = Experience { arm: arms[index].key.clone(), ..decision.experience(0.6) };
            assert!(router.learn(&experience));
        }
    }
    assert!(ask(1).solicit_preference);
}

#[test]
fn what_was_learned_survives_a_restart_and_a_changed_pool() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/router.json");
    let (first, restored) = Router::restore(RouterConfig::default(), &path).unwrap();
    assert_eq!(restored, Restored::Cold);
    let (arms, context) = (four_arms(), Context { prompt_tokens: 50, ..Context::default() });
    let decision = first.decide(&context, &arms, Instant::now(), &mut SmallRng::seed_from_u64(1)).unwrap();
    for _ in 0..300 {
        first.learn(&Experience { arm: arms[0].key.clone(), ..decision.experience(0.95) });
        first.learn(&Experience { arm: arms[2].key.clone(), ..decision.experience(0.3) });
    }
    first.save(&path).unwrap();
    first.save(&path).unwrap();

    let (second, restored) = Router::restore(RouterConfig::default(), &path).unwrap();
    assert_eq!(restored, Restored::Warm { arms: 2, updates: 600 });
    // A tier has come in between: the known ones are found by name, not by place.
    let grown = [arm(0, "small", 0.1, false), arm(1, "medium", 0.4, false), arm(2, "large", 1.0, false)];
    let score = |router: &Router, arms: &[ArmState], tier: &str| {
        let now = Instant::now();
        let decision = router.decide(&context, arms, now, &mut SmallRng::seed_from_u64(1)).unwrap();
        decision.scores.into_iter().find(|score| &*score.key.tier == tier).unwrap().mu
    };
    for tier in ["small", "large"] {
        assert!((score(&first, &arms, tier) - score(&second, &grown, tier)).abs() < 1e-9);
    }
    assert!(score(&second, &grown, "small") > 0.8 && score(&second, &grown, "large") < 0.45);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.json");
    let router = router();
    let decision =
        router.decide(&near(), &four_arms(), Instant::now(), &mut SmallRng::seed_from_u64(2)).unwrap();
    assert!(router.learn(&decision.experience(0.5)));
    router.save(&path).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let flipped = good.replacen("0.18", "0.19", 1);
    assert!(good != flipped);
    for bad in [&good[..good.len() / 2], "", "{}", "\u{0}\u{1}", &flipped] {
        std::fs::write(&path, bad).unwrap();
        let (router, restored) = Router::restore(RouterConfig::default(), &path).unwrap();
        let Restored::Damaged { moved_to: Some(aside), .. } = restored else {
            panic!("{bad:?}: {restored:?}")
        };
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), *bad);
        assert!(!path.exists());
        assert_eq!(router.updates(), 0);
    }
    let other = good.replacen("\"features\":1", "\"features\":0", 1);
    std::fs::write(&path, other).unwrap();
    let (_, restored) = Router::restore(RouterConfig::default(), &path).unwrap();
    assert!(matches!(restored, Restored::Outdated { .. }), "{restored:?}");
    assert!(path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_context_and_pool_gives_a_decision_with_finite_scores_or_an_error(
        similarities in prop::collection::vec(any::<f32>(), 0..6),
        embedding in prop::collection::vec(any::<f32>(), 0..20),
        tokens: (u32, u32, Option<u32>),
        states in prop::collection::vec((any::<f64>(), any::<bool>(), any::<f64>(), 0_usize..20, any::<u32>()), 0..5),
        kind in prop::sample::select(PolicyKind::ALL.to_vec()),
        pinned in prop::option::of(0_usize..5),
        seed: u64,
    ) {
        let arms: Vec<_> = states.iter().enumerate().flat_map(|(tier, state)| [(tier, state, false), (tier, state, true)])
            .map(|(tier, (cost, ready, seconds, waiting, context_length), examples)| {
                let mut arm = with_queue(arm(tier, &format!("t{tier}"), *cost, examples), *seconds);
                arm.ready = *ready;
                arm.pressure.waiting = *waiting;
                arm.context_length = *context_length;
                arm
            })
            .collect();
        let context = Context {
            embedding: Some(&embedding), similarities: &similarities, utilities: &similarities,
            prompt_tokens: tokens.0, example_tokens: tokens.1, completion_tokens: tokens.2,
            pinned_tier: pinned, ..Context::default()
        };
        let router = router();
        router.set_policy(kind);
        if let Ok(decision) = router.decide(&context, &arms, Instant::now(), &mut SmallRng::seed_from_u64(seed)) {
            prop_assert!(decision.load.is_finite() && decision.load_bias.is_finite());
            prop_assert!(decision.scores.iter().any(|score| score.arm == decision.arm));
            prop_assert!(decision.scores.iter().all(|s| s.score.is_finite() && (0.0..=1.0).contains(&s.cost)));
            prop_assert!(pinned.is_none_or(|tier| tier == decision.arm.tier));
            let chosen = arms.iter().find(|arm| arm.arm == decision.arm).unwrap();
            prop_assert!(chosen.ready && !chosen.is_saturated());
        }
    }
}

#[test]
fn harmful_examples_are_withheld_but_for_probes_and_baselines() {
    let (router, arms) = (router(), four_arms());
    let embedding = [1.0_f32, 0.0];
    let context = Context { embedding: Some(&embedding), ..near() };
    let mut rng = SmallRng::seed_from_u64(3);
    let mut decide = || router.decide(&context, &arms, Instant::now(), &mut rng).unwrap();
    for _ in 0..40 {
        let decision = decide();
        for (arm, reward) in [(0, 0.9), (1, 0.1), (2, 0.9), (3, 0.1)] {
            router.learn(&Experience { arm: arms[arm].key.clone(), ..decision.experience(reward) });
        }
    }
    let decisions: Vec<Decision> = (0..400).map(|_| decide()).collect();
    let shown = |decision: &&Decision| decision.scores.iter().any(|score| score.arm.examples);
    let probes = decisions.iter().filter(shown).count();
    assert!((5..60).contains(&probes), "{probes} of 400");
    let told = |decision: &Decision| {
        decision.excluded.iter().filter(|excluded| excluded.reason == Exclusion::Harmful).count()
    };
    assert_eq!(decisions.iter().map(told).max(), Some(2));
    assert_eq!(router.report().withheld.len(), 2);
    router.set_policy(PolicyKind::SmallExamples);
    assert!(decide().arm.examples);
    let far = [0.0_f32, 1.0];
    router.set_policy(PolicyKind::Bandit);
    let context = Context { embedding: Some(&far), ..near() };
    let elsewhere = router.decide(&context, &arms, Instant::now(), &mut SmallRng::seed_from_u64(1)).unwrap();
    assert!(elsewhere.excluded.is_empty());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("router.json");
    router.save(&path).unwrap();
    let (back, _) = Router::restore(RouterConfig::default(), &path).unwrap();
    assert_eq!(back.report().withheld, router.report().withheld);
}
