//! A tier that answers each request with a word that it never said before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use reprise_tier::{
    Event, Finish, FinishReason, GenerateRequest, Generation, Pressure, Tier, TierError, TierInfo, TierState,
    Timings, Usage, channel,
};

/// Says `secret-0`, `secret-1` ...
#[derive(Debug)]
pub struct Witness {
    info: TierInfo,
    /// The scope that each word was said in.
    pub said: Mutex<Vec<u64>>,
    /// Words that stood in a prompt of their own scope, and of another.
    pub reread: AtomicU64,
    pub leaks: Mutex<Vec<String>>,
}

impl Witness {
    pub fn new() -> Arc<Self> {
        let info = TierInfo {
            name: "small".into(),
            model: "m".into(),
            context_length: 4096,
            cost: 0.1,
            remote: false,
        };
        Arc::new(Self { info, said: Mutex::default(), reread: AtomicU64::new(0), leaks: Mutex::default() })
    }
}

impl Tier for Witness {
    fn info(&self) -> &TierInfo {
        &self.info
    }

    fn state(&self) -> TierState {
        TierState::Ready
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        let mut said = self.said.lock();
        for message in &request.messages {
            for number in words(&message.content) {
                if said[number] == request.scope {
                    self.reread.fetch_add(1, Relaxed);
                } else {
                    self.leaks.lock().push(format!("secret-{number} in a prompt of scope {}", request.scope));
                }
            }
        }
        let text = format!("secret-{} is the answer", said.len());
        said.push(request.scope);
        let (sender, generation) = channel(8);
        let usage = Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 4 };
        sender.send(Ok(Event::Started { prompt_tokens: 3 }));
        sender.send(Ok(Event::Delta { text, logprobs: Vec::new() }));
        sender.send(Ok(Event::Finished(Finish {
            reason: FinishReason::Stop,
            usage,
            timings: Timings::default(),
        })));
        Ok(generation)
    }

    fn pressure(&self) -> Pressure {
        Pressure { queue_capacity: 1 << 20, ..Pressure::default() }
    }

    fn block_tokens(&self, _: &str, _: &str) -> u32 {
        5
    }
}

/// Numbers of the secret words in a text.
pub fn words(text: &str) -> Vec<usize> {
    let after = text.split("secret-").skip(1);
    after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}
