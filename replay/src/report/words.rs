//! What examples did to a set, said in a sentence that is computed, not written: better or worse only where the
//! interval of the paired difference leaves zero out.

use super::compare::{baseline, paired};
use super::format::{decimals, figures, signed};
use super::measure::{Measured, Scope};
use super::{Line, Run};
use crate::stats::Estimate;

/// The direction a paired difference shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Better,
    Worse,
    Unclear,
}

impl Verdict {
    pub(super) fn of(difference: Estimate) -> Self {
        match (difference.excludes_zero(), difference.mean > 0.0) {
            (false, _) => Self::Unclear,
            (true, true) => Self::Better,
            (true, false) => Self::Worse,
        }
    }

    /// Also the CSS class of the sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Unclear => "unclear",
        }
    }
}

/// One sentence for each tier that was traced with and without examples.
pub(super) fn examples_effect(runs: &[Run], set: Option<&str>) -> Vec<(Verdict, String)> {
    ["small", "large"]
        .into_iter()
        .filter_map(|tier| {
            let plain = baseline(runs, &format!("{tier}-plain"))?;
            let with = baseline(runs, &format!("{tier}-examples"))?;
            sentence(tier, plain, with, set)
        })
        .collect()
}

fn sentence(tier: &str, plain: &Run, with: &Run, set: Option<&str>) -> Option<(Verdict, String)> {
    let scope = Scope { set, pass: with.headline_pass() };
    let difference = paired(with, plain, scope)?.difference;
    let verdict = Verdict::of(difference);
    let (before, after) =
        (Measured::of(plain, Scope { set, pass: plain.headline_pass() }), Measured::of(with, scope));
    let said = match verdict {
        Verdict::Better => "examples made it better",
        Verdict::Worse => "examples made it worse",
        Verdict::Unclear => "no clear change from examples",
    };
    let mut text = format!(
        "{tier}: {said}, {} to {} ({} over {} requests)",
        decimals(before.score?.mean, 2),
        decimals(after.score?.mean, 2),
        signed(difference),
        difference.n
    );
    if let (Some(before), Some(after)) = (before.e2e_s, after.e2e_s)
        && before.p50 > 0.0
    {
        text.push_str(&format!(
            "; median time {} s to {} s ({}x)",
            figures(before.p50),
            figures(after.p50),
            figures(after.p50 / before.p50)
        ));
    }
    text.push('.');
    Some((verdict, text))
}

/// How the routed policy stands beside always asking the large tier, over all sets.
pub(super) fn headline(lines: &[Line]) -> Vec<(Verdict, String)> {
    lines
        .iter()
        .filter(|line| line.headline && line.set.is_none() && line.policy == "bandit")
        .filter_map(|line| {
            let paired = line.over_large.as_ref()?;
            let verdict = Verdict::of(paired.difference);
            let said = match verdict {
                Verdict::Better => "scored higher than",
                Verdict::Worse => "scored lower than",
                Verdict::Unclear => "shows no clear difference in score to",
            };
            let offloaded = line.measured.offloaded.map_or(String::new(), |share| {
                format!(", answering {} % without the dearest tier", decimals(100.0 * share.mean, 0))
            });
            Some((
                verdict,
                format!(
                    "{} {said} {} ({} over {} requests; win rate {} %){offloaded}.",
                    line.run,
                    paired.baseline,
                    signed(paired.difference),
                    paired.difference.n,
                    decimals(100.0 * paired.win_rate.mean, 0)
                ),
            ))
        })
        .collect()
}
