//! Links from the operation that makes a thing to the operations on it.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::{OpenApi, Ref, RefOr, link::Link};

use super::operations;

/// An operation that a link can lead to.
struct Target {
    path: String,
    operation_id: String,
    summary: String,
}

/// Adds to every 201 the links to what can be done with the new thing.
pub fn add(document: &mut OpenApi) {
    let mut targets = Vec::new();
    // Where a thing of a kind, told by its schema, can be got.
    let mut homes = BTreeMap::new();
    for (path, item) in &mut document.paths.paths {
        if let Some(get) = &item.get
            && let Some(schema) = schema_of(&get.responses.responses, "200")
            && path.ends_with('}')
        {
            homes.insert(schema, path.clone());
        }
    }
    for (path, operation) in operations(&mut document.paths) {
        targets.push(Target {
            path: path.clone(),
            operation_id: operation.operation_id.clone().unwrap_or_default(),
            summary: operation.summary.clone().unwrap_or_default(),
        });
    }
    for (path, operation) in operations(&mut document.paths) {
        let home = schema_of(&operation.responses.responses, "201")
            .and_then(|schema| homes.get(&schema).cloned());
        let Some(RefOr::T(created)) = operation.responses.responses.get_mut("201") else {
            continue;
        };
        for target in &targets {
            if let Some(parameters) = parameters(path, home.as_deref(), &target.path) {
                let link =
                    Link::builder().operation_id(&target.operation_id).description(&target.summary);
                let link = parameters
                    .into_iter()
                    .fold(link, |link, (name, value)| link.parameter(name, value));
                created.links.insert(target.operation_id.clone(), RefOr::T(link.build()));
            }
        }
    }
}

/// The schema of an answer, by its reference.
fn schema_of(
    responses: &BTreeMap<String, RefOr<utoipa::openapi::Response>>,
    status: &str,
) -> Option<String> {
    let Some(RefOr::T(response)) = responses.get(status) else { return None };
    let RefOr::T(content) = response.content.get("application/json")? else { return None };
    match &content.schema {
        Some(RefOr::Ref(Ref { ref_location, .. })) => Some(ref_location.clone()),
        _ => None,
    }
}

/// Where the parameters of the target's path come from; `None` if it is not about the new
/// thing. Things are below the path that makes them, or where their kind can be got.
fn parameters(made_at: &str, home: Option<&str>, target: &str) -> Option<Vec<(String, Value)>> {
    let below = |path: &str| target.strip_prefix(path)?.strip_prefix("/{").map(|_| path.len() + 1);
    let thing = match (below(made_at), home) {
        (Some(at), _) => at,
        (None, Some(home)) if target == home || target.starts_with(&format!("{home}/")) => {
            home.rfind('/')? + 1
        }
        _ => return None,
    };
    let mut found = Vec::new();
    let mut at = 0;
    for segment in target.split('/') {
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let source = match name {
                _ if made_at.contains(&format!("{{{name}}}")) && at < thing => {
                    format!("$request.path.{name}")
                }
                // Workspaces go by their slugs; all else by its id.
                "slug" => "$response.body#/slug".to_owned(),
                _ if at == thing => "$response.body#/id".to_owned(),
                _ => return None,
            };
            found.push((name.to_owned(), source.into()));
        }
        at += segment.len() + 1;
    }
    Some(found)
}
