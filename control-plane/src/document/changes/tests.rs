use serde_json::json;

use super::*;

const RELEASED: &str = include_str!("../../../openapi.released.json");

fn released() -> Value {
    serde_json::from_str(RELEASED).unwrap()
}

/// When this fails, the change named breaks clients: undo it. At a release, and only then,
/// `openapi.json` is copied over `openapi.released.json`.
#[test]
fn nothing_of_the_last_release_was_taken_away() {
    let current = serde_json::to_value(crate::api::document()).unwrap();
    let changes = breaking(&released(), &current);
    assert!(changes.is_empty(), "changes that break clients:\n{}", changes.join("\n"));
}

#[test]
fn every_change_that_breaks_a_client_is_named() {
    const SESSION: &str = "/components/schemas/Session";
    const CREATE: &str = "/components/schemas/CreateSession";
    const POST: &str = "/paths/~1v1~1sessions/post";
    const LIST: &str = "/paths/~1v1~1sessions/get";
    // Where, what is there instead (null: nothing), and what the change is called.
    let cases = [
        ("/paths", "/v1~1regions", json!(null), "GET /v1/regions is gone"),
        (POST, "operationId", json!("makeSession"), "operationId was"),
        (POST, "security", json!([{"api_key": ["admin"]}]), "needs {\"admin\"}"),
        (&format!("{POST}/responses"), "201", json!(null), "POST /v1/sessions 201: is gone"),
        (
            &format!("{POST}/responses/201/headers"),
            "Location",
            json!(null),
            "header Location: is gone",
        ),
        (
            &format!("{POST}/parameters/1"),
            "required",
            json!(true),
            "parameter Prefer: became required",
        ),
        (
            &format!("{LIST}/parameters/0/schema"),
            "maximum",
            json!(50),
            "parameter limit: maximum was 100, is 50",
        ),
        (
            &format!("{LIST}/parameters/0/schema"),
            "minimum",
            json!(2),
            "parameter limit: minimum was 1, is 2",
        ),
        (&format!("{LIST}/parameters/0"), "name", json!("size"), "parameter limit: is gone"),
        (
            &format!("{SESSION}/properties"),
            "region",
            json!(null),
            "GET /v1/sessions/{id} 200/region: is gone",
        ),
        (
            &format!("{SESSION}/properties/timeout_seconds"),
            "type",
            json!("string"),
            "200/timeout_seconds: type was",
        ),
        (
            &format!("{SESSION}/properties/created_at"),
            "format",
            json!("date"),
            "created_at: format was",
        ),
        (
            &format!("{SESSION}/properties/region"),
            "type",
            json!(["string", "null"]),
            "region: may be null now",
        ),
        (SESSION, "required", json!(["id"]), "200/status: may be missing now"),
        (
            &format!("{SESSION}/properties/labels"),
            "additionalProperties",
            json!({"type": "integer"}),
            "labels/*: type was",
        ),
        ("/components/schemas/Status", "enum", json!(["QUEUED"]), "status: \"RUNNING\" is gone"),
        ("/components/schemas/Status", "enum", json!(null), "status: may have any value now"),
        (
            "/components/schemas/Usage/properties",
            "bytes_in",
            json!(null),
            "usage/bytes_in: is gone",
        ),
        (
            "/components/schemas/Page/properties/items",
            "type",
            json!("object"),
            "200/items: type was",
        ),
        (&format!("{CREATE}/properties"), "user_agent", json!(null), "request/user_agent: is gone"),
        (
            &format!("{CREATE}/properties/user_agent"),
            "maxLength",
            json!(9),
            "user_agent: maxLength was 512, is 9",
        ),
        (
            &format!("{CREATE}/properties/user_agent"),
            "type",
            json!("string"),
            "user_agent: may no longer be null",
        ),
        (
            &format!("{CREATE}/properties/timeout_seconds"),
            "default",
            json!(7),
            "timeout_seconds: default was 1800, is 7",
        ),
        (
            &format!("{CREATE}/properties"),
            "user_agent",
            json!({"oneOf": [{"oneOf": [{"type": "array"}, {"type": "integer"}]}, {"type": "null"}]}),
            "user_agent: fits none of the forms",
        ),
        (CREATE, "required", json!(["region"]), "request/region: became required"),
        (
            "/components/schemas/LabelSession/properties/labels",
            "type",
            json!("array"),
            "PATCH /v1/sessions/{id} request: 1 of its variants",
        ),
    ];
    for (at, name, value, expected) in cases {
        let mut changed = released();
        let object = changed.pointer_mut(at).unwrap().as_object_mut().unwrap();
        let name = name.replace("v1~1", "v1/");
        assert!(object.contains_key(&name) || name == "required", "{at}/{name}");
        match value {
            Value::Null => drop(object.remove(&name)),
            value => drop(object.insert(name.clone(), value)),
        }
        let found = breaking(&released(), &changed);
        let named = found.iter().any(|change| change.contains(expected));
        assert!(named, "{at}/{name} should be {expected:?}, is {found:#?}");
    }
}

#[test]
fn what_is_added_breaks_nobody() {
    let mut current = released();
    let paths = current["paths"].as_object_mut().unwrap();
    paths.insert("/v1/new".into(), json!({"get": {"operationId": "new"}}));
    let schemas = &mut current["components"]["schemas"];
    schemas["Session"]["properties"]["new"] = json!({"type": "string"});
    schemas["Session"]["required"].as_array_mut().unwrap().push(json!("new"));
    schemas["CreateSession"]["properties"]["new"] = json!({"type": "string"});
    schemas["CreateSession"]["properties"]["timeout_seconds"]["maximum"] = json!(100_000);
    let mut form = schemas["CreateSession"]["properties"]["user_agent"].take();
    form["type"] = json!("string");
    form.as_object_mut().unwrap().remove("pattern");
    let forms = json!({"oneOf": [{"oneOf": [{"type": "array"}, form]}, {"type": "null"}]});
    schemas["CreateSession"]["properties"]["user_agent"] = forms;
    schemas["Status"]["enum"].as_array_mut().unwrap().push(json!("PAUSED"));
    let list = &mut current["paths"]["/v1/sessions"]["get"];
    list["parameters"].as_array_mut().unwrap().push(json!({"name": "new", "in": "query"}));
    assert_eq!(breaking(&released(), &current), Vec::<String>::new());
    let new = json!({"name": "new", "in": "query", "required": true});
    *current["paths"]["/v1/sessions"]["get"]["parameters"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap() = new;
    assert_eq!(
        breaking(&released(), &current),
        ["GET /v1/sessions parameter new: is new and required"]
    );
}
