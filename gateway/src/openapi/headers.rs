//! The headers of the contract.

use serde_json::{Value, json};

use super::operation::Contract;

/// Name, what it means, its schema.
type Header = (&'static str, &'static str, fn() -> Value);

const REQUEST_ID: Header = (
    "x-request-id",
    "Names the request in logs, decisions and feedback. Sent by a client, visible ASCII of at most 128 characters, it is kept.",
    text,
);

const DIRECTIVES: [Header; 5] = [
    (
        "cache-control",
        "Exact repeats: `no-cache` does not read, `no-store` does not write, `max-age=N` takes none that is older.",
        text,
    ),
    (
        "x-reprise-cache",
        "`off`: no memory at all; `read-only`: use it but remember nothing.",
        || json!({"type": "string", "enum": ["on", "off", "read-only"]}),
    ),
    (
        "x-reprise-max-examples",
        "At most so many examples are shown.",
        || json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
    ),
    (
        "x-reprise-priority",
        "Who waits first when a tier is busy.",
        || json!({"type": "string", "enum": ["interactive", "batch"]}),
    ),
    REQUEST_ID,
];

const ALWAYS: [Header; 3] = [
    (
        "x-reprise-cache",
        "An exact repeat, examples beside the question, neither, or not asked.",
        || json!({"type": "string", "enum": ["HIT", "EXAMPLES", "MISS", "BYPASS"]}),
    ),
    ("x-reprise-examples", "How many examples were shown.", count),
    (
        "x-reprise-overhead-ms",
        "Time in the gateway up to the headers, less the time waiting for a tier.",
        || json!({"type": "number", "minimum": 0}),
    ),
];

const SOMETIMES: [Header; 8] = [
    ("x-reprise-tier", "Who answered.", text),
    ("x-reprise-similarity", "Likeness of the nearest example, shown or not.", || json!({"type": "number"})),
    ("x-ratelimit-limit-requests", "The tighter of the key's and the tenant's limits, in any 60 s.", count),
    ("x-ratelimit-remaining-requests", "What is left of it.", count),
    ("x-ratelimit-reset-requests", "When all of it is there again, such as `12s`.", text),
    ("x-ratelimit-limit-tokens", "As with requests.", count),
    ("x-ratelimit-remaining-tokens", "As with requests.", count),
    ("x-ratelimit-reset-tokens", "As with requests.", text),
];

const ON_ERRORS: [Header; 3] = [
    ("retry-after", "Seconds until another attempt can help.", || json!({"type": "integer", "minimum": 1})),
    ("x-should-retry", "`false`: asking again cannot help.", || json!({"type": "string", "enum": ["false"]})),
    ("www-authenticate", "With 401.", text),
];

/// Those that a request may have, as parameters.
pub fn parameters(contract: Contract) -> Vec<Value> {
    let headers: &[Header] = match contract {
        Contract::Answer => &DIRECTIVES,
        _ => &[],
    };
    let parameter = |(name, about, schema): &Header| json!({"name": name, "in": "header", "description": about, "schema": schema()});
    headers.iter().map(parameter).collect()
}

/// Those of an answer, by name.
pub fn of_answer(contract: Contract, error: bool) -> Value {
    let contracted = matches!(contract, Contract::Answer | Contract::Api);
    let always = ALWAYS.iter().filter(|_| contracted).map(|header| (header, true));
    let sometimes = SOMETIMES.iter().filter(|_| contracted).map(|header| (header, false));
    let errors = ON_ERRORS.iter().filter(|_| error).map(|header| (header, false));
    let all = [(&REQUEST_ID, true)].into_iter().chain(always).chain(sometimes).chain(errors);
    let header = |((name, about, schema), required): (&Header, bool)| {
        ((*name).to_owned(), json!({"description": about, "required": required, "schema": schema()}))
    };
    Value::Object(all.map(header).collect())
}

fn text() -> Value {
    json!({"type": "string"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}
