use super::candidates::Candidate;

/// Keeps the `k` likeliest, in their order (of equals the lower ids); linear.
pub(super) fn keep(candidates: &mut Vec<Candidate>, k: usize) {
    let Some(last) = k.checked_sub(1).filter(|last| last + 1 < candidates.len()) else { return };
    let last = *candidates.clone().select_nth_unstable_by(last, Candidate::order).1;
    candidates.retain(|candidate| candidate.order(&last).is_le());
}
