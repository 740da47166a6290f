use super::super::Line;
use super::super::format::{HEADINGS, cells, escape};
use super::super::words::Verdict;

/// The lines as a table that scrolls by itself where it is wider than the page.
pub(super) fn lines(lines: &[&Line], with_pass: bool) -> String {
    let mut head = String::new();
    for (index, heading) in HEADINGS.iter().enumerate() {
        head.push_str(&format!("<th scope=\"col\">{}</th>", escape(heading)));
        if index == 0 && with_pass {
            head.push_str("<th scope=\"col\">pass</th>");
        }
    }
    let body: String = lines.iter().map(|line| row(line, with_pass)).collect();
    format!("<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")
}

fn row(line: &Line, with_pass: bool) -> String {
    let mut out = String::from("<tr>");
    for (index, cell) in cells(line).iter().enumerate() {
        let class = match index {
            3 => verdict(line.over_large.as_ref()),
            4 => verdict(line.over_small.as_ref()),
            12 if line.measured.errors > 0 => " class=\"worse\"",
            _ => "",
        };
        let text = stacked(cell);
        out.push_str(&if index == 0 {
            format!("<th scope=\"row\">{text}</th>")
        } else {
            format!("<td{class}>{text}</td>")
        });
        if index == 0 && with_pass {
            out.push_str(&format!("<td>{}</td>", line.pass));
        }
    }
    out.push_str("</tr>");
    out
}

/// The interval goes under its mean: thirteen columns have to fit a page.
fn stacked(cell: &str) -> String {
    match cell.split_once(" [") {
        Some((mean, interval)) => format!("{}<small>[{}</small>", escape(mean), escape(interval)),
        None if cell.is_empty() => "\u{2013}".to_owned(),
        None => escape(cell),
    }
}

fn verdict(paired: Option<&super::super::compare::Paired>) -> &'static str {
    match paired.map(|paired| Verdict::of(paired.difference)) {
        Some(Verdict::Better) => " class=\"better\"",
        Some(Verdict::Worse) => " class=\"worse\"",
        _ => "",
    }
}
