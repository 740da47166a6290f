use std::collections::BTreeSet;

use super::super::Run;
use super::super::format::{decimals, escape};

/// What makes the runs of this page unfit to be compared, if anything does.
pub(super) fn warnings(runs: &[Run]) -> String {
    let distinct = |of: fn(&Run) -> String| runs.iter().map(of).collect::<BTreeSet<_>>().len() > 1;
    let mut said: Vec<String> = Vec::new();
    if distinct(|run| format!("{:?}", run.file.machine)) {
        said.push("The runs were made on different machines: times do not compare.".into());
    }
    if distinct(|run| {
        let tiers = run.file.tiers.iter().map(|tier| (&tier.name, &tier.model, tier.cost.to_bits()));
        format!("{:?}", tiers.collect::<Vec<_>>())
    }) {
        said.push("The runs had different tiers.".into());
    }
    if distinct(|run| run.file.loop_kind.clone()) {
        said.push(
            "Some runs sent at recorded arrival times, others one request at a time: times do not compare."
                .into(),
        );
    }
    if distinct(|run| {
        let ids: BTreeSet<&str> = run.rows.iter().map(|row| row.id.as_str()).collect();
        format!("{ids:?}")
    }) {
        said.push("The runs did not ask the same requests: scores of different runs stand side by side, but only shared requests are compared.".into());
    }
    for run in runs.iter().filter(|run| !run.file.completed) {
        let planned = run.file.requests * run.file.passes as usize;
        said.push(format!("{} was interrupted: it holds {} of {planned} rows.", run.label, run.rows.len()));
    }
    let items: String = said.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"warnings\">{items}</ul>") }
}

/// Definitions, machines, tiers, data and commands.
pub(super) fn section(runs: &[Run]) -> String {
    let mut out = String::from(
        "<h2>How it was measured</h2><dl>\
         <dt>policies</dt><dd><code>small-plain</code>, <code>large-plain</code>: always that tier, the bare request. \
         <code>small-examples</code>, <code>large-examples</code>: always that tier, with the examples that the cache \
         selects. <code>reuse</code>: the nearest stored answer as it is. <code>bandit</code>: the router decides.</dd>\
         <dt>score</dt><dd>each set's own metric: <code>exact_match</code> (first line, case and punctuation at the ends \
         aside), <code>contains</code> (whole words; GSM8K: the answer's last number), <code>rouge_l</code> (F1). A failed \
         request scores 0. Interval: Wilson where all scores are 0 or 1, else percentile bootstrap (2,000 resamples, fixed \
         seed).</dd>\
         <dt>over large-plain, over small-plain</dt><dd>mean difference of the scores of the same request, paired \
         bootstrap. Marked only where the interval leaves zero out. Many comparisons stand on this page: one in twenty \
         would be marked by chance.</dd>\
         <dt>wins</dt><dd>share of requests with a higher task score, ties count half.</dd>\
         <dt>offloaded</dt><dd>share of answers from any tier but the dearest.</dd>\
         <dt>TTFT, end to end</dt><dd>from sending to the first content delta and to the end of the stream, at the \
         client.</dd>\
         <dt>cut</dt><dd>answers that ended at the token limit; they are scored as they are.</dd>\
         <dt>overhead</dt><dd>the gateway's own time, as it reports it.</dd></dl>",
    );
    out.push_str("<h2>Runs</h2>");
    for run in runs {
        let file = &run.file;
        let kind = match file.loop_kind.as_str() {
            "open" => "open loop, recorded arrivals".to_owned(),
            "closed" => "closed loop, one request at a time".to_owned(),
            other => format!("{other}, each one request at a time"),
        };
        let tiers: Vec<String> = file
            .tiers
            .iter()
            .map(|tier| format!("{} = {} (cost {})", tier.name, tier.model, decimals(tier.cost, 2)))
            .collect();
        let files: String = file
            .files
            .iter()
            .map(|file| format!("<li>{} <code>{}</code></li>", escape(&file.name), escape(&file.sha256)))
            .collect();
        out.push_str(&format!(
            "<details><summary>{}: policy {}, {}, {}, {kind}{}</summary><p>Started {}. {}, {} cores for it, {} GiB. \
             Tiers: {}. Seed {}.{}</p><pre>{}</pre><ul>{files}</ul></details>",
            escape(&run.label),
            escape(&file.policy),
            counted(file.requests, "request", "requests"),
            counted(file.passes as usize, "pass", "passes"),
            shared(run),
            file.started.strftime("%Y-%m-%d %H:%M UTC"),
            escape(&file.machine.cpu),
            file.machine.cores,
            decimals(file.machine.memory_bytes as f64 / 1024f64.powi(3), 0),
            escape(&tiers.join("; ")),
            file.seed,
            learned_before(run),
            escape(&commands(run)),
        ));
    }
    out
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn shared(run: &Run) -> String {
    match run.shares.len() {
        1 => String::new(),
        n => format!(", played in {n} shares, each by a gateway of its own"),
    }
}

fn commands(run: &Run) -> String {
    let commands: Vec<String> = run.shares.iter().map(|share| share.command.join(" ")).collect();
    commands.join("\n")
}

/// A bandit that was taught before its first pass has no untaught pass to show.
fn learned_before(run: &Run) -> String {
    match run.file.gateway["router"]["updates"].as_u64() {
        Some(updates) => format!(" The router had learned from {updates} outcomes before this run."),
        None => String::new(),
    }
}
