//! A tier whose mixture of experts is spread over devices: it answers as it does on one, and tells what each device does.
#![cfg(test)]

mod support;

use serde_json::Value;
use support::{CAPITAL, Gateway, Setup, ask, ask_streamed};

const MODEL: &str = "model = \"smollm2-135m-instruct-moe-4x2-q4_1\"\nmax_sequences = 4\n";

#[tokio::test]
async fn a_model_over_two_devices_answers_as_on_one_and_its_devices_are_measured() {
    let setup = Setup::empty().tier(&format!("name = \"one\"\n{MODEL}cost = 0.1\n")).tier(&format!(
        "name = \"two\"\n{MODEL}cost = 1.0\ndevices = [\"cpu\", \"cpu\"]\nschedule = \"adaptive\"\n"
    ));
    let gateway = Gateway::start(setup).await;
    let off = [("x-reprise-cache", "off")];
    for text in [CAPITAL, "Count from one to ten.", "What is a mixture of experts?"] {
        let one = gateway.chat_with(&ask("one", text), &off).await;
        let two = gateway.chat_with(&ask("two", text), &off).await;
        assert!(!one.text().is_empty());
        assert_eq!(one.text(), two.text(), "{text}");
        assert_eq!(one.json()["usage"], two.json()["usage"]);
    }
    // Several at once, of which both devices have some.
    let texts: Vec<String> = (0..8).map(|i| format!("Write a sentence about the number {i}.")).collect();
    let bodies: Vec<Value> = texts.iter().map(|text| ask("two", text)).collect();
    let replies = futures::future::join_all(bodies.iter().map(|body| gateway.chat_with(body, &off))).await;
    assert!(replies.iter().all(|reply| !reply.text().is_empty()));
    let streamed = gateway.chat_with(&ask_streamed("two", CAPITAL), &off).await;
    assert!(streamed.streamed_text().contains("Berlin"));

    gateway.until("reprise_tier_running", &[("tier", "two")], |running| running == 0.0).await;
    let metrics = gateway.metrics().await;
    for device in ["0", "1"] {
        let labels = [("tier", "two"), ("device", device)];
        assert!(metrics.sum("reprise_device_busy_seconds_total", &labels) > 0.0, "{metrics:?}");
        let of = |name: &str, kind: &'static str| metrics.sum(name, &[labels[0], labels[1], ("kind", kind)]);
        for kind in ["sub_layer", "experts", "head"] {
            let (calls, entries) =
                (of("reprise_device_calls_total", kind), of("reprise_device_entries_total", kind));
            assert!(calls > 0.0 && entries >= calls, "device {device}: {entries} {kind} in {calls} calls");
        }
        assert!(metrics.sum("reprise_device_oldest_entry_seconds", &labels) >= 0.0);
    }
    let balance = metrics.sum("reprise_device_balance_ratio", &[("tier", "two")]);
    assert!(balance > 0.0 && balance <= 1.0, "{balance}");
    assert!(metrics.families().contains("reprise_device_queue_depth"));
    assert_eq!(
        metrics.sum("reprise_device_calls_total", &[("tier", "one")]),
        0.0,
        "one device tells nothing"
    );
}
