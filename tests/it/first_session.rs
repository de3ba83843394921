//! What a newcomer sees first, and pastes next.

use std::{os::unix::fs::symlink, time::Duration};

use harness::{Server, User, folder};
use tokio::{process::Command, time::timeout};

/// How long all that is printed may take.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_first_session_says_to_paste_works_as_it_stands() {
    let server = Server::up().capacity(2, 1).start().await;
    let user = User::beside(&server).env("VENTUS_URL", &server.api.base_url);
    let said = user.says(&["try"]).await;
    let (_, to_paste) = said.split_once("\n  The API key, for all that follows\n").unwrap();
    // Names of what follows are indented, code of a shell is not, and code of Node is none.
    let is_code = |line: &&str| !["  curl", "  Puppeteer", "  Playwright"].contains(line);
    let script: Vec<_> = to_paste.lines().filter(is_code).collect();

    // Packages are there already, as no registry is part of what is tried.
    symlink(folder().join("clients/node_modules"), user.home().join("node_modules")).unwrap();
    let script = format!("set -e\nnpm() {{ true; }}\n{}", script.join("\n"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(user.home()).kill_on_drop(true);
    let done = timeout(SOON, shell.output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    assert!(out.contains(r#""status":"RUNNING""#), "{out}");
    for picture in ["puppeteer.png", "playwright.png"] {
        let png = std::fs::read(user.home().join(picture)).unwrap();
        assert!(png.starts_with(b"\x89PNG"), "{picture}");
    }
    for session in server.api.all().await {
        if session.status() == "RUNNING" {
            server.api.release(session.id()).await; // curl's, which nobody closes
        }
    }
    server.stop().await;
}
