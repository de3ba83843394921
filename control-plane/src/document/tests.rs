use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::NO_ULIDS;

fn document() -> Value {
    serde_json::to_value(crate::api::document()).unwrap()
}

/// Every operation with its name, such as `get /v1/sessions`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let named = paths.iter().flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    named.collect()
}

fn resolve<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let target = part["$ref"].as_str().map(|place| place.strip_prefix('#').unwrap());
    target.map_or(part, |place| document.pointer(place).unwrap())
}

/// The statuses of an operation, with their answers.
fn answers<'a>(document: &'a Value, operation: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let answers = operation["responses"].as_object().unwrap().iter();
    answers.map(|(status, answer)| (status.as_str(), resolve(document, answer))).collect()
}

#[test]
fn every_operation_is_described_and_says_what_it_needs() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        for text in ["summary", "description"] {
            assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{name} {text}");
        }
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{name}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
        let ways = operation["security"].as_array().unwrap();
        let open = ways == &[json!({})];
        for (way, scopes) in ways.iter().flat_map(|way| way.as_object().unwrap()) {
            let scheme = &document["components"]["securitySchemes"][way];
            assert!(scheme.is_object(), "{name} {way}");
            assert!(!scopes.as_array().unwrap().is_empty() || way != "api_key", "{name}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name} {parameter}");
            let place = parameter["in"].as_str().unwrap();
            let schema = &parameter["schema"];
            let closed = ["pattern", "enum", "format"].iter().any(|word| schema[word].is_string());
            assert!(place != "path" || closed, "{name} {parameter}");
        }
        let statuses: BTreeSet<_> = answers(&document, operation).iter().map(|one| one.0).collect();
        let has = |status: &str| statuses.contains(status);
        // To sign in is open, and yet it takes a token.
        assert!(open || has("401"), "{name}");
        assert!(open || (has("400") && has("500") && has("503")), "{name}: {statuses:?}");
        let keyed = ways.iter().any(|way| way.get("api_key").is_some());
        assert!(!keyed || (has("403") && has("429")), "{name}: {statuses:?}");
        if !open {
            assert_eq!(name.contains('{'), has("404"), "{name}: {statuses:?}");
            let body = operation["requestBody"]["content"]["application/json"].is_object();
            assert_eq!(body, has("413") && has("415") && has("422"), "{name}: {statuses:?}");
        }
    }
}

#[test]
fn every_answer_has_its_headers_and_an_example() {
    let document = document();
    for (name, operation) in operations(&document) {
        // What files hold needs none.
        let json = |kind: &str| kind != "application/octet-stream";
        for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten()
        {
            assert_eq!(content["example"].is_object(), json(kind), "{name} request");
        }
        let keyed = operation["security"][0].get("api_key").is_some();
        for (status, answer) in answers(&document, operation) {
            assert!(answer["description"].is_string(), "{name} {status}");
            let header = |header: &str| answer["headers"].get(header).is_some();
            assert!(header("X-Request-Id"), "{name} {status}");
            assert_eq!(keyed && status != "401", header("X-RateLimit-Limit"), "{name} {status}");
            assert_eq!(matches!(status, "429" | "503"), header("Retry-After"), "{name} {status}");
            if status >= "400" {
                let example = &answer["content"]["application/problem+json"]["example"];
                assert_eq!(example["status"].to_string(), status, "{name}");
            }
            for (kind, content) in answer["content"].as_object().into_iter().flatten() {
                assert_eq!(content["example"].is_object(), json(kind), "{name} {status}");
            }
        }
    }
}

#[test]
fn every_field_has_a_form_and_an_example() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let kind = &property["type"];
            let text = kind == "string";
            let says = |word: &str| property.get(word).is_some();
            assert!(!text || says("example") || says("enum"), "{name}/{field} has no example");
            let id = field == "id" || field.ends_with("_id");
            assert!(
                !text || !id || says("pattern") || NO_ULIDS.contains(&&**field),
                "{name}/{field}"
            );
            assert!(!text || !field.ends_with("_at") || says("format"), "{name}/{field}");
        }
    }
}

#[test]
fn a_new_thing_leads_to_all_that_can_be_done_with_it() {
    let document = document();
    let links = &document["paths"]["/v1/sessions"]["post"]["responses"]["201"]["links"];
    let mut on_sessions = 0;
    for (name, operation) in operations(&document) {
        // Which file, nobody knows yet.
        if name.contains("/v1/sessions/{id}") && !name.ends_with("/{name}") {
            let link = &links[operation["operationId"].as_str().unwrap()];
            assert_eq!(link["parameters"], json!({"id": "$response.body#/id"}), "{name}");
            on_sessions += 1;
        }
    }
    assert!(on_sessions >= 4);
}

#[test]
fn the_reasons_of_an_end_are_all_documented() {
    let document = document();
    let known = proto::session::EndReason::ALL.iter().map(|reason| json!(reason.as_str()));
    let known: Vec<_> = known.collect();
    assert_eq!(document["components"]["schemas"]["ReasonCode"]["enum"], json!(known));
    let known = proto::session::SessionStatus::ALL.iter().map(|status| json!(status.as_str()));
    let known: Vec<_> = known.collect();
    assert_eq!(document["components"]["schemas"]["Status"]["enum"], json!(known));
}
