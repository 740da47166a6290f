//! Prints the speeds of both models; asserts nothing about them.

use reprise_engine::bench_engine;

use super::common;

#[test]
fn the_report_is_whole() {
    let mut config = common::config(None, 1);
    config.max_sequences = std::num::NonZeroUsize::new(3).expect("not zero");
    let report = bench_engine(&config, 40, 4, std::num::NonZeroUsize::MIN).expect("measures");
    let json = serde_json::to_value(&report).expect("serialises");
    assert_eq!(json["batch"].as_u64(), Some(3));
    assert_eq!((json["prompt_tokens"].as_u64(), json["generated_tokens"].as_u64()), (Some(40), Some(4)));
    for key in ["load_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"] {
        assert!(json[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {json}");
    }
    assert!(
        bench_engine(&common::config(Some(32), 1), 40, 4, std::num::NonZeroUsize::MIN).is_err(),
        "over the context"
    );
}

#[test]
#[ignore = "a measurement: run with --nocapture on an idle machine; needs the large model's file"]
fn measure_both() {
    for model in [common::SMALL, common::LARGE] {
        let mut config = common::single(None, 1);
        config.gguf = common::model(model);
        config.model_id = model.0.into();
        let report = bench_engine(&config, 256, 32, std::num::NonZeroUsize::MIN).expect("measures");
        println!("{}", serde_json::to_string(&report).expect("serialises"));
    }
}
