//! The page: what was found, the plots, a section for each set, and all that is needed to judge or repeat it.

mod plots;
mod provenance;
mod table;

use super::format::{escape, percent};
use super::words::{self, Verdict};
use super::{Line, Run};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(title: &str, runs: &[Run], lines: &[Line]) -> String {
    let mut body = format!("<h1>{}</h1>", escape(title));
    body.push_str(&lead(runs));
    body.push_str(&provenance::warnings(runs));
    body.push_str("<h2>All sets together</h2>");
    body.push_str(&sentences(&words::headline(lines)));
    body.push_str(&sentences(&words::examples_effect(runs, None)));
    body.push_str(&plots::legend(runs));
    body.push_str(&plots::overview(runs, lines));
    let headline = |set: Option<&str>| -> Vec<&Line> {
        lines.iter().filter(|line| line.headline && line.set.as_deref() == set).collect()
    };
    body.push_str(&table::lines(&headline(None), false));
    let over_time = plots::over_time(runs);
    if !over_time.is_empty() {
        body.push_str("<h2>Over time</h2><p>Simulated, in virtual time; 48 windows by arrival.</p>");
        body.push_str(&plots::legend(runs));
        body.push_str(&over_time);
    }
    body.push_str("<h2>By set</h2>");
    for set in sets(lines) {
        body.push_str(&format!("<section><h3>{}</h3>", escape(set)));
        body.push_str(&sentences(&words::examples_effect(runs, Some(set))));
        body.push_str(&plots::set(runs, lines, set));
        body.push_str(&table::lines(&headline(Some(set)), false));
        body.push_str("</section>");
    }
    if lines.iter().any(|line| line.pass > 1) {
        body.push_str("<h2>Pass by pass</h2><p>All sets together. A policy that learns should change from pass to pass; the others only by noise, and \
             in time: a prompt that comes again may find its own beginning in KV memory.</p>");
        let passes: Vec<&Line> = lines.iter().filter(|line| line.set.is_none()).collect();
        body.push_str(&table::lines(&passes, true));
    }
    body.push_str(&provenance::section(runs));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title>\
         <style>{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        escape(title)
    )
}

fn lead(runs: &[Run]) -> String {
    let rows: usize = runs.iter().map(|run| run.rows.len()).sum();
    let errors = runs.iter().flat_map(|run| &run.rows).filter(|row| row.error.is_some()).count();
    let shown =
        crate::stats::wilson(errors, rows).map_or(String::new(), |share| format!(" ({})", percent(share)));
    format!(
        "<p class=\"lead\">{}, {}, {}{shown}. Figures are those of the last whole pass of a policy that learns, and of the first of any other; \
         brackets and whiskers are 95 % intervals.</p>",
        counted(runs.len(), "run"),
        counted(rows, "request"),
        counted(errors, "error")
    )
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn sentences(said: &[(Verdict, String)]) -> String {
    if said.is_empty() {
        return String::new();
    }
    let items: String = said
        .iter()
        .map(|(verdict, text)| format!("<li class=\"{}\">{}</li>", verdict.name(), escape(text)))
        .collect();
    format!("<ul class=\"said\">{items}</ul>")
}

fn sets(lines: &[Line]) -> Vec<&str> {
    let mut sets: Vec<&str> = lines.iter().filter_map(|line| line.set.as_deref()).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}
