//! People get their links by mail and sign in with them, as programs and in a browser.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use harness::{
    Api, Chrome, PATIENCE, Server,
    cdp::Cdp,
    eventually,
    mail::{self, MailServer, token_in},
};
use http::Method;
use serde_json::{Value, json};

async fn post(api: &Api, path: &str, body: Value) -> Value {
    let answer = api.send(Method::POST, path, &[], Some(&body)).await;
    assert!(answer.status < 300, "{path}: {answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn links_go_out_by_smtp_and_sign_in() {
    let mut mails = MailServer::start().await;
    let plan = Server::control_plane()
        .flag("hub-listen", "127.0.0.1:0")
        .flag("smtp-url", &mails.url)
        .flag("mail-from", "Ventus <ventus@example.org>")
        .flag("owner-email", "Ada@Example.org")
        .env("VENTUS_SMTP_PASSWORD", mail::PASSWORD)
        .env("VENTUS_LOG", "trace");
    let server = plan.start().await;
    let (base, open) = (&server.api.base_url, Api::new(&server.api.base_url, None));

    let asked = json!({"email": "ada@example.org"});
    post(&open, "/v1/dashboard/auth/magic-links", asked).await;
    let link = mails.mail().await;
    assert_eq!(link.to, ["Ada@Example.org"]);
    assert_eq!(link.from, "Ventus <ventus@example.org>");
    assert_eq!(link.subject, "Sign in to Ventus");
    assert!(link.text.contains(&format!("{base}/sign-in#token=vm_")), "{}", link.text);
    let link = token_in(&link.text);
    let signed_in = post(&open, "/v1/dashboard/auth/tokens", json!({"token": link})).await;
    let access = signed_in["access_token"].as_str().unwrap();
    let ada = Api::new(base, Some(access));
    assert_eq!(ada.get("/v1/dashboard/me").await.body["workspaces"][0]["role"], "owner");

    let invited = json!({"email": "grace@example.org", "role": "member"});
    post(&ada, "/v1/dashboard/ws/default/invitations", invited).await;
    let invitation = mails.mail().await;
    assert_eq!(invitation.to, ["grace@example.org"]);
    assert_eq!(invitation.subject, "Join Default on Ventus");
    let invitation = token_in(&invitation.text);
    let joined = post(&open, "/v1/dashboard/auth/tokens", json!({"token": invitation})).await;
    assert_eq!(joined["workspace"]["slug"], "default");
    let grace = Api::new(base, joined["access_token"].as_str());
    let key = post(&grace, "/v1/dashboard/ws/default/api-keys", json!({"label": "ci"})).await;
    let key = key["secret"].as_str().unwrap();
    assert_eq!(Api::new(base, Some(key)).get("/v1/sessions").await.status, 200);

    let log = server.log();
    assert!(log.contains("a mail was sent"), "nothing is logged at all");
    let refresh = signed_in["refresh_token"].as_str().unwrap();
    for secret in [link, invitation, access, refresh, key, mail::PASSWORD] {
        let secret = secret.rsplit('.').next().unwrap();
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_on_a_click() {
    let server = Server::up().capacity(1, 0).start().await;
    let base = server.api.base_url.clone();
    let asked = json!({"email": "owner@localhost"});
    post(&server.api, "/v1/dashboard/auth/magic-links", asked).await;
    let file = only_mail(&server).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let mail = fs::read_to_string(file).unwrap();
    let token = token_in(&mail);
    // Who started the server sees the link too.
    let link = format!("{base}/sign-in#token={token}");
    let printed = || async { server.printed().contains(&link).then_some(()) };
    eventually("the printed link", PATIENCE, printed).await;

    // A browser of one's own: sessions' browsers do not reach the server itself.
    let session = server.api.create(json!({})).await;
    let chrome = Chrome::like(server.data()).await;
    let mut cdp = Cdp::connect(&chrome.url).await;
    let (_, page) = cdp.page(&format!("{base}/sign-in#token={token}")).await;
    cdp.until_titled(&page, "Sign in").await;
    let read = "[location.hash, document.getElementById('go').hidden]";
    assert_eq!(cdp.evaluate(Some(&page), read).await, json!(["", false]));
    cdp.evaluate(Some(&page), "document.getElementById('go').click()").await;
    cdp.until_titled(&page, "Signed in").await;
    let text = cdp.evaluate(Some(&page), "document.getElementById('text').textContent").await;
    assert_eq!(text, "You are signed in as owner@localhost.");
    // Its cookies work on this very origin, and no script can read them.
    let seen = "Promise.all([
        fetch('/v1/dashboard/me'),
        fetch('/v1/dashboard/ws/default', {
            method: 'PATCH', headers: {'Content-Type': 'application/json'},
            body: JSON.stringify({name: 'By cookie'}),
        }),
        fetch('/api/v1/dashboard/auth/refresh', {method: 'POST'}),
    ]).then((answers) => [document.cookie, ...answers.map((answer) => answer.status)])";
    assert_eq!(cdp.evaluate(Some(&page), seen).await, json!(["", 200, 200, 200]));
    // The link was used up.
    let (_, again) = cdp.page(&format!("{base}/sign-in#token={token}")).await;
    cdp.until_titled(&again, "Sign in").await;
    cdp.evaluate(Some(&again), "document.getElementById('go').click()").await;
    cdp.until_titled(&again, "That did not work").await;
    cdp.close().await;
    server.api.release(session.id()).await;
    server.stop().await;
}

async fn only_mail(server: &Server) -> PathBuf {
    let directory = server.data().join("mail");
    eventually("a mail", PATIENCE, || async {
        let mut files = fs::read_dir(&directory).ok()?.map(|file| file.unwrap().path());
        files.find(|path| path.extension().is_some_and(|extension| extension == "eml"))
    })
    .await
}
