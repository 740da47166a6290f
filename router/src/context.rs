use serde::{Deserialize, Serialize};

/// What is known of a request before it is routed.
///
/// Build it with `Context { prompt_tokens, ..Context::default() }`: a field that is not known has a neutral default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Embedding of the last user message, unit length; `None` if the embedder was late.
    pub embedding: Option<&'a [f32]>,
    /// Utility of each selected example, in [0, 1], in any order.
    pub utilities: &'a [f32],
    /// Cosine similarity of each selected example, in the same order. Empty: nothing was selected, and no arm with
    /// examples can be chosen.
    pub similarities: &'a [f32],
    /// Tokens that the selected examples add to the prompt.
    pub example_tokens: u32,
    /// Estimated tokens of the prompt without examples.
    pub prompt_tokens: u32,
    /// Tokens that the answer is expected to have; `None`: the configured typical length.
    pub completion_tokens: Option<u32>,
    pub flags: TaskFlags,
    /// Only this tier (index into the pool) may answer: the client named it.
    pub pinned_tier: Option<usize>,
    /// The most examples that the client allows; 0 excludes every arm with examples.
    pub max_examples: Option<u32>,
}

/// What kind of task a request looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFlags {
    pub code: bool,
    pub maths: bool,
    pub question: bool,
    /// The answer is one of a few labels.
    pub label_like: bool,
    /// The answer is long prose.
    pub long_form: bool,
}

impl TaskFlags {
    /// Guesses the flags from the last user message. A cue for the bandit, not a classification: what a flag is worth
    /// is learned.
    #[must_use]
    pub fn detect(request: &str) -> Self {
        let head: String = request.chars().take(SCANNED_CHARS).collect::<String>().to_lowercase();
        let any = |cues: &[&str]| cues.iter().any(|cue| head.contains(cue));
        let digits = head.chars().filter(char::is_ascii_digit).count();
        let operators = head.chars().filter(|c| matches!(c, '+' | '*' | '=' | '^' | '/')).count();
        Self {
            code: any(CODE),
            maths: any(MATHS) || (digits >= 2 && operators >= 1),
            question: head.trim_end().ends_with('?')
                || QUESTION.iter().any(|cue| head.trim_start().starts_with(cue)),
            label_like: any(LABEL),
            long_form: any(LONG_FORM),
        }
    }
}

/// Cues stand near the start; a pasted document behind them would only add noise and time.
const SCANNED_CHARS: usize = 2000;
const CODE: &[&str] = &[
    "```",
    "function",
    "fn ",
    "def ",
    "class ",
    "#include",
    "import ",
    "select * ",
    "bash",
    "shell command",
    "regex",
    "python",
    "javascript",
    "rust ",
    "sql",
];
const MATHS: &[&str] = &[
    "how many",
    "how much",
    "calculate",
    "compute",
    "solve",
    "equation",
    "percent",
    "sum of",
    "probability",
];
const QUESTION: &[&str] =
    &["what ", "who ", "when ", "where ", "why ", "which ", "how ", "is ", "are ", "does ", "do ", "can "];
const LABEL: &[&str] = &[
    "classify",
    "label",
    "category",
    "categories",
    "intent",
    "sentiment",
    "true or false",
    "yes or no",
    "one of the",
    "options:",
];
const LONG_FORM: &[&str] =
    &["essay", "story", "blog", "write a", "compose", "draft", "article", "explain in detail", "report"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_cues() {
        let code = TaskFlags::detect("Write a bash script that lists files");
        assert!(code.code && code.long_form && !code.question);
        let maths = TaskFlags::detect("What is 12 * 7?");
        assert!(maths.maths && maths.question && !maths.code);
        assert!(TaskFlags::detect("Classify the intent: my card was lost").label_like);
        assert_eq!(TaskFlags::detect(""), TaskFlags::default());
    }
}
