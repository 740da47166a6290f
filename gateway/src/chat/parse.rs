//! Stage 1: from a body to a request that holds, or a 400 that names the field.

use std::sync::Arc;

use reprise_cache::{Fingerprint, Instructions};
use reprise_openai::chat::ChatRequest;
use reprise_router::Pool;
use reprise_tier::{JsonForm, Message, Role, Sampling, TierInfo, Tools};
use serde_json::{Map, Value};

use super::form::form;
use super::sampling::sampling;
use super::tools::tools;
use super::turns::turns;
use super::{exact, fields};
use crate::error::ApiError;

/// A chat request whose values are all in range.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The tier that the client named; `None` for `auto`.
    pub pinned: Option<usize>,
    pub messages: Vec<Message>,
    /// Texts to go on with, where there are no messages.
    pub texts: Arc<[String]>,
    /// Index of the last user message.
    pub question: Option<usize>,
    pub sampling: Sampling,
    /// How many answers are wanted, of each text if there are several; at least 1.
    pub choices: u32,
    /// Of a request whose repetition gives the same answer, all of which the store holds.
    pub fingerprint: Option<Fingerprint>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// What the answer has to be.
    pub form: Option<JsonForm>,
    /// What the model may call.
    pub tools: Option<Arc<Tools>>,
    pub stream: bool,
    pub include_usage: bool,
    /// The field that no local tier can honour, if there is one.
    pub remote_only: Option<String>,
    /// Names of the only tiers that may answer; `None`: all may.
    pub allowed: Option<Arc<[String]>>,
    /// The body as it was sent.
    pub body: Arc<Map<String, Value>>,
}

const MOST_STOPS: usize = 4;
/// Each is a generation of its own.
const MOST_CHOICES: u32 = 8;

impl Ask {
    /// # Errors
    /// 400 that names the field, or 404 for a model that is not there.
    pub fn read(body: Map<String, Value>, pool: &Pool) -> Result<Self, ApiError> {
        let request = ChatRequest::from_body(&body)?;
        let (messages, rich) = turns(&request.messages)?;
        Self::new(&request, messages, Arc::default(), rich, body, pool)
    }

    /// Texts that are gone on with. `request` has no messages; `body` is what was really sent.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn completion(
        request: &ChatRequest,
        texts: Arc<[String]>,
        body: Map<String, Value>,
        pool: &Pool,
    ) -> Result<Self, ApiError> {
        Self::new(request, Vec::new(), texts, None, body, pool)
    }

    fn new(
        request: &ChatRequest,
        messages: Vec<Message>,
        texts: Arc<[String]>,
        rich: Option<String>,
        body: Map<String, Value>,
        pool: &Pool,
    ) -> Result<Self, ApiError> {
        let pinned = pinned(&request.model, pool)?;
        let (form, form_beyond) = form(request.response_format.as_ref())?;
        let (tools, tools_beyond) = tools(request)?;
        let field_beyond = || fields::beyond_local(&request.extra).map(str::to_owned);
        let remote_only = rich.or(form_beyond).or(tools_beyond).or_else(field_beyond);
        let sampling = sampling(request)?;
        check_bias(&sampling, pinned, pool)?;
        let choices = choices(request.n)?;
        // Only text is stored, and only one.
        let repeats =
            is_deterministic(request) && texts.len() <= 1 && sampling.logprobs.is_none() && choices == 1;
        let ask = Self {
            pinned,
            question: messages.iter().rposition(|message| message.role == Role::User),
            messages,
            texts,
            fingerprint: repeats.then(|| exact::fingerprint(&body)),
            sampling,
            choices,
            form,
            tools,
            max_tokens: max_tokens(request)?,
            stop: stop(request.stop.clone().map(|stop| stop.into_vec()).unwrap_or_default())?,
            stream: request.stream.unwrap_or(false),
            include_usage: include_usage(&request.stream_options, request.stream)?,
            remote_only,
            allowed: None,
            body: Arc::new(body),
        };
        ask.check_tiers(pool)?;
        Ok(ask)
    }

    /// Only these tiers may answer.
    ///
    /// # Errors
    /// The client named another, or none of them can: to it, others are not there.
    pub fn restrict(&mut self, tiers: &[String], pool: &Pool) -> Result<(), ApiError> {
        self.allowed = Some(tiers.into());
        if let Some(tier) =
            self.pinned.and_then(|index| pool.tier(index)).filter(|tier| !self.may(tier.info()))
        {
            let named = self.body.get("model").and_then(Value::as_str);
            return Err(ApiError::model_not_found(named.unwrap_or(&tier.info().name)));
        }
        self.check_tiers(pool)
    }

    fn may(&self, tier: &TierInfo) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(&tier.name))
    }

    /// The most tokens that all answers together can have; `None`: nobody limited them.
    #[must_use]
    pub fn most_tokens(&self) -> Option<u64> {
        Some(u64::from(self.max_tokens?) * u64::from(self.generations()))
    }

    /// Some tier that may answer can.
    fn check_tiers(&self, pool: &Pool) -> Result<(), ApiError> {
        let possible = match self.pinned {
            Some(tier) => pool.tier(tier).is_some_and(|tier| self.suits(tier.info())),
            None => pool.iter().any(|tier| self.suits(tier.info())),
        };
        let none_allowed = || pool.iter().all(|tier| !self.may(tier.info()));
        match &self.remote_only {
            _ if possible => Ok(()),
            None if none_allowed() => Err(ApiError::model_not_found("auto")),
            Some(field) => Err(ApiError::unsupported(
                field,
                format!("Unsupported parameter: '{field}' is not supported with this model."),
            )),
            None => {
                let message = "This model only chats: text is completed by models that run in this server.";
                Err(ApiError::unsupported("model", message))
            }
        }
    }

    /// True if a tier may answer and can do all that is asked: fields that only a remote one may know, and texts, which are gone on with
    /// only here, where no server stands between the text and the model.
    #[must_use]
    pub fn suits(&self, tier: &TierInfo) -> bool {
        self.may(tier) && if tier.remote { self.texts.is_empty() } else { self.remote_only.is_none() }
    }

    /// Answers in all.
    #[must_use]
    pub fn generations(&self) -> u32 {
        let texts = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.choices.saturating_mul(texts.max(1))
    }

    /// The last user message.
    #[must_use]
    pub fn question(&self) -> Option<&str> {
        self.question.and_then(|index| self.messages.get(index)).map(|message| message.content.as_str())
    }

    /// The question stands alone: nothing was said before it but instructions, and nothing after.
    #[must_use]
    pub fn is_context_free(&self) -> bool {
        self.question.is_some_and(|question| {
            question + 1 == self.messages.len()
                && self.messages[..question].iter().all(|message| message.role == Role::System)
        })
    }

    /// Text alone answers it: a remembered answer could.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let free = self.form.is_none() && self.tools.is_none();
        free && self.choices == 1 && self.sampling.logprobs.is_none()
    }

    /// All system messages, and the form of the answer: what a question means depends on them.
    #[must_use]
    pub fn instructions(&self) -> Instructions {
        let system = |message: &&Message| message.role == Role::System;
        let form = self.form.as_ref().map(|form| match form {
            JsonForm::Object => "json_object".to_owned(),
            JsonForm::Schema(schema) => format!("json_schema {schema}"),
        });
        let told = self.messages.iter().filter(system).map(|message| message.content.as_str());
        Instructions::of(told.chain(form.as_deref()))
    }

    /// A guess from the length of the text, for the router; only a tier's tokenizer knows.
    #[must_use]
    pub fn estimated_tokens(&self) -> u32 {
        let told = |function: &reprise_tier::Function| function.parameters.to_string().len() / 4 + 16;
        let tools: usize = self.tools.iter().flat_map(|tools| &tools.functions).map(told).sum();
        let turns: usize = self.messages.iter().map(|message| 4 + message.content.len() / 4).sum();
        let texts: usize = self.texts.iter().map(|text| text.len() / 4).sum();
        let tokens = tools + turns + texts;
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }
}

