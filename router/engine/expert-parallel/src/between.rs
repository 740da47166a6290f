//! Values of what was measured at some places, at others.

/// On the straight line between the two neighbours of `at`; before the first and behind the last the value of that one. `of`: ascending by their place.
/// None, if there are none.
pub(crate) fn between<T>(
    of: &[T],
    at: f64,
    place: impl Fn(&T) -> f64,
    value: impl Fn(&T) -> f64,
) -> Option<f64> {
    let behind = of.partition_point(|one| place(one) <= at);
    match (behind.checked_sub(1).map(|before| &of[before]), of.get(behind)) {
        (None, None) => None,
        (None, Some(one)) | (Some(one), None) => Some(value(one)),
        (Some(one), Some(other)) => {
            let share = (at - place(one)) / (place(other) - place(one));
            Some((1.0 - share) * value(one) + share * value(other))
        }
    }
}
