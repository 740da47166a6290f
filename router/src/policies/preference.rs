//! The orders that fixed policies fall back along.

use std::cmp::Reverse;

use crate::ArmScore;

/// Index of the arm on the cheapest tier; among its arms the one that shows examples, or not, as wanted.
pub fn cheapest(arms: &[ArmScore], examples: bool) -> usize {
    first_by(arms, |arm| (arm.arm.tier, arm.arm.examples != examples))
}

/// Index of the arm on the dearest tier; among its arms the one that shows examples, or not, as wanted.
pub fn dearest(arms: &[ArmScore], examples: bool) -> usize {
    first_by(arms, |arm| (Reverse(arm.arm.tier), arm.arm.examples != examples))
}

fn first_by<K: Ord>(arms: &[ArmScore], key: impl Fn(&ArmScore) -> K) -> usize {
    arms.iter().enumerate().min_by_key(|(_, arm)| key(arm)).map_or(0, |(index, _)| index)
}
