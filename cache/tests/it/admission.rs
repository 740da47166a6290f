use reprise_cache::{Admission, CacheError, ExampleChange, NewExample, Refusal, UnitVector};

use crate::support::*;

#[test]
fn what_is_kept_is_scrubbed() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let new = new(1, "mail ana@example.org", "call +49 30 1234567", None);
    let id = inserted(ana.admit(&new, 0).unwrap());
    let kept = ana.get(id).unwrap();
    assert_eq!((kept.request.as_str(), kept.answer.as_str()), ("mail [EMAIL]", "call [PHONE]"));
    let change = ExampleChange { answer: Some("or bob@example.org".into()), ..ExampleChange::default() };
    assert_eq!(ana.update(id, &change, 1).unwrap().answer, "or [EMAIL]");
}

#[test]
fn what_is_refused_is_refused_with_a_reason() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let refusal = |new: &NewExample| match ana.admit(new, 0) {
        Err(CacheError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&new(1, " \n", "a", None)), Refusal::EmptyRequest);
    assert_eq!(refusal(&new(1, "r", "", None)), Refusal::EmptyAnswer);
    assert_eq!(refusal(&new(1, "ana@example.org", "a", None)), Refusal::OnlyPrivate);
    assert_eq!(refusal(&new(1, "r", "a", Some(1.5))), Refusal::Quality);
    assert_eq!(refusal(&new(1, "r", "a", Some(f32::NAN))), Refusal::Quality);
    let long = "x".repeat(40 << 10);
    assert!(matches!(refusal(&new(1, &long, "a", None)), Refusal::TooLong { .. }));
    let flat = NewExample { embedding: UnitVector::try_new(vec![1.0]).unwrap(), ..new(1, "r", "a", None) };
    assert!(matches!(ana.admit(&flat, 0), Err(CacheError::Dimensions { expected: DIMENSIONS, got: 1 })));
    assert!(ana.is_empty());
}

#[test]
fn a_near_duplicate_merges_and_the_better_measured_answer_stays() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    let again = |answer: &str, quality| NewExample {
        embedding: close_to(1),
        ..new(1, "what is the capital of france?", answer, quality)
    };
    let id = inserted(ana.admit(&new(1, "what's the capital of france", "first", None), 0).unwrap());
    for (answer, quality, stays) in [
        ("unmeasured", None, ("first", None)),
        ("poor", Some(0.3), ("poor", Some(0.3))),
        ("worse", Some(0.1), ("poor", Some(0.3))),
        ("unmeasured", None, ("poor", Some(0.3))),
        ("good", Some(0.9), ("good", Some(0.9))),
    ] {
        assert_eq!(ana.admit(&again(answer, quality), 1).unwrap(), Admission::Merged(id));
        let kept = ana.get(id).unwrap();
        assert_eq!((kept.answer.as_str(), kept.quality), stays, "after {answer}");
    }
    assert_eq!((ana.len(), ana.get(id).unwrap().merged), (1, 5));
}

#[test]
fn another_number_or_a_negation_is_another_example() {
    let cache = in_memory(config());
    let ana = cache.tenant(&tenant("ana"));
    for request in ["is 12 + 5 even", "is 13 + 5 even", "is 12 - 5 even", "is 12 + 5 not even"] {
        let like = NewExample { embedding: close_to(1), ..new(1, request, "a", None) };
        assert!(matches!(ana.admit(&like, 0).unwrap(), Admission::Inserted(_)), "{request}");
    }
    assert_eq!(ana.len(), 4);
}
