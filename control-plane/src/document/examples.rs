//! An example of every body, put together of the examples of its fields, so that none is
//! forgotten when a field comes. An operation may bring its own instead.

use serde_json::{Map, Value};
use utoipa::openapi::{Content, OpenApi, RefOr};

use super::operations;

const JSON: &str = "application/json";

/// Adds an example to each body of JSON that has none.
pub fn add(document: &mut OpenApi) {
    let schemas = document.components.as_ref().map(|components| &components.schemas);
    let schemas = serde_json::to_value(schemas).unwrap_or_default();
    for (_, operation) in operations(&mut document.paths) {
        if let Some(RefOr::T(body)) = &mut operation.request_body
            && let Some(RefOr::T(content)) = body.content.get_mut(JSON)
        {
            add_to(content, &schemas);
        }
        for answer in operation.responses.responses.values_mut() {
            if let RefOr::T(answer) = answer
                && let Some(RefOr::T(content)) = answer.content.get_mut(JSON)
            {
                add_to(content, &schemas);
            }
        }
    }
}

fn add_to(content: &mut Content, schemas: &Value) {
    if content.example.is_none()
        && content.examples.is_empty()
        && let Some(schema) = &content.schema
    {
        let schema = serde_json::to_value(schema).unwrap_or_default();
        content.example = Some(of(&schema, schemas));
    }
}

/// What a schema gives as its example. Null where it allows null and says no more.
pub fn of(schema: &Value, schemas: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return of(&schemas[name], schemas);
    }
    let kinds = ["oneOf", "anyOf"].iter().find_map(|kind| schema[kind].as_array());
    if let Some(kinds) = kinds {
        let nullable = kinds.iter().any(|kind| kind["type"] == "null");
        return match kinds.first() {
            Some(kind) if !nullable => of(kind, schemas),
            _ => Value::Null,
        };
    }
    if let Some(first) = schema["enum"].as_array().and_then(|members| members.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, field)| (name.clone(), of(field, schemas)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Some("array") => Value::Array(vec![of(&schema["items"], schemas)]),
        Some("boolean") => Value::Bool(false),
        _ => schema.get("default").cloned().unwrap_or_default(),
    }
}
