use serde_json::json;

use super::*;

fn create(body: &Value) -> Result<Create, Problem> {
    super::create(body, body.to_string().as_bytes())
}

/// Status, slug and pointers of a refusal.
fn refused(problem: &Problem) -> (u16, &'static str, Vec<String>) {
    let pointers = problem.errors().iter().map(|fault| fault.pointer.clone()).collect();
    (problem.status().as_u16(), problem.slug().as_str(), pointers)
}

#[test]
fn what_is_left_out_has_a_default() {
    let defaults = create(&json!({})).unwrap();
    assert_eq!(defaults.region, Wanted::Default);
    assert_eq!(defaults.session.timeout_seconds, 1_800);
    assert_eq!(defaults.session.keep_alive_seconds, 0);
    assert_eq!(defaults.session.viewport, Viewport { width: 1280, height: 720 });
    let nulls = json!({
        "region": null, "runtime_kind": null, "timeout_seconds": null, "viewport": null,
        "keep_alive_seconds": null, "user_agent": null, "proxy": null, "egress": null, "profile_id": null,
        "storage_state": null, "labels": null, "recording": null,
    });
    assert_eq!(create(&nulls).unwrap(), defaults);
}

#[test]
fn what_is_within_its_limits_is_taken() {
    for body in [
        json!({"region": "any"}),
        json!({"region": ["eu"]}),
        json!({"region": vec!["eu"; 16]}),
        json!({"timeout_seconds": 5}),
        json!({"timeout_seconds": 5.0}),
        json!({"timeout_seconds": 86_400, "keep_alive_seconds": 3_600}),
        json!({"viewport": {"width": 100, "height": 7_680}}),
        json!({"user_agent": "x".repeat(512)}),
        json!({"user_agent": "Mozilla/5.0 (X11; Linux x86_64)"}),
        json!({"runtime_kind": "chromium", "recording": {"enabled": false}}),
        json!({"recording": {}}),
        json!({"proxy": {"url": "socks5://u:p@proxy.example"}}),
        json!({"profile_id": "01KAW4D2T7R9V3X5Z8B6C1F4GH", "storage_state": {}}),
        json!({"labels": {"a": "", "0/b.c_d-e": "ü".repeat(256), "x".repeat(63): "1"}}),
    ] {
        assert!(create(&body).is_ok(), "{body}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let too_many: BTreeMap<_, _> = (0..33).map(|n| (format!("k{n}"), "v")).collect();
    let cases: &[(Value, u16, &str, &[&str])] = &[
        (json!([]), 422, "validation-error", &[""]),
        (json!({"nope": 1}), 400, "validation-error", &["/nope"]),
        (json!({"nope": null}), 400, "validation-error", &["/nope"]),
        (json!({"a/b~c": 1}), 400, "validation-error", &["/a~1b~0c"]),
        (json!({"region": 1}), 422, "validation-error", &["/region"]),
        (json!({"region": []}), 422, "validation-error", &["/region"]),
        (json!({"region": ["eu", null]}), 422, "validation-error", &["/region"]),
        (json!({"region": vec!["eu"; 17]}), 422, "validation-error", &["/region"]),
        (json!({"timeout_seconds": 4}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"timeout_seconds": 86_401}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"timeout_seconds": "60"}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"timeout_seconds": 6.5}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"timeout_seconds": -6}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"timeout_seconds": 1e300}), 422, "validation-error", &["/timeout_seconds"]),
        (json!({"keep_alive_seconds": 3_601}), 422, "validation-error", &["/keep_alive_seconds"]),
        (json!({"viewport": 7}), 422, "validation-error", &["/viewport"]),
        (
            json!({"viewport": {"width": 99}}),
            422,
            "validation-error",
            &["/viewport/width", "/viewport/height"],
        ),
        (
            json!({"viewport": {"width": 100, "height": 100, "depth": 1}}),
            400,
            "validation-error",
            &["/viewport/depth"],
        ),
        (json!({"user_agent": ""}), 422, "validation-error", &["/user_agent"]),
        (json!({"user_agent": "a\nb"}), 422, "validation-error", &["/user_agent"]),
        (json!({"user_agent": "x".repeat(513)}), 422, "validation-error", &["/user_agent"]),
        (json!({"labels": too_many}), 422, "validation-error", &["/labels"]),
        (json!({"labels": {"-a": "b"}}), 422, "validation-error", &["/labels/-a"]),
        (json!({"labels": {"": "b"}}), 422, "validation-error", &["/labels/"]),
        (json!({"labels": {"a/b": 1}}), 422, "validation-error", &["/labels/a~1b"]),
        (json!({"labels": {"a": "x".repeat(257)}}), 422, "validation-error", &["/labels/a"]),
        (json!({"labels": {"a": "\u{0}"}}), 422, "validation-error", &["/labels/a"]),
        (json!({"region": 7}), 422, "validation-error", &["/region"]),
        (json!({"runtime_kind": "rda"}), 422, "unsupported-runtime", &["/runtime_kind"]),
        (json!({"runtime_kind": 7}), 422, "validation-error", &["/runtime_kind"]),
        (json!({"recording": {"enabled": true}}), 422, "validation-error", &["/recording/enabled"]),
        (json!({"recording": {"enabled": 1}}), 422, "validation-error", &["/recording/enabled"]),
        (json!({"profile_id": "01"}), 422, "unknown-profile", &["/profile_id"]),
        (json!({"profile_id": 7}), 422, "validation-error", &["/profile_id"]),
        (json!({"proxy": {"url": "x"}}), 422, "validation-error", &["/proxy/url"]),
        (
            json!({"storage_state": {"cookies": [{}]}}),
            422,
            "validation-error",
            &[
                "/storage_state/cookies/0/name",
                "/storage_state/cookies/0/value",
                "/storage_state/cookies/0/domain",
                "/storage_state/cookies/0/path",
            ],
        ),
        (json!({"runtime_kind": "firefox"}), 422, "validation-error", &["/runtime_kind"]),
        (
            json!({"runtime_kind": "rda", "timeout_seconds": 1, "nope": 1}),
            400,
            "validation-error",
            &["/nope", "/timeout_seconds", "/runtime_kind"],
        ),
    ];
    for (body, status, slug, pointers) in cases {
        let found = refused(&create(body).unwrap_err());
        let pointers = pointers.iter().map(ToString::to_string).collect();
        assert_eq!(found, (*status, *slug, pointers), "{body}");
    }
}

#[test]
fn only_so_many_faults_are_told() {
    let cookies: Vec<_> = (0..50).map(|_| json!({})).collect();
    let problem = create(&json!({"storage_state": {"cookies": cookies}})).unwrap_err();
    assert_eq!(problem.errors().len(), FAULTS_MAX);
    assert!(problem.detail().starts_with("200 faults"));
}

#[test]
fn a_change_is_a_release_or_labels() {
    assert_eq!(change(&json!({"status": "REQUEST_RELEASE"})).unwrap(), Change::Release);
    assert_eq!(change(&json!({"labels": {}})).unwrap(), Change::Labels(BTreeMap::new()));
    for (body, status) in [
        (json!({}), 422),
        (json!(null), 422),
        (json!({"status": "COMPLETED"}), 422),
        (json!({"status": "REQUEST_RELEASE", "labels": {}}), 422),
        (json!({"labels": {"a": 1}}), 422),
        (json!({"region": "eu"}), 400),
    ] {
        assert_eq!(change(&body).unwrap_err().status().as_u16(), status, "{body}");
    }
}
