//! What the commands ask of a server, and how its answers look.

use clap::Parser;

use super::*;
use crate::client::stand_in::StandIn;

const ID: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn session() -> Value {
    json!({
        "id": ID, "status": "RUNNING", "status_reason": null, "region": "local",
        "runtime_kind": "chromium", "connect_url": "ws://h/cdp?token=t", "timeout_seconds": 1800,
        "keep_alive_seconds": 60, "viewport": {"width": 1280, "height": 720}, "user_agent": null,
        "proxy": {"url": "http://proxy:1"}, "profile_id": null, "labels": {"team": "search"},
        "recording": {"enabled": false}, "created_at": "2026-11-22T12:00:00.000Z",
        "started_at": "2026-11-22T12:00:01.000Z", "ended_at": null,
        "expires_at": "2026-11-22T12:30:00.000Z", "last_seen_at": null,
        "usage": {"duration_ms": 4200, "cdp_messages": 12, "bytes_in": 2048, "bytes_out": 10,
            "egress_bytes": 0},
    })
}

fn over() -> Value {
    let mut session = session();
    session["status"] = json!("COMPLETED");
    session["status_reason"] = json!({"code": "released", "message": "released by request"});
    session["connect_url"] = Value::Null;
    session["ended_at"] = json!("2026-11-22T12:00:05.000Z");
    session
}

fn action(line: &str) -> Action {
    let words = ["session"].into_iter().chain(line.split(' '));
    Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).arguments.action
}

/// What a command says and asks, with a server that answers so.
async fn run(line: &str, status: u16, body: Value) -> (Result<Said>, StandIn) {
    let server = StandIn::start(move |_| (status, body.clone())).await;
    let api = Api::new(server.url.clone()).unwrap().with("vs_x");
    (action(line).run(&api, false).await, server)
}

#[tokio::test]
async fn a_session_is_created_with_a_key_of_its_own() {
    let line = "create --timeout 60 --label team=search --wait 7 --async";
    let (said, server) = run(line, 201, session()).await;
    let asked = server.only();
    assert_eq!(asked.line(), "POST /v1/sessions");
    assert_eq!(asked.body, json!({"timeout_seconds": 60, "labels": {"team": "search"}}));
    assert_eq!(asked.headers["prefer"], "wait=7, respond-async");
    let key = asked.headers["idempotency-key"].to_str().unwrap().to_owned();
    assert!(key.starts_with("ventus-cli-"), "{key}");
    let (_, again) = run("create --idempotency-key mine", 201, session()).await;
    assert_eq!(again.only().headers["idempotency-key"], "mine");
    let card = format!(
        "Session     {ID}\n\
         Status      RUNNING\n\
         Connect     ws://h/cdp?token=t\n\
         Region      local\n\
         Created     2026-11-22 12:00:00Z\n\
         Started     2026-11-22 12:00:01Z\n\
         Expires     2026-11-22 12:30:00Z\n\
         Timeout     1800 s\n\
         Keep-alive  60 s\n\
         Viewport    1280x720\n\
         Proxy       http://proxy:1\n\
         Labels      team=search\n\
         Duration    4.2 s\n\
         Traffic     12 CDP messages, 2.0 KiB in, 10 B out; pages 0 B"
    );
    let said = said.unwrap();
    assert_eq!(said.people(), card);
    assert_eq!(said.for_programs(), session().to_string());
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_can_be_gone_on_with() {
    let server = StandIn::start(|_| (201, json!({}))).await;
    let url = server.url.clone();
    drop(server);
    let api = Api::new(url).unwrap();
    let error = action("create --idempotency-key mine").run(&api, false).await.unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("--idempotency-key mine"), "{error}");
}

#[tokio::test]
async fn sessions_are_listed_by_all_filters() {
    let page = json!({"items": [session(), over()], "next_cursor": null, "has_more": false});
    let line = "list --status running --status COMPLETED --region local --label team=a/b \
                --created-after 2026-01-01T00:00:00Z --limit 2";
    let (said, server) = run(line, 200, page.clone()).await;
    let asked = "GET /v1/sessions?status=RUNNING&status=COMPLETED&region=local&\
                 label.team=a%2Fb&created_after=2026-01-01T00%3A00%3A00Z&limit=2";
    assert_eq!(server.lines(), [asked]);
    let table = format!(
        "ID                          STATUS     REASON    REGION  CREATED               DURATION  \
         LABELS\n\
         {ID}  RUNNING              local   2026-11-22 12:00:00Z  4.2 s     team=search\n\
         {ID}  COMPLETED  released  local   2026-11-22 12:00:00Z  4.2 s     team=search"
    );
    let said = said.unwrap();
    assert_eq!(said.people(), table);
    assert_eq!(said.for_programs(), page.to_string());
}

#[tokio::test]
async fn a_connect_url_stands_alone() {
    let (said, _) = run(&format!("connect-url {ID}"), 200, session()).await;
    assert_eq!(said.unwrap().people(), "ws://h/cdp?token=t");
    let (said, _) = run(&format!("connect-url {ID}"), 200, over()).await;
    let error = said.unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert_eq!(error.to_string(), "the session is over: COMPLETED (released by request)");
}