/// Temperature 0 must be said: left out it is 1.
fn is_deterministic(request: &ChatRequest) -> bool {
    request.temperature == Some(0.0) || request.seed.is_some()
}

fn pinned(model: &str, pool: &Pool) -> Result<Option<usize>, ApiError> {
    if model == "auto" {
        return Ok(None);
    }
    match pool.get(model) {
        Some((index, _)) => Ok(Some(index)),
        None => Err(ApiError::model_not_found(model)),
    }
}

fn choices(n: Option<i64>) -> Result<u32, ApiError> {
    match n.unwrap_or(1) {
        n if n < 1 => Err(ApiError::invalid("n", format!("Invalid 'n': {n} is less than the minimum of 1."))),
        n => u32::try_from(n).ok().filter(|n| *n <= MOST_CHOICES).ok_or_else(|| {
            ApiError::invalid("n", format!("Invalid 'n': {n} is more than the maximum of {MOST_CHOICES}."))
        }),
    }
}

/// Ids of tokens belong to one model: where another could answer they would mean other tokens.
fn check_bias(sampling: &Sampling, pinned: Option<usize>, pool: &Pool) -> Result<(), ApiError> {
    if sampling.logit_bias.is_empty() || pinned.is_some() || pool.iter().len() == 1 {
        return Ok(());
    }
    let message = "'logit_bias' holds ids of one model's tokens: name that model instead of 'auto'.";
    Err(ApiError::unsupported("logit_bias", message))
}

fn max_tokens(request: &ChatRequest) -> Result<Option<u32>, ApiError> {
    let mut limit = None;
    for (name, value) in
        [("max_tokens", request.max_tokens), ("max_completion_tokens", request.max_completion_tokens)]
    {
        let Some(value) = value else { continue };
        if value < 1 {
            let message = format!("Invalid '{name}': {value} is less than the minimum of 1.");
            return Err(ApiError::invalid(name, message));
        }
        limit = Some(u32::try_from(value).unwrap_or(u32::MAX));
    }
    Ok(limit)
}

fn stop(stop: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stop.len() > MOST_STOPS {
        let message =
            format!("Invalid 'stop': {} strings, but at most {MOST_STOPS} are allowed.", stop.len());
        return Err(ApiError::invalid("stop", message));
    }
    if stop.iter().any(String::is_empty) {
        return Err(ApiError::invalid("stop", "Invalid 'stop': a stop string must not be empty."));
    }
    Ok(stop)
}

fn include_usage(
    options: &Option<reprise_openai::chat::StreamOptions>,
    stream: Option<bool>,
) -> Result<bool, ApiError> {
    match options {
        Some(_) if stream != Some(true) => Err(ApiError::invalid(
            "stream_options",
            "'stream_options' is only allowed when 'stream' is true.",
        )),
        options => Ok(options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)),
    }
}
