//! People, their keys and their workspaces, by the commands.

use std::fs;

use harness::{PATIENCE, Server, User, eventually};
use serde_json::{Value, json};

use super::{columns, told};

/// The link in the newest mail to this address.
async fn link_to(server: &Server, email: &str) -> String {
    let find = || async {
        let mut mails: Vec<_> = fs::read_dir(server.data().join("mail"))
            .ok()?
            .flatten()
            .map(|file| file.path())
            .collect();
        mails.sort();
        let texts = mails.iter().rev().filter_map(|path| fs::read_to_string(path).ok());
        let mail = texts.into_iter().find(|text| text.contains(&format!("To: {email}\r\n")))?;
        mail.lines().find(|line| line.contains("#token=")).map(str::to_owned)
    };
    eventually("a mail", PATIENCE, find).await
}

/// The actions in a workspace's audit, newest first.
async fn actions(user: &User, flags: &[&str]) -> Vec<String> {
    let listed = user.json(&[&["workspace", "audit"], flags].concat()).await;
    let items = listed["items"].as_array().unwrap().clone();
    items.iter().map(|item| item["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_signs_in_and_makes_a_key_that_works_until_it_is_revoked() {
    let server = Server::up().capacity(1, 0).start().await;
    let owner = User::beside(&server);
    let url = server.api.base_url.clone();
    let out = owner.fails(3, &["key", "list"]).await;
    assert!(out.contains("ventus login"), "{out}");

    let signed_in = owner.run(&["login"]).await;
    assert_eq!(signed_in.out, format!("signed in at {url} as owner@localhost\n"));
    assert!(signed_in.err.contains(&format!("{url}/sign-in#token=vm_")), "{}", signed_in.err);
    assert!(signed_in.err.ends_with("commands are about the workspace default\n"));
    let listed = owner.says(&["workspace", "list"]).await;
    let row = columns(listed.lines().nth(1).unwrap());
    assert_eq!(row, ["*", "default", "Default", "owner", "ACTIVE"]);

    let secret = owner.says(&["key", "create", "ci"]).await;
    assert!(secret.starts_with("vs_") && secret.lines().count() == 1, "{secret}");
    let program = User::nowhere().env("VENTUS_URL", &url).env("VENTUS_API_KEY", &secret);
    let id = program.json(&["session", "create"]).await["id"].as_str().unwrap().to_owned();
    // it has no scope for that
    let refused = program.fails(3, &["session", "force-stop", &id]).await;
    assert!(refused.contains("(403)"), "{refused}");
    let mighty = ["sessions:read", "sessions:write", "admin"].map(|scope| ["--scope", scope]);
    let mighty = owner.says(&[&["key", "create", "stop"], mighty.as_flattened()].concat()).await;
    let mighty = User::nowhere().env("VENTUS_URL", &url).env("VENTUS_API_KEY", &mighty);
    assert_eq!(mighty.says(&["session", "force-stop", &id]).await, format!("stopped {id}"));
    let ended = mighty.json(&["session", "get", &id]).await;
    assert_eq!(ended["status_reason"]["code"], "force_stopped", "{ended}");
    owner.fails(2, &["key", "create", "x", "--scope", "everything"]).await;

    let keys = owner.json(&["key", "list"]).await;
    let keys = keys["items"].as_array().unwrap();
    let ci = keys.iter().find(|key| key["label"] == "ci").unwrap();
    assert!(ci.get("secret").is_none() && ci["revoked_at"].is_null(), "{ci}");
    let ci = ci["id"].as_str().unwrap();
    assert_eq!(owner.says(&["key", "revoke", ci]).await, format!("revoked {ci}"));
    let refused = program.fails(3, &["session", "list"]).await;
    assert!(refused.starts_with("error: Not authenticated (401)"), "{refused}");
    let table = owner.says(&["key", "list"]).await;
    let row = table.lines().find(|line| line.starts_with(ci)).unwrap();
    assert_eq!(columns(row).len(), 5, "{table}");

    owner.says(&["logout"]).await;
    owner.fails(3, &["workspace", "list"]).await;
    server.at_rest(0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_into_a_workspace_and_go() {
    let server = Server::up().capacity(1, 0).start().await;
    let owner = User::beside(&server);
    let email = "ada@example.org";
    owner.says(&["login", "owner@localhost"]).await;
    let said = owner.says(&["workspace", "invite", email, "--role", "viewer"]).await;
    assert!(said.starts_with(&format!("{email} is asked in as viewer, until 20")), "{said}");
    let listed = owner.says(&["workspace", "invitations"]).await;
    assert_eq!(columns(listed.lines().nth(1).unwrap())[..2], [email, "viewer"]);
    // another one, taken back
    owner.says(&["workspace", "invite", "bob@example.org"]).await;
    owner.says(&["workspace", "uninvite", "Bob@example.org"]).await;

    let ada = User::nowhere().env("VENTUS_URL", &server.api.base_url);
    let link = link_to(&server, email).await;
    let joined = ada.type_to(&["login", "--link"], &format!("{link}\n")).await;
    assert_eq!((joined.code, joined.out.ends_with(&format!("as {email}\n"))), (0, true));
    assert!(joined.err.ends_with("commands are about the workspace default\n"), "{}", joined.err);
    assert_eq!(told(&ada.says(&["workspace", "get"]).await, "Your role"), "viewer");
    // a link works once
    assert_eq!(ada.type_to(&["login", "--link"], &link).await.code, 3);
    ada.fails(3, &["workspace", "invite", "eve@example.org"]).await;
    ada.fails(3, &["key", "create", "x"]).await;
    let said = owner.says(&["workspace", "role", email, "member"]).await;
    assert_eq!(said, format!("{email} is member now"));
    ada.says(&["key", "create", "x"]).await;
    let members = owner.says(&["workspace", "members"]).await;
    let rows: Vec<_> = members.lines().skip(1).map(|line| columns(line)[..2].to_vec()).collect();
    assert_eq!(rows.len(), 2, "{members}");
    assert!(
        rows.contains(&vec![email, "member"]) && rows.contains(&vec!["owner@localhost", "owner"])
    );

    // the last owner stays
    owner.fails(5, &["workspace", "role", "owner@localhost", "member"]).await;
    owner.fails(4, &["workspace", "remove", "eve@example.org"]).await;
    owner.says(&["workspace", "remove", email]).await;
    ada.fails(4, &["workspace", "get", "--workspace", "default"]).await;

    let audit = owner.says(&["workspace", "audit", "--action", "member.join"]).await;
    let row = columns(audit.lines().nth(1).unwrap());
    assert_eq!((row[1], row[2]), (email, "member.join"), "{audit}");
    let all = actions(&owner, &["--limit", "2", "--all"]).await;
    for action in ["invitation.create", "member.join", "api_key.create", "user.sign_in"] {
        assert!(all.iter().any(|one| one == action), "{action} is not in {all:?}");
    }
    let hers = actions(&owner, &["--actor", email]).await;
    assert!(!hers.is_empty() && !hers.iter().any(|one| one == "invitation.create"), "{hers:?}");
    assert_eq!(actions(&owner, &["--before", "2020-01-01T00:00:00Z"]).await, [""; 0]);
    owner.fails(2, &["workspace", "audit", "--after", "yesterday"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_made_named_deleted_and_restored() {
    let server = Server::up().capacity(1, 0).start().await;
    let owner = User::beside(&server);
    owner.says(&["login"]).await;
    let card = owner.says(&["workspace", "create", "search-team", "--name", "Search"]).await;
    assert_eq!((told(&card, "Workspace"), told(&card, "Your role")), ("search-team", "owner"));
    owner.fails(5, &["workspace", "create", "search-team"]).await;
    owner.fails(2, &["workspace", "create", "Search"]).await;
    owner.fails(2, &["workspace", "create", "-x"]).await;

    // there are two now
    let unclear = owner.fails(2, &["workspace", "get"]).await;
    assert!(unclear.contains("default, search-team"), "{unclear}");
    owner.says(&["workspace", "use", "search-team"]).await;
    owner.fails(4, &["workspace", "use", "other"]).await;
    let card = owner.says(&["workspace", "rename", "Search 2"]).await;
    assert_eq!((told(&card, "Workspace"), told(&card, "Name")), ("search-team", "Search 2"));
    let mine = owner.json(&["workspace", "get"]).await;
    assert_eq!((&mine["name"], &mine["status"]), (&json!("Search 2"), &json!("ACTIVE")));
    let secret = owner.says(&["key", "create", "x"]).await;
    let program =
        User::nowhere().env("VENTUS_URL", &server.api.base_url).env("VENTUS_API_KEY", &secret);
    // its sessions are its own
    owner.json(&["session", "list"]).await;
    assert_eq!(program.json(&["session", "list"]).await["items"], json!([]));

    owner.says(&["workspace", "delete", "search-team"]).await;
    program.fails(3, &["session", "list"]).await;
    let card = owner.says(&["workspace", "get"]).await;
    assert_eq!(told(&card, "Status"), "DELETED");
    let card = owner.says(&["workspace", "restore", "search-team"]).await;
    assert_eq!(told(&card, "Status"), "ACTIVE");
    program.says(&["session", "list"]).await;
    let all = owner.json(&["workspace", "list"]).await;
    assert!(all["workspaces"].as_array().unwrap().iter().all(|one| one["status"] == "ACTIVE"));
    assert_ne!(all["email"], Value::Null);
    server.stop().await;
}
