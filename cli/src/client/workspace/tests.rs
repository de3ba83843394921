//! What the commands ask of a server, and how its answers look.

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::client::{person::tests::signed_in, stand_in::StandIn};

const ID: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// What a command says and asks, with a server that answers so.
async fn run(line: &str, status: u16, body: Value) -> (Result<Said>, StandIn) {
    let dir = tempfile::tempdir().unwrap();
    let server = StandIn::start(move |_| (status, body.clone())).await;
    let person = signed_in(&server.url, dir.path(), 600).await;
    let line = Line::try_parse_from(["workspace"].into_iter().chain(line.split(' '))).unwrap();
    let Arguments { workspace, action, .. } = line.arguments;
    (action.run(&person, &workspace).await, server)
}

fn workspace() -> Value {
    json!({"id": ID, "slug": "team", "name": "The team", "role": "owner", "plan": "pro",
        "status": "ACTIVE", "created_at": "2026-11-22T12:00:00.000Z", "deleted_at": null})
}

fn member(email: &str) -> Value {
    json!({"user_id": ID, "email": email, "role": "admin",
        "joined_at": "2026-11-22T12:00:00.000Z"})
}

fn page(items: &[Value]) -> Value {
    json!({"items": items, "next_cursor": null, "has_more": false})
}

#[tokio::test]
async fn the_workspace_that_commands_are_about_is_marked() {
    let one = |slug: &str| json!({"slug": slug, "name": "N", "role": "owner", "status": "ACTIVE"});
    let me = json!({"id": ID, "email": "a@x", "workspaces": [one("other"), one("team")]});
    let (said, server) = run("list", 200, me).await;
    assert_eq!(server.lines(), ["GET /v1/dashboard/me"]);
    let table = "   SLUG   NAME  YOUR ROLE  STATUS\n   other  N     owner      ACTIVE\n\
                 *  team   N     owner      ACTIVE";
    assert_eq!(said.unwrap().people(), table);
}

#[tokio::test]
async fn workspaces_come_and_go() {
    let about = "/v1/dashboard/ws/team";
    for (line, asked, body) in [
        ("get", format!("GET {about}"), Value::Null),
        ("rename New", format!("PATCH {about}"), json!({"name": "New"})),
        ("get --workspace other", "GET /v1/dashboard/ws/other".into(), Value::Null),
        ("restore team", format!("POST {about}/restore"), Value::Null),
        (
            "create new --name New",
            "POST /v1/dashboard/workspaces".into(),
            json!({"slug": "new", "name": "New"}),
        ),
        (
            "create new",
            "POST /v1/dashboard/workspaces".into(),
            json!({"slug": "new", "name": "new"}),
        ),
    ] {
        let (said, server) = run(line, 200, workspace()).await;
        let only = server.only();
        assert_eq!((only.line(), &only.body), (asked, &body), "{line}");
        let card = "Workspace  team\nName       The team\nStatus     ACTIVE\nPlan       pro\n\
                    Your role  owner\nCreated    2026-11-22 12:00:00Z";
        assert_eq!(said.unwrap().people(), card, "{line}");
    }
    let (said, server) = run("delete other", 204, Value::Null).await;
    assert_eq!(server.lines(), ["DELETE /v1/dashboard/ws/other"]);
    assert_eq!(said.unwrap().people(), "deleted other");
}

#[tokio::test]
async fn a_member_goes_by_address_or_id() {
    let members = "/v1/dashboard/ws/team/members";
    let list = format!("GET {members}");
    let (said, server) = run("remove B@x", 200, page(&[member("a@x"), member("b@x")])).await;
    assert_eq!(server.lines(), [list.clone(), format!("DELETE {members}/{ID}")]);
    assert_eq!(said.unwrap().people(), "removed B@x");
    let (_, server) = run(&format!("remove {ID}"), 204, Value::Null).await;
    assert_eq!(server.lines(), [format!("DELETE {members}/{ID}")]);
    let (said, server) = run("remove c@x", 200, page(&[member("a@x")])).await;
    assert_eq!(server.lines(), [list]);
    assert_eq!(said.unwrap_err().exit_code(), 4);
}

#[tokio::test]
async fn a_members_role_is_changed() {
    let (said, server) = run(&format!("role {ID} admin"), 200, member("a@x")).await;
    let only = server.only();
    assert_eq!(only.line(), format!("PATCH /v1/dashboard/ws/team/members/{ID}"));
    assert_eq!(only.body, json!({"role": "admin"}));
    assert_eq!(said.unwrap().people(), "a@x is admin now");
}

#[tokio::test]
async fn members_and_invitations_are_listed() {
    let (said, _) = run("members", 200, page(&[member("a@x")])).await;
    let table = format!(
        "E-MAIL  ROLE   JOINED                ID\na@x     admin  2026-11-22 12:00:00Z  {ID}"
    );
    assert_eq!(said.unwrap().people(), table);
    let invitation = json!({"id": ID, "email": "b@x", "role": "viewer",
        "created_at": "2026-11-22T12:00:00.000Z", "expires_at": "2026-11-29T12:00:00.000Z"});
    let (said, server) = run("invitations", 200, page(std::slice::from_ref(&invitation))).await;
    assert_eq!(server.lines(), ["GET /v1/dashboard/ws/team/invitations"]);
    assert!(said.unwrap().people().contains("b@x     viewer  2026-11-29 12:00:00Z"));
    let (said, server) = run("invite b@x --role viewer", 201, invitation).await;
    assert_eq!(server.only().body, json!({"email": "b@x", "role": "viewer"}));
    assert_eq!(said.unwrap().people(), "b@x is asked in as viewer, until 2026-11-29 12:00:00Z");
    let (said, _) = run("invitations", 200, page(&[])).await;
    let said = said.unwrap();
    assert_eq!((said.people(), said.noted()), ("", "no invitations"));
}

#[tokio::test]
async fn who_did_what_is_told_in_a_line() {
    let entry = json!({"id": ID, "at": "2026-11-22T12:00:00.000Z", "actor_kind": "user",
        "actor_id": ID, "actor_email": "a@x", "action": "api_key.create",
        "target_kind": "api_key", "target_id": "01K", "detail": {"label": "ci", "n": 1},
        "ip": "127.0.0.1", "user_agent": "x"});
    let line = "audit --action api_key.create --after 2026-01-01T00:00:00Z";
    let (said, server) = run(line, 200, page(&[entry])).await;
    let asked =
        "GET /v1/dashboard/ws/team/audit?action=api_key.create&after=2026-01-01T00%3A00%3A00Z";
    assert_eq!(server.lines(), [asked]);
    let row = "2026-11-22 12:00:00Z  a@x  api_key.create  api_key 01K  label=ci, n=1  127.0.0.1";
    assert_eq!(said.unwrap().people().lines().nth(1).unwrap(), row);
}
