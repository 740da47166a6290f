//! How well personal data and secrets are found: precision and recall for each kind, on a labelled set that is made here from a seed.
//!
//! `cargo run --release -p reprise-cache --example scrub -- [--seed 1] [--each 400] [--texts FILE]`
//!
//! Each text is a sentence with one thing in it: one of the kinds in the forms that people write it, or a decoy, something that only
//! looks like one. A thing is found if nothing of it is left and the mark in its place is of its kind. Precision is by mark: how many
//! of the marks of a kind stand where such a thing stood; it is of this mix of things and decoys and of no other.

mod things;

use std::{collections::BTreeMap, env, error::Error, fs};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reprise_cache::scrub;
use serde_json::json;

use things::{KINDS, Text};

#[derive(Debug, Default)]
struct Counts {
    texts: u64,
    /// Nothing of it left, and the right mark.
    found: u64,
    /// Nothing of it left, whatever the mark.
    gone: u64,
    /// A part of it left.
    partly: u64,
    /// Marks of this kind where none of this kind was.
    wrong: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut seed, mut each, mut texts) = (1_u64, 400_usize, None);
    let mut args = env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or("an option has no value")?;
        match name.as_str() {
            "--seed" => seed = value.parse()?,
            "--each" => each = value.parse()?,
            "--texts" => texts = Some(value),
            _ => return Err(format!("no such option: {name}").into()),
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut lines = String::new();
    for kind in KINDS {
        for _ in 0..each {
            let text = things::text(kind, &mut rng);
            let whole = text.whole();
            let scrubbed = scrub(&whole);
            judge(&text, &scrubbed, &mut counts);
            let line = json!({"kind": text.kind, "form": text.form, "thing": text.thing, "text": whole, "scrubbed": scrubbed});
            lines.push_str(&format!("{line}\n"));
        }
    }
    println!("kind,texts,recall,gone,partly_left,precision");
    for (kind, c) in &counts {
        let share =
            |n: u64, of: u64| if of == 0 { String::new() } else { format!("{:.4}", n as f64 / of as f64) };
        let marks = c.found + c.wrong;
        println!(
            "{kind},{},{},{},{},{}",
            c.texts,
            share(c.found, c.texts),
            share(c.gone, c.texts),
            share(c.partly, c.texts),
            share(c.found, marks)
        );
    }
    if let Some(path) = texts {
        fs::write(path, lines)?;
    }
    Ok(())
}

fn judge(text: &Text, scrubbed: &str, counts: &mut BTreeMap<&'static str, Counts>) {
    let mark = format!("[{}]", text.kind.to_uppercase());
    let whole = scrubbed.len() >= text.before.len() + text.after.len();
    let inside = whole && scrubbed.starts_with(&text.before) && scrubbed.ends_with(&text.after);
    let rest =
        if inside { &scrubbed[text.before.len()..scrubbed.len() - text.after.len()] } else { scrubbed };
    let left = left(text, rest);
    let of = counts.entry(text.kind).or_default();
    of.texts += 1;
    of.found += u64::from(inside && rest == mark);
    of.gone += u64::from(left == 0 && scrubbed != text.whole());
    of.partly += u64::from(left > 0 && left < solid(&text.thing));
    for kind in KINDS.iter().filter(|kind| **kind != text.kind) {
        let wrong = scrubbed.matches(&format!("[{}]", kind.to_uppercase())).count();
        if wrong > 0 {
            counts.entry(kind).or_default().wrong += wrong as u64;
        }
    }
}

fn solid(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}

/// Letters and digits of the thing that are still there, without the marks.
fn left(text: &Text, rest: &str) -> usize {
    if rest.contains(text.thing.as_str()) {
        return solid(&text.thing);
    }
    let mut rest = rest.to_owned();
    for kind in KINDS {
        rest = rest.replace(&format!("[{}]", kind.to_uppercase()), "");
    }
    rest.split(|c: char| !c.is_alphanumeric())
        .filter(|piece| !piece.is_empty() && text.thing.contains(piece))
        .map(solid)
        .sum()
}
