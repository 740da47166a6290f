use std::collections::HashSet;

use reprise_router::PolicyKind;
use serde_json::Value;

use super::text;
use crate::chat::scripted::{Play, Scripted, Stage, json};

fn document() -> Value {
    serde_json::from_str(text()).unwrap()
}

#[test]
fn the_committed_copy_is_this_one() {
    let committed = include_str!("../../openapi.json");
    assert!(committed == text(), "gateway/openapi.json is not what `reprise openapi` prints");
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name() {
    fn walk(value: &Value, each: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| {
                each(name, value);
                walk(value, each);
            }),
            Value::Array(values) => values.iter().for_each(|value| walk(value, each)),
            _ => {}
        }
    }
    let document = document();
    let (mut references, mut linked) = (0, HashSet::new());
    walk(&document, &mut |name, value| match (name, value) {
        ("$ref", Value::String(reference)) => {
            references += 1;
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        ("links", Value::Object(links)) => linked.extend(links.keys().cloned()),
        _ => {}
    });
    let mut names = HashSet::new();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation} twice");
    }
    assert!(references > 100 && names.len() > 30, "{references} {}", names.len());
    assert!(linked.len() > 5 && linked.is_subset(&names), "{linked:?}");
}

/// The router and the document come out of one table; nests, fallbacks and layers could still come between.
#[tokio::test]
async fn what_is_documented_is_served_and_nothing_else_of_its_path() {
    let small = Scripted::new("small", 0.1, &[Play::Say("blue")]);
    let stage = Stage::new(PolicyKind::SmallPlain, &[&small]);
    let document = document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "x").replace("{request_id}", "x");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let documented = operations.get(method.to_lowercase()).is_some();
            let response = stage.send_to(method, &path, &Value::Null, &[]).await;
            let status = response.status().as_u16();
            assert_eq!(documented, status != 405, "{method} {path}: {status}");
            if status == 404 {
                let error = json(response).await;
                assert_ne!(error["error"]["code"], "unknown_url", "{method} {path}");
            }
        }
    }
}
