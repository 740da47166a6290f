//! What of a conversation examples are looked for by, and of which conversations they are not.
//!
//! The last message alone, where it is the only question. Else what is asked may stand in it ("Classify: ..."), or in the first one ("and
//! this one: ...", "just answer it"), and words do not tell which: so both are looked for, the last message and the mean of its vector and
//! the first question's, which is taken where it finds something clearly nearer. Measured beside the last turn alone, the last few joined
//! and others: `gateway/bench/runs/2026-11-26-2core/conversations/`.

use futures::future::try_join;
use reprise_cache::{EmbedError, Embedder, UnitVector, VectorError};
use reprise_tier::Role;

use super::parse::Ask;
use super::recall::embedded_text;

/// Answers in a conversation up to which its questions are looked for. An assumption: no data of long conversations was
/// at hand to measure it on.
const MOST_TURNS: usize = 8;

impl Ask {
    /// The first question of the conversation, where it is not the one to be answered.
    #[must_use]
    pub fn first_question(&self) -> Option<&str> {
        let first = self.messages.iter().position(|message| message.role == Role::User)?;
        self.question.filter(|last| *last != first).map(|_| self.messages[first].content.as_str())
    }

    /// Examples can help: the question is what is to be answered now, no tool has or had its say, and the conversation is no
    /// long loop. Where tools are at hand, examples answered without them would teach not to call any. Behind a tool's
    /// result, or far into a loop, the last user message is not what the answer depends on, so that what is near to it is
    /// near to the wrong thing.
    #[must_use]
    pub fn takes_examples(&self) -> bool {
        let told = |role| self.messages.iter().filter(|message| message.role == role).count();
        let is_last = self.question.is_some_and(|question| question + 1 == self.messages.len());
        is_last && self.tools.is_none() && told(Role::Tool) == 0 && told(Role::Assistant) <= MOST_TURNS
    }
}

/// What is looked for, the question itself first.
///
/// # Errors
/// The embedder's.
pub async fn queries(
    embedder: &dyn Embedder,
    question: &str,
    first: Option<&str>,
) -> Result<Vec<UnitVector>, EmbedError> {
    let Some(first) = first else { return Ok(vec![embedder.embed(&embedded_text(question)).await?]) };
    let (question, first) = (embedded_text(question), embedded_text(first));
    let (last, first) = try_join(embedder.embed(&question), embedder.embed(&first)).await?;
    let mut queries = vec![last];
    // Opposite vectors have no mean.
    queries.extend(mean(&queries[0], &first).ok());
    Ok(queries)
}

fn mean(a: &UnitVector, b: &UnitVector) -> Result<UnitVector, VectorError> {
    UnitVector::try_new(a.as_slice().iter().zip(b.as_slice()).map(|(a, b)| a + b).collect())
}
