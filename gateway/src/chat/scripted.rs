//! Tiers that do as they are told: for failures that a real model cannot be made to have. What a real model does is tested on
//! the real binary.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use reprise_tier::{
    Event, EventSender, Finish, FinishReason, GenerateRequest, Generation, LikelyToken, Pressure, Tier,
    TierError, TierInfo, TierState, Timings, TokenLogprob, Usage, call_begins, call_goes_on, channel,
};

pub use super::stage::{Stage, json, text};

/// What a tier does with one request.
#[derive(Debug, Clone)]
pub enum Play {
    /// A whole answer.
    Say(&'static str),
    Refuse(TierError),
    /// Fails before the first word.
    Fail(TierError),
    /// These words, and calls of this function with each of these arguments.
    Call(&'static str, &'static str, &'static [&'static str]),
    /// Fails after this word.
    Break(&'static str, TierError),
    /// This word and then nothing, for ever.
    Hang(&'static str),
    Panic,
}

/// Plays its script, then repeats the last play.
#[derive(Debug)]
pub struct Scripted {
    info: TierInfo,
    script: Mutex<VecDeque<Play>>,
    /// What it was asked, oldest first.
    pub asked: Mutex<Vec<GenerateRequest>>,
    /// Of generations that hang.
    pub hanging: Mutex<Vec<EventSender>>,
    /// Predicted wait, in seconds.
    pub queued_seconds: Mutex<f64>,
}

impl Scripted {
    pub fn new(name: &str, cost: f64, script: &[Play]) -> Arc<Self> {
        let info = TierInfo {
            name: name.into(),
            model: format!("model-{name}"),
            context_length: if cost < 1.0 { 1000 } else { 2000 },
            cost,
            remote: false,
        };
        let script = Mutex::new(script.iter().cloned().collect());
        Arc::new(Self {
            info,
            script,
            asked: Mutex::default(),
            hanging: Mutex::default(),
            queued_seconds: Mutex::default(),
        })
    }

    fn next(&self) -> Play {
        let mut script = self.script.lock();
        if script.len() > 1 { script.pop_front().unwrap() } else { script.front().unwrap().clone() }
    }
}

/// Each word is a token.
fn word(sender: &EventSender, text: &str, logprobs: bool) {
    let likely = LikelyToken { text: text.into(), bytes: Some(text.into()), logprob: -0.25 };
    let token = TokenLogprob { chosen: likely.clone(), top: vec![likely] };
    let logprobs = if logprobs { vec![token] } else { Vec::new() };
    assert!(sender.send(Ok(Event::Delta { text: text.into(), logprobs })));
}

impl Tier for Scripted {
    fn info(&self) -> &TierInfo {
        &self.info
    }

    fn state(&self) -> TierState {
        TierState::Ready
    }

    fn submit(&self, request: GenerateRequest) -> Result<Generation, TierError> {
        let logprobs = request.sampling.logprobs.is_some();
        self.asked.lock().push(request);
        let play = self.next();
        let (sender, generation) = channel(64);
        if let Play::Refuse(error) = play {
            return Err(error);
        }
        sender.send(Ok(Event::Started { prompt_tokens: 3 }));
        match play {
            Play::Call(text, name, arguments) => {
                if !text.is_empty() {
                    word(&sender, text, logprobs);
                }
                for (index, arguments) in arguments.iter().enumerate() {
                    let id = format!("call_{index}");
                    for piece in [call_begins(&id, name), call_goes_on(arguments)] {
                        sender.send(Ok(Event::ToolCall { index, piece }));
                    }
                }
                sender.send(Ok(Event::Finished(Finish {
                    reason: FinishReason::ToolCalls,
                    usage: Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 5 },
                    timings: Timings::default(),
                })));
            }
            Play::Say(text) => {
                let words: Vec<&str> = text.split_inclusive(' ').collect();
                words.iter().for_each(|text| word(&sender, text, logprobs));
                sender.send(Ok(Event::Finished(Finish {
                    reason: FinishReason::Stop,
                    usage: Usage {
                        prompt_tokens: 3,
                        cached_tokens: 0,
                        completion_tokens: words.len() as u32,
                    },
                    timings: Timings::default(),
                })));
            }
            Play::Refuse(error) | Play::Fail(error) => {
                sender.send(Err(error));
            }
            Play::Break(text, error) => {
                word(&sender, text, logprobs);
                sender.send(Err(error));
            }
            Play::Hang(text) => {
                word(&sender, text, logprobs);
                self.hanging.lock().push(sender);
            }
            Play::Panic => panic!("as the script says"),
        }
        Ok(generation)
    }

    fn pressure(&self) -> Pressure {
        Pressure { queued_seconds: *self.queued_seconds.lock(), queue_capacity: 64, ..Pressure::default() }
    }

    fn block_tokens(&self, _: &str, _: &str) -> u32 {
        5
    }
}