#[tokio::test]
async fn a_session_is_kept_alive_and_ended() {
    let (said, server) = run(&format!("keepalive {ID} --extend 60"), 200, session()).await;
    let asked = server.only();
    assert_eq!(asked.line(), format!("POST /v1/sessions/{ID}/keepalive"));
    assert_eq!(asked.body, json!({"extend_seconds": 60}));
    assert!(said.unwrap().people().contains("Expires     2026-11-22 12:30:00Z"));
    let (_, server) = run(&format!("keepalive {ID}"), 200, session()).await;
    assert_eq!(server.only().body, json!({}));

    let (said, server) = run(&format!("release {ID} {ID}"), 204, Value::Null).await;
    assert_eq!(
        server.lines(),
        [format!("DELETE /v1/sessions/{ID}"), format!("DELETE /v1/sessions/{ID}")]
    );
    let said = said.unwrap();
    assert_eq!(said.people(), format!("released {ID}\nreleased {ID}"));
    assert_eq!(said.for_programs(), "");

    let (said, server) = run(&format!("force-stop {ID}"), 204, Value::Null).await;
    assert_eq!(server.lines(), [format!("POST /v1/sessions/{ID}/force-stop")]);
    assert_eq!(said.unwrap().people(), format!("stopped {ID}"));
}

#[tokio::test]
async fn a_sessions_state_is_kept_in_a_new_profile_or_an_old_one() {
    let profile = json!({"id": ID, "name": "shop", "size_bytes": 10,
        "created_at": "2026-11-22T12:00:00.000Z", "updated_at": "2026-11-22T12:00:00.000Z"});
    for (flag, body) in [
        ("--name shop".to_owned(), json!({"name": "shop"})),
        (format!("--profile {ID}"), json!({"profile_id": ID})),
    ] {
        let (said, server) = run(&format!("save-profile {ID} {flag}"), 201, profile.clone()).await;
        let asked = server.only();
        assert_eq!(asked.line(), format!("POST /v1/sessions/{ID}/save-profile"));
        assert_eq!(asked.body, body);
        assert!(said.unwrap().people().starts_with(&format!("Profile  {ID}\nName     shop")));
    }
}

#[tokio::test]
async fn events_are_shown_until_the_last() {
    let reason = json!({"code": "released", "message": "released by request"});
    let events = json!({"items": [
        {"status": "RUNNING", "at": "2026-11-22T12:00:00.000Z", "reason": null},
        {"status": "COMPLETED", "at": "2026-11-22T12:00:05.000Z", "reason": reason},
    ]});
    let (said, server) = run(&format!("events {ID}"), 200, events.clone()).await;
    assert_eq!(server.lines(), [format!("GET /v1/sessions/{ID}/events")]);
    let table = "TIME                  STATUS     REASON\n\
                 2026-11-22 12:00:00Z  RUNNING\n\
                 2026-11-22 12:00:05Z  COMPLETED  released by request";
    assert_eq!(said.unwrap().people(), table);
    let (said, server) = run(&format!("events {ID} --follow"), 200, events).await;
    assert_eq!(said.unwrap().people(), "", "they were shown as they came");
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let lower = ID.to_lowercase();
    let refused = [
        "create --viewport 1280".to_owned(),
        "create --label team".into(),
        "create --region NOT_ONE".into(),
        "list --status soon".into(),
        "list --limit 101".into(),
        "list --all --cursor x".into(),
        "get".into(),
        format!("get {lower}"),
        "get ../profiles".into(),
        "release".into(),
        format!("save-profile {ID}"),
        format!("save-profile {ID} --name a --profile {ID}"),
    ];
    for line in refused {
        let words = ["session"].into_iter().chain(line.split(' '));
        assert!(Line::try_parse_from(words).is_err(), "{line}");
    }
}

#[tokio::test]
async fn files_go_and_come() {
    let place = tempfile::tempdir().unwrap();
    let [given, got] = ["a b.txt", "got"].map(|name| place.path().join(name));
    std::fs::write(&given, "\"content\"").unwrap();
    let file =
        json!({"name": "a b.txt", "size_bytes": 9, "created_at": "2026-11-22T12:00:00.000Z"});
    let server = StandIn::start({
        let file = file.clone();
        move |asked| match asked.uri.rsplit_once('/').unwrap().1 {
            "downloads" => (200, json!({"items": [file], "next_cursor": null, "has_more": false})),
            _ => (200, file.clone()),
        }
    })
    .await;
    let api = Api::new(server.url.clone()).unwrap();
    let words = ["session", "upload", ID, given.to_str().unwrap()];
    let put = Line::try_parse_from(words).unwrap().arguments.action.run(&api, false).await;
    assert_eq!(put.unwrap().people(), "put uploads/a b.txt (9 B)");
    let asked = server.only();
    assert_eq!(asked.line(), format!("PUT /v1/sessions/{ID}/uploads/a%20b%2Etxt"));
    assert_eq!(
        (&asked.body, &asked.headers["content-length"]),
        (&json!("content"), &"9".parse().unwrap())
    );
    let listed = action(&format!("downloads {ID}")).run(&api, false).await.unwrap();
    assert_eq!(listed.people(), "NAME     SIZE  CREATED\na b.txt  9 B   2026-11-22 12:00:00Z");
    for _ in 0..2 {
        let words = ["session", "download", ID, "a b.txt", "-o", got.to_str().unwrap()];
        let done = Line::try_parse_from(words).unwrap().arguments.action.run(&api, false).await;
        assert!(done.unwrap().people().starts_with(got.to_str().unwrap()));
        assert_eq!(std::fs::read_to_string(&got).unwrap(), file.to_string());
    }
}
