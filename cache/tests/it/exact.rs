use std::time::Duration;

use reprise_cache::CacheConfig;

use crate::support::*;

#[test]
fn an_answer_is_served_until_it_is_too_old_for_who_asks() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    assert!(ana.exact(&fingerprint(1), None, 0).is_none());
    assert!(ana.put_exact(&fingerprint(1), answer("a", 1000)).unwrap());
    let aged = |seconds, now| ana.exact(&fingerprint(1), Some(Duration::from_secs(seconds)), now).is_some();
    assert!(aged(1, 2000) && !aged(1, 2001) && aged(0, 1000) && !aged(0, 1001));
    assert!(aged(0, 500), "a clock that stepped back makes nothing old");
    assert!(ana.exact(&fingerprint(1), None, i64::MAX).is_some());
    assert!(ana.exact(&fingerprint(2), None, 0).is_none());
    assert!(ana.put_exact(&fingerprint(1), answer("newer", 5000)).unwrap());
    assert_eq!(ana.exact(&fingerprint(1), None, 5000).unwrap().text, "newer");
    assert!(ana.forget(&fingerprint(1)).unwrap() && ana.exact(&fingerprint(1), None, 0).is_none());
}

#[test]
fn an_answer_that_is_private_or_huge_is_not_stored() {
    let cache = in_memory(CacheConfig { max_answer_bytes: 100, ..config() });
    let ana = cache.tenant(&tenant("ana"));
    assert!(!ana.put_exact(&fingerprint(1), answer("write to ana@example.org", 0)).unwrap());
    assert!(!ana.put_exact(&fingerprint(2), answer(&"x".repeat(101), 0)).unwrap());
    assert_eq!((cache.stats().answers, cache.stats().sequence), (0, 0));
}
