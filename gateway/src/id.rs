//! Names of requests and answers.

use uuid::{Builder, Uuid};

use crate::state::now_ms;

/// A UUID of version 7. Its random part is of the thread's generator, which is seeded by the system: that is not asked for each.
pub fn v7() -> Uuid {
    Builder::from_unix_timestamp_millis(u64::try_from(now_ms()).unwrap_or_default(), &rand::random())
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_version_7_and_differ() {
        let (a, b) = (v7(), v7());
        assert_eq!((a.get_version_num(), a.get_variant()), (7, uuid::Variant::RFC4122));
        assert_ne!(a, b);
        let milliseconds = a.get_timestamp().unwrap().to_unix();
        assert!(milliseconds.0 > 1_700_000_000, "{milliseconds:?}");
    }
}
