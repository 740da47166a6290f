//! What devices did when, as a picture: trace-event JSON, which Perfetto and chrome://tracing open, and SVG.

use std::{collections::BTreeMap, fmt::Write};

use reprise_scheduler::{Moment, Stage};
use serde_json::{Value, json};

use crate::record::{Record, Span, kind, label};

/// Complete events ("X") of the Trace Event Format, times in microseconds; one thread for each device.
#[must_use]
pub fn trace_events(records: &[Record]) -> Value {
    let name = |(device, _): (usize, &Record)| json!({ "name": "thread_name", "ph": "M", "pid": 0, "tid": device, "args": { "name": format!("device {device}") } });
    let event = |device: usize, span: &Span| {
        let Span { stage, begin, end, entries } = *span;
        let (ts, dur) = (micros(begin), micros(end) - micros(begin));
        json!({
            "name": label(stage), "cat": kind(stage), "ph": "X", "pid": 0, "tid": device,
            "ts": ts, "dur": dur, "args": { "entries": entries },
        })
    };
    let names = records.iter().enumerate().map(name);
    let spans = records
        .iter()
        .enumerate()
        .flat_map(|(device, record)| record.spans().iter().map(move |span| event(device, span)));
    json!({ "traceEvents": names.chain(spans).collect::<Vec<_>>(), "displayTimeUnit": "ms" })
}

/// One bar for each call, one line for each device, from `begin` for `seconds`. Darker: more entries, by the largest call of its kind.
#[must_use]
pub fn svg(records: &[Record], title: &str, begin: Moment, seconds: f64) -> String {
    const WIDTH: f64 = 1200.0;
    const LINE: f64 = 26.0;
    const LEFT: f64 = 70.0;
    let height = 60.0 + LINE * records.len() as f64;
    let seconds = seconds.max(1e-9);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"8\" y=\"18\" font-weight=\"bold\">{}</text>\n",
        LEFT + WIDTH + 10.0,
        escape(title),
    );
    for (device, record) in records.iter().enumerate() {
        let y = 30.0 + LINE * device as f64;
        let _ = writeln!(out, "<text x=\"8\" y=\"{}\">device {device}</text>", y + 15.0);
        let _ = writeln!(out, "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"20\" fill=\"#eee\"/>");
        let mut largest: BTreeMap<&str, usize> = BTreeMap::new();
        for span in record.spans() {
            let entries = largest.entry(kind(span.stage)).or_default();
            *entries = span.entries.max(*entries);
        }
        for span in record.spans() {
            let from = span.begin.since(begin).as_secs_f64() / seconds;
            let to = span.end.since(begin).as_secs_f64() / seconds;
            if span.end <= begin || from >= 1.0 {
                continue;
            }
            let largest = largest.get(kind(span.stage)).copied().unwrap_or(1).max(1);
            let opacity = 0.35 + 0.65 * span.entries as f64 / largest as f64;
            let (x, width) = (LEFT + WIDTH * from, (WIDTH * (to.min(1.0) - from)).max(0.2));
            let _ = writeln!(
                out,
                "<rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"20\" fill=\"{}\" fill-opacity=\"{opacity:.2}\"/>",
                colour(span.stage),
            );
        }
    }
    let y = 44.0 + LINE * records.len() as f64;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{y}\">0 ms</text>");
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{:.3} ms</text>",
        LEFT + WIDTH,
        seconds * 1e3
    );
    for (i, (name, fill)) in
        [("attention, gate", "#4477aa"), ("experts", "#cc6677"), ("embed, head", "#228833")]
            .iter()
            .enumerate()
    {
        let x = LEFT + 300.0 + 160.0 * i as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{fill}\"/><text x=\"{}\" y=\"{y}\">{name}</text>",
            y - 10.0,
            x + 18.0
        );
    }
    out.push_str("</svg>\n");
    out
}

fn micros(moment: Moment) -> f64 {
    moment.0.as_secs_f64() * 1e6
}

const fn colour(stage: Stage) -> &'static str {
    match stage {
        Stage::SubLayer(_) => "#4477aa",
        Stage::Experts(_) => "#cc6677",
        Stage::Embed | Stage::Head => "#228833",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn records() -> Vec<Record> {
        let at = |us| Moment(Duration::from_micros(us));
        let mut record = Record::new(at(0), true);
        record.call(Span { stage: Stage::Experts(1), begin: at(10), end: at(30), entries: 4 });
        record.call(Span { stage: Stage::Head, begin: at(40), end: at(45), entries: 1 });
        vec![record, Record::new(at(0), true)]
    }

    #[test]
    fn a_trace_has_each_call_with_its_times() {
        let trace = trace_events(&records());
        let events = trace["traceEvents"].as_array().expect("a list");
        assert_eq!(events.len(), 4, "two names, two calls");
        let call = &events[2];
        assert_eq!((call["name"].as_str(), call["ph"].as_str()), (Some("e1"), Some("X")));
        assert_eq!(
            (call["ts"].as_f64(), call["dur"].as_f64(), call["args"]["entries"].as_u64()),
            (Some(10.0), Some(20.0), Some(4))
        );
    }

    #[test]
    fn a_picture_has_a_bar_for_each_call_in_its_window() {
        let bars = |begin, seconds| {
            let picture = svg(&records(), "a < b", Moment(Duration::from_micros(begin)), seconds);
            assert!(picture.contains("a &lt; b") && picture.ends_with("</svg>\n"));
            picture.matches("fill-opacity").count()
        };
        assert_eq!(bars(0, 50e-6), 2);
        assert_eq!(bars(0, 35e-6), 1);
        assert_eq!(bars(31, 50e-6), 1);
    }
}
