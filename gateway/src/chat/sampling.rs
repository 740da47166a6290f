//! Fields that say how tokens are drawn, each checked against its range. A tier may rely on the ranges.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use reprise_openai::chat::ChatRequest;
use reprise_tier::Sampling;

use crate::error::ApiError;

const MOST_TOP_LOGPROBS: i64 = 20;
/// OpenAI has no limit of its own; a longer list is a mistake or an attack.
const MOST_BIASES: usize = 1024;

/// # Errors
/// 400 that names the field.
pub fn sampling(request: &ChatRequest) -> Result<Sampling, ApiError> {
    let penalty = |name, value| within(name, value, 0.0, -2.0, 2.0);
    Ok(Sampling {
        temperature: within("temperature", request.temperature, 1.0, 0.0, 2.0)?,
        top_k: top_k(request.top_k)?,
        top_p: positive("top_p", request.top_p, 1.0)?,
        min_p: within("min_p", request.min_p, 0.0, 0.0, 1.0)?,
        frequency_penalty: penalty("frequency_penalty", request.frequency_penalty)?,
        presence_penalty: penalty("presence_penalty", request.presence_penalty)?,
        repetition_penalty: positive("repetition_penalty", request.repetition_penalty, 2.0)?,
        logit_bias: request.logit_bias.as_ref().map(logit_bias).transpose()?.unwrap_or_default(),
        // A negative seed is a seed like any other.
        seed: request.seed.map(i64::cast_unsigned),
        logprobs: logprobs(request)?,
    })
}

fn within(name: &str, value: Option<f64>, absent: f32, least: f64, most: f64) -> Result<f32, ApiError> {
    match value {
        None => Ok(absent),
        Some(value) if (least..=most).contains(&value) => Ok(value as f32),
        Some(value) => Err(ApiError::invalid(
            name,
            format!("Invalid '{name}': {value} is not between {least} and {most}."),
        )),
    }
}

/// Above 0; absent it is 1.
fn positive(name: &str, value: Option<f64>, most: f64) -> Result<f32, ApiError> {
    // What f32 holds for 0 is 0.
    match value.unwrap_or(1.0) {
        value if value as f32 > 0.0 && value <= most => Ok(value as f32),
        value => Err(ApiError::invalid(
            name,
            format!("Invalid '{name}': {value} is not above 0 and at most {most}."),
        )),
    }
}

/// 0 and -1 are what other servers take for none.
fn top_k(value: Option<i64>) -> Result<Option<NonZeroU32>, ApiError> {
    match value {
        None | Some(-1 | 0) => Ok(None),
        Some(k) if k > 0 => Ok(NonZeroU32::new(u32::try_from(k).unwrap_or(u32::MAX))),
        Some(k) => Err(ApiError::invalid(
            "top_k",
            format!("Invalid 'top_k': {k} is neither at least 1 nor 0 or -1 for none."),
        )),
    }
}

/// Ascending by id.
fn logit_bias(sent: &BTreeMap<String, f64>) -> Result<Vec<(u32, f32)>, ApiError> {
    let invalid =
        |message: String| ApiError::invalid("logit_bias", format!("Invalid 'logit_bias': {message}"));
    if sent.len() > MOST_BIASES {
        return Err(invalid(format!("{} tokens, but at most {MOST_BIASES} are allowed.", sent.len())));
    }
    let mut biases = Vec::with_capacity(sent.len());
    for (token, bias) in sent {
        let id = token.parse().ok().filter(|_| token.bytes().all(|byte| byte.is_ascii_digit()));
        let id: u32 = id.ok_or_else(|| invalid(format!("'{token}' is not the id of a token.")))?;
        if !(-100.0..=100.0).contains(bias) {
            return Err(invalid(format!("{bias}, for the token {token}, is not between -100 and 100.")));
        }
        biases.push((id, *bias as f32));
    }
    biases.sort_unstable_by_key(|(id, _)| *id);
    if let Some(twice) = biases.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid(format!("the token {} stands in it twice.", twice[0].0)));
    }
    Ok(biases)
}

