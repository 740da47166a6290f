use super::super::format::escape;
use super::super::measure::Scope;
use super::super::over_time::{Window, windows};
use super::super::svg::{
    Bar, Curve, Dot, Point, Series, Style, Upwards, bars, cdf, dots, lines as over, scatter,
};
use super::super::{Line, Run};

/// The style of every run, in their order: that of its policy, or of another colour where the policy has it already.
fn styles(runs: &[Run]) -> Vec<Style> {
    let mut styles: Vec<Style> = runs.iter().map(|run| Style::of(&run.file.policy)).collect();
    let repeats =
        |index: usize| runs[..index].iter().any(|before: &Run| before.file.policy == runs[index].file.policy);
    let (again, first): (Vec<usize>, Vec<usize>) = (0..runs.len()).partition(|index| repeats(*index));
    let mut drawn: Vec<Style> = first.into_iter().map(|index| styles[index]).collect();
    for index in again {
        styles[index] = styles[index].apart_from(&drawn);
        drawn.push(styles[index]);
    }
    styles
}

fn style(runs: &[Run], label: &str) -> Style {
    let position = runs.iter().position(|run| run.label == label).unwrap_or(0);
    styles(runs).get(position).copied().unwrap_or(Style::of(""))
}

/// Which line is whose.
pub(super) fn legend(runs: &[Run]) -> String {
    let items: String = runs
        .iter()
        .zip(styles(runs))
        .map(|(run, style)| format!("<li>{}{}</li>", style.swatch(), escape(&run.label)))
        .collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

/// All sets: score, score against time, the distributions of times, and offload.
pub(super) fn overview(runs: &[Run], lines: &[Line]) -> String {
    let shown: Vec<&Line> = lines.iter().filter(|line| line.headline && line.set.is_none()).collect();
    let shares: Vec<Bar<'_>> = shown
        .iter()
        .filter_map(|line| {
            Some(Bar { label: &line.run, style: style(runs, &line.run), share: line.measured.offloaded? })
        })
        .collect();
    grid(&[
        score_dots("Score by run", runs, &shown),
        score_against_time(runs, &shown),
        cdf("Time to first token", "seconds (log)", &curves(runs, |row| row.ttft_s)),
        cdf("End-to-end time", "seconds (log)", &curves(runs, |row| row.e2e_s)),
        bars("Offloaded", "answers not from the dearest tier, %", &shares),
    ])
}

/// One set's scores.
pub(super) fn set(runs: &[Run], lines: &[Line], set: &str) -> String {
    let shown: Vec<&Line> =
        lines.iter().filter(|line| line.headline && line.set.as_deref() == Some(set)).collect();
    grid(&[score_dots("Score by run", runs, &shown), score_against_time(runs, &shown)])
}

/// Simulated runs over time; nothing if no run has moments.
pub(super) fn over_time(runs: &[Run]) -> String {
    let cut: Vec<Vec<Window>> = runs.iter().map(|run| windows(&run.moments, run.dearest())).collect();
    if cut.iter().all(Vec::is_empty) {
        return String::new();
    }
    let series = |value: fn(&Window) -> Option<f64>| -> Vec<Series> {
        let points = |windows: &[Window]| -> Vec<(f64, f64)> {
            windows.iter().filter_map(|window| Some((window.at_s, value(window)?))).collect()
        };
        cut.iter()
            .zip(styles(runs))
            .map(|(windows, style)| Series { style, points: points(windows) })
            .collect()
    };
    let hundred = Upwards::Linear(100.0);
    grid(&[
        over(
            "Score",
            "mean of the requests that arrived then",
            Upwards::Linear(1.0),
            &series(|window| window.score),
        ),
        over("Offloaded", "%", hundred, &series(|window| window.offloaded.map(|share| 100.0 * share))),
        over("Median end-to-end time", "seconds (log)", Upwards::Log, &series(|window| window.p50_s)),
        over("99th percentile of it", "seconds (log)", Upwards::Log, &series(|window| window.p99_s)),
        over(
            "Load bias",
            "score that an arm of cost 1 loses",
            Upwards::Linear(0.1),
            &series(|window| window.bias),
        ),
        over(
            "Refused",
            "% that found no room",
            hundred,
            &series(|window| window.refused.map(|share| 100.0 * share)),
        ),
    ])
}

fn score_against_time(runs: &[Run], lines: &[&Line]) -> String {
    let points: Vec<Point<'_>> = lines
        .iter()
        .filter_map(|line| {
            Some(Point {
                label: &line.run,
                style: style(runs, &line.run),
                seconds: line.measured.e2e_s?.p50,
                score: line.measured.score?,
            })
        })
        .collect();
    scatter("Score against time", "median end-to-end time, s (log)", "mean score", &points)
}

fn score_dots(title: &str, runs: &[Run], lines: &[&Line]) -> String {
    let rows: Vec<Dot<'_>> = lines
        .iter()
        .filter_map(|line| {
            Some(Dot { label: &line.run, style: style(runs, &line.run), value: line.measured.score? })
        })
        .collect();
    dots(title, "mean score, 0 to 1", &rows)
}

fn curves(runs: &[Run], of: fn(&crate::trace::Row) -> Option<f64>) -> Vec<Curve> {
    runs.iter()
        .zip(styles(runs))
        .map(|(run, style)| {
            let scope = Scope { set: None, pass: run.headline_pass() };
            let answered = run.rows.iter().filter(|row| scope.holds(row) && row.error.is_none());
            Curve { style, values: answered.filter_map(of).collect() }
        })
        .collect()
}

fn grid(pictures: &[String]) -> String {
    let figures: String = pictures.iter().map(|svg| format!("<figure>{svg}</figure>")).collect();
    format!("<div class=\"plots\">{figures}</div>")
}
