use serde_json::{Value, json};

use super::*;
use crate::sessions::validate::Faults;

fn read(state: &Value) -> Result<StorageState, Vec<String>> {
    let body = json!({ MEMBER: state });
    let mut faults = Faults::default();
    let mut object = Object::read(&body, "", &mut faults);
    let taken = take(&mut object, body.to_string().as_bytes());
    object.close();
    faults.settle(()).map_err(|problem| {
        problem.errors().iter().map(|fault| fault.pointer.clone()).collect::<Vec<_>>()
    })?;
    Ok(taken.unwrap())
}

fn as_json(state: &StorageState) -> Value {
    serde_json::from_slice(&state.to_json()).unwrap()
}

/// As Playwright 1.65 writes it.
fn playwrights() -> Value {
    json!({
        "cookies": [{
            "name": "sid", "value": "s3cret", "domain": ".example.com", "path": "/",
            "expires": 1_900_000_000.5, "httpOnly": true, "secure": true, "sameSite": "None",
            "partitionKey": "https://top.example", "_crHasCrossSiteAncestor": true,
        }],
        "origins": [{
            "origin": "http://localhost:3000",
            "localStorage": [{"name": "token", "value": "t"}],
            "indexedDB": [{
                "name": "app", "version": 3, "stores": [{
                    "name": "notes", "autoIncrement": true, "keyPathArray": ["a", "b"],
                    "records": [
                        {"value": {"z": 1, "a": null}},
                        {"key": 1, "valueEncoded": {"d": "2026-01-01T00:00:00.000Z"}},
                        {"keyEncoded": {"d": "x"}, "value": null},
                    ],
                    "indexes": [{"name": "by", "keyPath": "x", "multiEntry": false, "unique": true}],
                }],
            }],
        }],
    })
}

#[test]
fn what_playwright_writes_is_taken_as_it_is() {
    assert_eq!(as_json(&read(&playwrights()).unwrap()), playwrights());
    let sparse = json!({"cookies": [{"name": "a", "value": "", "domain": "x", "path": "/", "expires": null}]});
    assert_eq!(
        as_json(&read(&sparse).unwrap()),
        json!({"cookies": [{
            "name": "a", "value": "", "domain": "x", "path": "/", "expires": -1,
            "httpOnly": false, "secure": false, "sameSite": "Lax",
        }], "origins": []})
    );
    let empty = json!({"cookies": null, "origins": [{"origin": "https://a.example", "opfs": []}], "credentials": []});
    assert_eq!(
        as_json(&read(&empty).unwrap())["origins"],
        json!([{"origin": "https://a.example", "localStorage": []}])
    );
}

#[test]
fn the_order_of_a_records_members_is_kept() {
    let text = r#"{"storage_state":{"origins":[{"origin":"http://a.example","indexedDB":
        [{"name":"d","version":1,"stores":[{"name":"s","autoIncrement":true,"indexes":[],"records":[{"value":{"z":1,"a":1e2}}]}]}]}]}}"#;
    let body = serde_json::from_str(text).unwrap();
    let mut faults = Faults::default();
    let state = take(&mut Object::read(&body, "", &mut faults), text.as_bytes()).unwrap();
    assert!(String::from_utf8(state.to_json()).unwrap().contains(r#"{"z":1,"a":1e2}"#));
}

#[test]
fn every_fault_of_a_state_has_its_place() {
    let cookie = |change: Value| {
        let mut cookie = json!({"name": "a", "value": "b", "domain": "x", "path": "/"});
        cookie.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"cookies": [cookie]})
    };
    let origin = |change: Value| {
        let mut origin = json!({"origin": "http://a.example"});
        origin.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"origins": [origin]})
    };
    let store = |change: Value| {
        let mut store = json!({"name": "s", "autoIncrement": true, "records": [], "indexes": []});
        store.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        origin(json!({"indexedDB": [{"name": "d", "version": 1, "stores": [store]}]}))
    };
    for (state, pointer) in [
        (json!([]), ""),
        (json!({"cookies": {}}), "/cookies"),
        (json!({"cookies": ["a"]}), "/cookies/0"),
        (json!({"nope": 1}), "/nope"),
        (json!({"credentials": [1]}), "/credentials"),
        (cookie(json!({"name": 1})), "/cookies/0/name"),
        (cookie(json!({"domain": "."})), "/cookies/0/domain"),
        (cookie(json!({"path": "x"})), "/cookies/0/path"),
        (cookie(json!({"expires": -2})), "/cookies/0/expires"),
        (cookie(json!({"expires": 1e15})), "/cookies/0/expires"),
        (cookie(json!({"sameSite": "lax"})), "/cookies/0/sameSite"),
        (cookie(json!({"httpOnly": 1})), "/cookies/0/httpOnly"),
        (cookie(json!({"url": "http://x"})), "/cookies/0/url"),
        (origin(json!({"origin": "a.example"})), "/origins/0/origin"),
        (origin(json!({"origin": "https://a.example/"})), "/origins/0/origin"),
        (origin(json!({"origin": "ftp://a.example"})), "/origins/0/origin"),
        (origin(json!({"opfs": [1]})), "/origins/0/opfs"),
        (origin(json!({"localStorage": [{"name": "a"}]})), "/origins/0/localStorage/0/value"),
        (
            origin(json!({"indexedDB": [{"name": "d", "version": 0, "stores": []}]})),
            "/origins/0/indexedDB/0/version",
        ),
        (
            store(json!({"keyPath": "a", "keyPathArray": []})),
            "/origins/0/indexedDB/0/stores/0/keyPathArray",
        ),
        (
            store(json!({"records": [{"key": 1}]})),
            "/origins/0/indexedDB/0/stores/0/records/0/value",
        ),
        (
            store(json!({"records": [{"key": 1, "keyEncoded": 1, "value": 1}]})),
            "/origins/0/indexedDB/0/stores/0/records/0/keyEncoded",
        ),
        (
            store(json!({"indexes": [{"name": 7, "multiEntry": true, "unique": true}]})),
            "/origins/0/indexedDB/0/stores/0/indexes/0/name",
        ),
    ] {
        let pointers = read(&state).unwrap_err();
        assert_eq!(pointers, [format!("/storage_state{pointer}")], "{state}");
    }
}