fn logprobs(request: &ChatRequest) -> Result<Option<u8>, ApiError> {
    let wanted = request.logprobs.unwrap_or(false);
    let top = request.top_logprobs.unwrap_or(0);
    if !(0..=MOST_TOP_LOGPROBS).contains(&top) {
        let message = format!("Invalid 'top_logprobs': {top} is not between 0 and {MOST_TOP_LOGPROBS}.");
        return Err(ApiError::invalid("top_logprobs", message));
    }
    if top > 0 && !wanted {
        return Err(ApiError::invalid(
            "top_logprobs",
            "'top_logprobs' is only allowed when 'logprobs' is true.",
        ));
    }
    Ok(wanted.then_some(u8::try_from(top).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn read(fields: Value) -> Result<Sampling, ApiError> {
        let mut body = json!({"model": "m", "messages": []});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        sampling(&ChatRequest::from_body(body.as_object().unwrap())?)
    }

    #[test]
    fn fields_that_are_left_out_are_neutral() {
        assert_eq!(read(json!({})).unwrap(), Sampling::default());
        let neutral = json!({"top_k": -1, "logit_bias": {}, "logprobs": false, "top_logprobs": 0, "min_p": 0,
                             "presence_penalty": 0.0, "frequency_penalty": null, "repetition_penalty": 1});
        assert_eq!(read(neutral).unwrap(), Sampling::default());
    }

    #[test]
    fn values_are_taken_over() {
        let read = read(json!({
            "temperature": 0, "top_k": 7, "min_p": 0.25, "frequency_penalty": -2, "presence_penalty": 2,
            "repetition_penalty": 1.5, "logit_bias": {"10": -100, "9": 0.5}, "seed": -1, "logprobs": true, "top_logprobs": 20,
        }));
        let expected = Sampling {
            temperature: 0.0,
            top_k: NonZeroU32::new(7),
            top_p: 1.0,
            min_p: 0.25,
            frequency_penalty: -2.0,
            presence_penalty: 2.0,
            repetition_penalty: 1.5,
            logit_bias: vec![(9, 0.5), (10, -100.0)],
            seed: Some(u64::MAX),
            logprobs: Some(20),
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (field, value) in [
            ("temperature", json!(2.1)),
            ("top_p", json!(0)),
            ("top_p", json!(1e-60)),
            ("top_k", json!(-2)),
            ("min_p", json!(1.5)),
            ("min_p", json!(-0.1)),
            ("frequency_penalty", json!(2.5)),
            ("presence_penalty", json!(-2.5)),
            ("repetition_penalty", json!(0)),
            ("repetition_penalty", json!(3)),
            ("top_logprobs", json!(21)),
            ("top_logprobs", json!(-1)),
            ("top_logprobs", json!(3)),
            ("logit_bias", json!({"five": 1})),
            ("logit_bias", json!({"+5": 1})),
            ("logit_bias", json!({"-5": 1})),
            ("logit_bias", json!({"99999999999": 1})),
            ("logit_bias", json!({"5": 100.5})),
            ("logit_bias", json!({"5": 1, "05": 1})),
            ("logit_bias", json!((0..2000).map(|id| (id.to_string(), 1)).collect::<BTreeMap<_, _>>())),
        ] {
            let error = read(json!({ field: value.clone() })).expect_err(field);
            assert_eq!((error.status.as_u16(), error.body.param.as_deref()), (400, Some(field)), "{value}");
        }
        for (field, value) in [
            ("logit_bias", json!([5])),
            ("logprobs", json!(5)),
            ("logprobs", json!("yes")),
            ("top_logprobs", json!(1.5)),
            ("frequency_penalty", json!("high")),
            ("top_k", json!(0.5)),
        ] {
            let error = read(json!({ field: value })).expect_err(field);
            assert_eq!(error.body.param.as_deref(), Some(field));
        }
    }
}
