//! Whatever stands in the file: it is read or refused, and nothing else.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::raw::RawConfig;
use super::{read, validate};

/// Lines that hold, of every section.
fn lines() -> Vec<String> {
    let default = toml::to_string(&RawConfig::default()).unwrap();
    // Empty lists, which the sections below fill.
    let default = default.lines().filter(|line| !matches!(*line, "keys = []" | "tenants = []"));
    let sha = "ab".repeat(32);
    let more = format!(
        "[[auth.keys]]\nname = \"a\"\ntenant = \"a\"\nkey_sha256 = \"{sha}\"\ntiers = [\"small\"]\n\
         [auth.keys.limits]\nbudget_money = 1.5\n\
         [[auth.tenants]]\ntenant = \"a\"\n[auth.tenants.limits]\nbudget_period = \"day\"\n\
         [[tiers]]\nname = \"far\"\nbase_url = \"http://localhost:1/v1\"\nmodel = \"m\"\ncost = 0.5\ncontext_length = 9\n"
    );
    default.chain(more.lines()).map(str::to_owned).collect()
}

fn value() -> impl Strategy<Value = String> {
    let odd = [
        "0",
        "-1",
        "1e308",
        "nan",
        "inf",
        "-inf",
        "9223372036854775807",
        "99999999999999999999",
        "\"\"",
        "true",
        "[]",
        "{}",
        "[[1]]",
        "1979-05-27",
        "\"\u{0}\"",
        "'''",
        "\"\\u0000\"",
        "0x10",
        "= =",
        "\"127.0.0.1:0\"",
        "[\"\"]",
    ];
    prop_oneof![
        select(odd.to_vec()).prop_map(str::to_owned),
        any::<f64>().prop_map(|n| n.to_string()),
        "\\PC{0,12}"
    ]
}

#[derive(Debug, Clone)]
enum Change {
    Remove(Index),
    Twice(Index),
    Swap(Index, Index),
    Set(Index, String),
    Insert(Index, String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any::<Index>().prop_map(Change::Remove),
        any::<Index>().prop_map(Change::Twice),
        any::<(Index, Index)>().prop_map(|(a, b)| Change::Swap(a, b)),
        (any::<Index>(), value()).prop_map(|(at, value)| Change::Set(at, value)),
        (any::<Index>(), "\\PC{0,30}").prop_map(|(at, line)| Change::Insert(at, line)),
    ]
}

fn apply(lines: &mut Vec<String>, change: Change) {
    let count = lines.len().max(1);
    match change {
        Change::Remove(at) if !lines.is_empty() => drop(lines.remove(at.index(count))),
        Change::Twice(at) if !lines.is_empty() => lines.push(lines[at.index(count)].clone()),
        Change::Swap(a, b) if !lines.is_empty() => lines.swap(a.index(count), b.index(count)),
        Change::Set(at, value) if !lines.is_empty() => {
            let line = &mut lines[at.index(count)];
            let name = line.split('=').next().unwrap_or_default().trim().to_owned();
            *line = format!("{name} = {value}");
        }
        Change::Insert(at, line) => lines.insert(at.index(lines.len() + 1), line),
        _ => {}
    }
}

/// True if it holds. A refusal says something.
fn holds(text: &str) -> bool {
    match read::text_of(text, "r.toml").and_then(validate::config) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text(text in "(?s).{0,200}") {
        holds(&text);
    }

    #[test]
    fn a_file_that_was_changed_a_little(changes in prop::collection::vec(change(), 1..6)) {
        let mut lines = lines();
        changes.into_iter().for_each(|change| apply(&mut lines, change));
        holds(&lines.join("\n"));
    }
}

#[test]
fn what_is_changed_holds_before() {
    assert!(holds(&lines().join("\n")));
}