#[test]
fn only_so_much_is_taken() {
    let of = |length: usize| {
        json!({"origins": [{"origin": "http://a.example", "localStorage": [
            {"name": "a", "value": "x".repeat(length)},
        ]}]})
    };
    let frame = of(0).to_string().len();
    assert!(read(&of(GIVEN_MAX - frame)).is_ok());
    assert_eq!(read(&of(GIVEN_MAX - frame + 1)).unwrap_err(), ["/storage_state"]);
}

#[test]
fn one_state_is_laid_over_another() {
    let state = |cookies: Value, origins: Value| {
        StorageState::parse(json!({"cookies": cookies, "origins": origins}).to_string().as_bytes())
            .unwrap()
    };
    let cookie = |name: &str, value: &str, path: &str, partition: Option<&str>| json!({"name": name, "value": value, "domain": "x", "path": path, "partitionKey": partition});
    let database =
        |name: &str, version: u32| json!({"name": name, "version": version, "stores": []});
    let below = state(
        json!([cookie("a", "below", "/", None), cookie("b", "below", "/", None)]),
        json!([
            {"origin": "http://one", "localStorage": [
                {"name": "k", "value": "below"}, {"name": "l", "value": "below"},
            ], "indexedDB": [database("d", 1), database("e", 1)]},
            {"origin": "http://two"},
        ]),
    );
    let above = state(
        json!([
            cookie("a", "above", "/", None),
            cookie("a", "above", "/x", None),
            cookie("b", "above", "/", Some("https://top")),
        ]),
        json!([
            {"origin": "http://one", "localStorage": [{"name": "k", "value": "above"}],
                "indexedDB": [database("e", 2), database("f", 2)]},
            {"origin": "http://three"},
        ]),
    );
    let both = as_json(&above.over(below));
    let values: Vec<_> = both["cookies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cookie| format!("{} {} {}", cookie["name"], cookie["path"], cookie["value"]))
        .collect();
    assert_eq!(
        values,
        [r#""a" "/" "above""#, r#""b" "/" "below""#, r#""a" "/x" "above""#, r#""b" "/" "above""#,]
    );
    assert_eq!(
        both["origins"][0]["localStorage"],
        json!([
            {"name": "k", "value": "above"}, {"name": "l", "value": "below"},
        ])
    );
    let databases = &both["origins"][0]["indexedDB"];
    assert_eq!(*databases, json!([database("d", 1), database("e", 2), database("f", 2)]));
    assert_eq!(both["origins"][2]["origin"], "http://three");
}

#[test]
fn it_is_never_shown() {
    let unreadable = StorageState::parse(br#"{"cookies": "s3cret"}"#).unwrap_err();
    assert!(!format!("{unreadable} {unreadable:?}").contains("s3cret"));
    assert!(!format!("{:?}", read(&playwrights()).unwrap()).contains("s3cret"));
}
