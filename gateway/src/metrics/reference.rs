//! The reference of the metrics, made of the table of metrics itself.

use std::fmt::Write as _;

use super::{Described, TABLE};

const HEAD: &str = "# Metrics

Made by `reprise metrics reference`; a test fails when it differs from the code. All stand on `GET /metrics` in Prometheus' text
format. Times are in seconds, sizes in bytes, shares in [0, 1]; counters end in `_total` and count since the process began.

No label has a value that a client can make up: the last table says where each label's values come from.
";

/// OpenTelemetry's conventions for generative AI name these; theirs are the same quantities under other names, of which
/// Prometheus' own rules (prefix, unit, `_total`) allow none.
const CONVENTIONS: &[(&str, &str)] = &[
    ("reprise_request_duration_seconds", "`gen_ai.server.request.duration`"),
    ("reprise_time_to_first_token_seconds", "`gen_ai.server.time_to_first_token`"),
    ("reprise_inter_token_seconds", "`gen_ai.server.time_per_output_token`"),
    (
        "reprise_tokens_total",
        "`gen_ai.client.token.usage`, summed: `kind` `prompt` is `gen_ai.token.type` `input`, `completion` is `output`",
    ),
];

/// Where the values of a label come from: each is a list that no client can make longer.
const LABELS: &[(&str, &str)] = &[
    ("by", "fixed: what measured it, or what saved it"),
    ("cache", "`HIT`, `EXAMPLES`, `MISS`, `BYPASS`, or empty where no cache is asked"),
    ("device", "number of a device of a tier, from the configuration"),
    ("endpoint", "fixed: `chat`, `completions`, `responses`, `embeddings`, `feedback`, `models`, `unknown`"),
    ("examples", "`true`, `false`"),
    ("first", "`true`, `false`"),
    ("kind", "fixed, a few for each metric"),
    ("limit", "`requests`, `tokens`, `budget_tokens`, `budget_money`"),
    ("policy", "names of the router's policies"),
    ("reason", "fixed, a few for each metric"),
    ("result", "fixed, a few for each metric"),
    ("stage", "`parse`, `exact`, `embed`, `retrieve`, `select`, `route`, `admit`"),
    ("status", "HTTP statuses that the gateway gives; 499 for a client that went away"),
    ("sub_layer", "sub-layers of a tier's model"),
    ("tier", "names of tiers in the configuration, or empty where no tier answered"),
    ("version", "the gateway's own"),
];

#[must_use]
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n");
    for metric in TABLE {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (metric.name, labels.join(", "));
        let (kind, unit, meaning) = (kind(metric), unit(name), metric.help.replace('|', "\\|"));
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {unit} | {meaning} |");
    }
    text.push_str(
        "\n## OpenTelemetry's names\n\n| here | in the conventions for generative AI |\n|---|---|\n",
    );
    for (here, there) in CONVENTIONS {
        let _ = writeln!(text, "| `{here}` | {there} |");
    }
    text.push_str(
        "\nTraces (`[telemetry]` of the configuration) use the conventions' own names for attributes.\n",
    );
    text.push_str("\n## Values of labels\n\n| label | values |\n|---|---|\n");
    for (label, values) in LABELS {
        let _ = writeln!(text, "| `{label}` | {values} |");
    }
    text
}

fn kind(metric: &Described) -> &'static str {
    match metric.kind {
        kind if kind.contains("Histogram") => "histogram",
        kind if kind.contains("Counter") => "counter",
        _ => "gauge",
    }
}

/// As Prometheus' naming has it: the last word, but for `_total`.
fn unit(name: &str) -> &'static str {
    let name = name.trim_end_matches("_total");
    let ends = |end: &str| name.ends_with(end);
    match name {
        _ if ends("_timestamp_seconds") || ends("_start_time_seconds") => "seconds since 1970",
        _ if ends("_seconds") => "seconds",
        _ if ends("_bytes") || ends("_byte_budget") => "bytes",
        _ if ends("_ratio") || ends("_similarity") || ends("_quality") => "in [0, 1]",
        _ if ends("_money_spent") || ends("_money_saved") => "currency of the prices",
        _ if ends("_tokens") || ends("_tokens_saved") => "tokens",
        _ => "1",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// `reprise metrics reference > dashboards/METRICS.md` makes it anew.
    #[test]
    fn the_committed_reference_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/METRICS.md");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == markdown(), "reprise metrics reference > dashboards/METRICS.md");
    }

    #[test]
    fn it_is_said_of_every_label_what_bounds_it() {
        let used: BTreeSet<&str> = TABLE.iter().flat_map(|metric| metric.labels).copied().collect();
        let told: BTreeSet<&str> = LABELS.iter().map(|(label, _)| *label).collect();
        assert_eq!(used, told);
        for never in ["tenant", "key", "model", "user", "request_id", "id", "path"] {
            assert!(!used.contains(never), "{never}");
        }
    }

    #[test]
    fn names_keep_prometheus_rules() {
        for metric in TABLE {
            assert_eq!(metric.name.ends_with("_total"), kind(metric) == "counter", "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
        for (name, _) in CONVENTIONS {
            assert!(TABLE.iter().any(|metric| metric.name == *name), "{name}");
        }
    }
}
