//! Builds the import file of an evaluation: reference answers of the rows that will *not* be asked.
//!
//! A row whose prompt or text equals that of a sampled request is left out too, whatever its id: real data repeats
//! itself, and an answer that stands in the pool word for word would measure copying.

use std::collections::HashSet;

use crate::data::pairs::Pair;
use crate::data::requests::Request;
use crate::data::sample::Sample;

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub sampled: usize,
    pub written: usize,
    /// Equal to a sampled request in prompt or text.
    pub leaked: usize,
    /// Without a reference.
    pub unanswered: usize,
    /// The same request as a row already written.
    pub repeated: usize,
}

/// The pairs to import: at most `per_file` of each file, chosen by hash like the sample.
#[must_use]
pub fn build(
    files: Vec<Vec<Request>>,
    sample: &Sample,
    per_file: Option<usize>,
    quality: f32,
) -> (Vec<Pair>, Counts) {
    let mut counts = Counts::default();
    let mut asked = HashSet::new();
    let mut rest = Vec::new();
    for file in files {
        let (sampled, others) = sample.split(file);
        counts.sampled += sampled.len();
        for request in &sampled {
            asked.extend(faces(request));
        }
        rest.push(others);
    }
    let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
    for others in rest {
        let mut written = 0;
        for request in others {
            if per_file.is_some_and(|limit| written >= limit) {
                break;
            }
            if faces(&request).iter().any(|face| asked.contains(face)) {
                counts.leaked += 1;
            } else if let Some(answer) = answer(&request) {
                if seen.insert(fold(&request.prompt)) {
                    pairs.push(Pair {
                        answer: answer.to_owned(),
                        request: request.prompt,
                        instructions: None,
                        quality: Some(quality),
                        source: Some("reference".into()),
                    });
                    written += 1;
                } else {
                    counts.repeated += 1;
                }
            } else {
                counts.unanswered += 1;
            }
        }
        counts.written += written;
    }
    (pairs, counts)
}

/// A worked answer teaches more than a bare number.
fn answer(request: &Request) -> Option<&str> {
    request.solution.as_deref().or_else(|| request.references.first().map(String::as_str))
}

/// The texts under which a request could be known.
fn faces(request: &Request) -> Vec<String> {
    std::iter::once(&request.prompt).chain(&request.text).map(|text| fold(text)).collect()
}

/// Case and white space do not make another request.
pub(crate) fn fold(text: &str) -> String {
    text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Metric;

    fn row(id: usize, text: &str) -> Request {
        Request {
            id: format!("r{id}"),
            set: "s".into(),
            source: "s".into(),
            task: "t".into(),
            prompt: format!("Name it.\n{text}"),
            text: Some(text.into()),
            references: vec![format!("answer {id}")],
            metric: Metric::ExactMatch,
            solution: None,
        }
    }

    #[test]
    fn sampled_rows_and_their_twins_stay_out() {
        let sample = Sample { seed: 0, offset: 0, limit: Some(5) };
        let rows: Vec<Request> = (0..40).map(|id| row(id, &format!("text {id}"))).collect();
        let (sampled, _) = sample.split(rows.clone());
        // A twin in another file: other instruction, same text in other spelling.
        let mut twin = row(900, &sampled[0].text.clone().unwrap().to_uppercase());
        twin.prompt = "Another instruction".into();
        let other: Vec<Request> = (100..110).map(|id| row(id, &format!("text {id}"))).chain([twin]).collect();
        let (pairs, counts) = build(vec![rows, other], &sample, None, 1.0);
        let known: HashSet<_> = sampled.iter().map(|request| request.prompt.clone()).collect();
        assert!(pairs.iter().all(|pair| !known.contains(&pair.request)));
        assert!(pairs.iter().all(|pair| pair.answer != "answer 900"));
        // The second file is sampled as well; its twin row is either sampled or left out.
        assert_eq!(counts.sampled, 10);
        assert_eq!(counts.written, pairs.len());
        assert_eq!(counts.sampled + counts.written + counts.leaked, 51);
    }

    #[test]
    fn repeats_and_rows_without_answers_are_counted() {
        let sample = Sample { seed: 0, offset: 0, limit: Some(0) };
        let mut bare = row(2, "c");
        bare.references.clear();
        let mut solved = row(3, "d");
        solved.solution = Some("worked".into());
        let (pairs, counts) = build(vec![vec![row(0, "a"), row(1, "A "), bare, solved]], &sample, None, 0.9);
        assert_eq!((counts.written, counts.repeated, counts.unanswered), (2, 1, 1));
        assert!(pairs.iter().any(|pair| pair.answer == "worked" && pair.quality == Some(0.9)));
    }

    #[test]
    fn per_file_limits_each_file() {
        let sample = Sample { seed: 0, offset: 0, limit: Some(2) };
        let rows = |from: usize| (from..from + 20).map(|id| row(id, &format!("t{id}"))).collect::<Vec<_>>();
        let (pairs, _) = build(vec![rows(0), rows(50)], &sample, Some(3), 1.0);
        assert_eq!(pairs.len(), 6);
    }
}
