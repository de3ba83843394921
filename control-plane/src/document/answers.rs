//! Headers of answers, and refusals: each kind is written once, with an example.

use std::{cmp::Reverse, collections::BTreeMap};

use http::StatusCode;
use proto::problem::Slug;
use serde_json::{Value, json};
use utoipa::openapi::{Header, Object, OpenApi, Ref, RefOr, Response, Type, path::Operation};

use super::operations;

/// Name, type, meaning, example.
type HeaderText = (&'static str, Type, &'static str, Value);

fn headers() -> [HeaderText; 7] {
    use Type::{Integer, String};
    [
        (
            "X-Request-Id",
            String,
            "The request's own, or a new one",
            json!("01KAW3Y4E0S7V2G9J5H8K3M6PQ"),
        ),
        (
            "X-RateLimit-Limit",
            Integer,
            "Requests that the API key may make in the window that has the least room left: a minute or a day",
            json!(6000),
        ),
        ("X-RateLimit-Remaining", Integer, "How many of them are left", json!(5999)),
        (
            "X-RateLimit-Reset",
            Integer,
            "When that window ends, in Unix seconds",
            json!(1_795_348_860),
        ),
        ("Retry-After", Integer, "Seconds until it makes sense to try again", json!(2)),
        ("WWW-Authenticate", String, "How to authenticate", json!("Bearer")),
        ("Allow", String, "The methods that the path takes", json!("GET, POST")),
    ]
}

/// Adds headers to all answers, and puts each refusal where all operations can refer to it.
pub fn complete(document: &mut OpenApi) {
    for (_, operation) in operations(&mut document.paths) {
        let with_key = has_key(operation);
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            for name in headers_of(status, with_key) {
                let header = Ref::new(format!("#/components/headers/{name}"));
                response.headers.insert(name.to_owned(), RefOr::Ref(header));
            }
            if status.as_str() >= "400" {
                add_example(status, response);
            }
        }
    }
    share(document);
    let components = document.components.get_or_insert_default();
    for (name, kind, meaning, example) in headers() {
        let mut header = Header::new(Object::with_type(kind));
        header.description = Some(meaning.to_owned());
        header.example = Some(example);
        components.headers.insert(name.to_owned(), RefOr::T(header));
    }
}

fn has_key(operation: &Operation) -> bool {
    let security = serde_json::to_value(&operation.security).unwrap_or_default();
    let ways = security.as_array().into_iter().flatten();
    ways.filter_map(Value::as_object).any(|way| way.contains_key("api_key"))
}

fn headers_of(status: &str, with_key: bool) -> Vec<&'static str> {
    let mut names = vec!["X-Request-Id"];
    if with_key && status != "401" {
        names.extend(["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]);
    }
    match status {
        "401" => names.push("WWW-Authenticate"),
        "405" => names.push("Allow"),
        "429" | "503" => names.push("Retry-After"),
        _ => (),
    }
    names
}

/// The problem that a refusal usually is.
fn usual(status: &str) -> Option<Slug> {
    match status {
        "400" => Some(Slug::ValidationError),
        "409" => Some(Slug::Conflict),
        "503" => Some(Slug::InsufficientCapacity),
        _ => Slug::ALL.iter().find(|slug| slug.status().as_str() == status).copied(),
    }
}

fn add_example(status: &str, response: &mut Response) {
    let Some(slug) = usual(status) else { return };
    let mut problem = json!({
        "type": format!("http://127.0.0.1:8080/errors/{}", slug.as_str()),
        "title": slug.title(),
        "status": status.parse::<u16>().unwrap_or_default(),
        "detail": response.description,
        "instance": "/v1/sessions",
        "request_id": "01KAW3Y4E0S7V2G9J5H8K3M6PQ",
    });
    if slug == Slug::ValidationError {
        let fault = match status {
            "400" => json!({"pointer": "/viewport/depth", "detail": "unknown field \"depth\""}),
            _ => {
                json!({"pointer": "/viewport/width", "detail": "must be an integer from 100 to 7680"})
            }
        };
        problem["detail"] = format!(
            "{}: {}",
            fault["pointer"].as_str().unwrap_or_default(),
            fault["detail"].as_str().unwrap_or_default(),
        )
        .into();
        problem["errors"] = json!([fault]);
    }
    for content in response.content.values_mut() {
        if let RefOr::T(content) = content {
            content.example.get_or_insert_with(|| problem.clone());
        }
    }
}

/// Moves refusals to the components: one entry for those that are the same. The one with
/// most users goes by its status, another by the first operation that has it as well.
fn share(document: &mut OpenApi) {
    let mut kinds = BTreeMap::<String, Vec<(Response, Vec<String>)>>::new();
    for (_, operation) in operations(&mut document.paths) {
        let user = operation.operation_id.clone().unwrap_or_default();
        for (status, response) in &operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            if status.as_str() < "400" {
                continue;
            }
            let kinds = kinds.entry(status.clone()).or_default();
            match kinds.iter_mut().find(|(kind, _)| kind == response) {
                Some((_, users)) => users.push(user.clone()),
                None => kinds.push((response.clone(), vec![user.clone()])),
            }
        }
    }
    let components = document.components.get_or_insert_default();
    for (status, mut kinds) in kinds {
        kinds.sort_by_key(|(_, users)| Reverse(users.len()));
        for (n, (kind, users)) in kinds.into_iter().enumerate() {
            let name = name(&status, if n == 0 { "" } else { &users[0] });
            let shared = RefOr::Ref(Ref::new(format!("#/components/responses/{name}")));
            for (_, operation) in operations(&mut document.paths) {
                let user = operation.operation_id.as_deref().unwrap_or_default();
                if users.iter().any(|one| one == user) {
                    operation.responses.responses.insert(status.clone(), shared.clone());
                }
            }
            components.responses.insert(name, RefOr::T(kind));
        }
    }
}

/// `NotFound`, or `NotFoundOfGetSession`.
fn name(status: &str, user: &str) -> String {
    let code = StatusCode::from_bytes(status.as_bytes()).ok();
    let reason = code.and_then(|code| code.canonical_reason()).unwrap_or(status);
    let mut name: String = reason.split_whitespace().collect();
    if let Some(first) = user.chars().next() {
        name.extend(["Of", &first.to_ascii_uppercase().to_string(), &user[first.len_utf8()..]]);
    }
    name
}
