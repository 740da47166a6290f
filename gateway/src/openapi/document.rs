//! The operations as one OpenAPI document.

use http::StatusCode;
use reprise_openai::ErrorResponse;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::headers;
use super::operation::{Answer, Contract, EVENTS, JSON, Operation, Shape};
use super::schemas::Schemas;

const ABOUT: &str = "An OpenAI-compatible gateway that shows useful past answers as examples to small models. Request bodies are \
                     tolerant: fields that are not named here are borne, or passed on to a remote tier; null counts as absent. The \
                     tenant is the key's, never a header's.";

pub fn document(operations: &[Operation]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(&operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation, &mut schemas);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Reprise",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {
                "type": "http", "scheme": "bearer",
                "description": "A virtual key, one of the configuration, or the admin key. None is needed on loopback as long as there is none.",
            }},
            "responses": refusals(operations, &mut schemas),
        },
    });
    let named = schemas.finish(&mut document);
    document["components"]["schemas"] = Value::Object(named);
    document
}

fn describe(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [tag(operation)],
        "summary": operation.about,
        "parameters": parameters(operation),
        "responses": responses(operation, schemas),
    });
    if operation.contract == Contract::Open {
        described["security"] = json!([]);
    }
    if let Some(body) = operation.body {
        let schema = schemas.read(body.shape);
        described["requestBody"] = json!({"required": body.required, "content": {JSON: {"schema": schema}}});
    }
    described
}

/// By the first part of the path that tells something.
fn tag(operation: &Operation) -> &str {
    match operation.contract {
        Contract::Open => "operation",
        Contract::Admin => "admin",
        Contract::Answer | Contract::Api => "openai",
    }
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let names = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(|name| {
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
    });
    in_path
        .chain(operation.query.into_iter().flat_map(query))
        .chain(headers::parameters(operation.contract))
        .collect()
}

fn query(shape: Shape) -> Vec<Value> {
    let settings = SchemaSettings::draft2020_12().for_deserialize();
    let mut generator = settings.with(|settings| settings.inline_subschemas = true).into_generator();
    let whole = shape(&mut generator).to_value();
    let required = whole.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let properties = whole.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        not_null(&mut schema);
        let mut parameter = json!({"name": name, "in": "query", "required": required.contains(&json!(name)), "schema": schema});
        if let Some(about) = about {
            parameter["description"] = about;
        }
        parameter
    };
    properties.into_iter().map(parameter).collect()
}

/// A query has no null: what is not given is not there.
fn not_null(schema: &mut Value) {
    if let Some(kinds) = schema.get_mut("type").filter(|kinds| kinds.is_array()) {
        let kind = kinds.as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null").cloned());
        *kinds = kind.unwrap_or_default();
    }
}

fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let status = answer.status.as_str().to_owned();
        let response = responses.entry(status).or_insert_with(|| {
            let headers = headers::of_answer(operation.contract, false);
            json!({"description": reason(answer.status), "headers": headers, "content": {}})
        });
        response["content"][answer.kind] = content(answer, schemas);
        let (field, operations) = operation.links;
        for id in operations {
            let parameters = json!({"id": format!("$response.body#/{field}")});
            response["links"][*id] = json!({"operationId": id, "parameters": parameters});
        }
    }
    for status in operation.refusals {
        let name = refusal(operation.contract, *status);
        responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
    }
    responses.sort_keys();
    Value::Object(responses)
}

/// Of a stream of events the schema is that of one event (OpenAPI 3.2 will call it `itemSchema`).
fn content(answer: &Answer, schemas: &mut Schemas) -> Value {
    match answer.shape {
        None => json!({"schema": {"type": "string"}}),
        Some(shape) if answer.kind == EVENTS => {
            let json =
                json!({"type": "string", "contentMediaType": JSON, "contentSchema": schemas.written(shape)});
            let data = if answer.done { json!({"anyOf": [{"const": "[DONE]"}, json]}) } else { json };
            let properties = json!({"event": {"type": "string"}, "data": data});
            json!({"schema": {"type": "object", "properties": properties, "required": ["data"]}})
        }
        Some(shape) => json!({"schema": schemas.written(shape)}),
    }
}

fn refusals(operations: &[Operation], schemas: &mut Schemas) -> Value {
    let mut refusals = Map::new();
    for operation in operations {
        for status in operation.refusals {
            let name = refusal(operation.contract, *status);
            refusals.entry(name).or_insert_with(|| {
                let reason = StatusCode::from_u16(*status).map(reason).unwrap_or_default();
                let schema = schemas.written(|generator| generator.subschema_for::<ErrorResponse>());
                let headers = headers::of_answer(operation.contract, true);
                json!({"description": reason, "headers": headers, "content": {JSON: {"schema": schema}}})
            });
        }
    }
    refusals.sort_keys();
    Value::Object(refusals)
}

fn refusal(contract: Contract, status: u16) -> String {
    let whose = match contract {
        Contract::Answer | Contract::Api => "Error",
        Contract::Admin => "AdminError",
        Contract::Open => "PlainError",
    };
    format!("{whose}{status}")
}

fn reason(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().to_owned()
}
