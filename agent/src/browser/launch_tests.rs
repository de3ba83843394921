use std::{
    collections::{HashMap, HashSet},
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::*;
use crate::browser::{
    proc_table::{self, Found},
    testing::{
        CHROMIUM, HEADLESS_SHELL, Place, descriptors, evaluate, first_page_of, on_page, until,
    },
};

const SOON: Duration = Duration::from_secs(20);

async fn launch(launcher: &Launcher) -> Browser {
    launcher.launch(&LaunchOptions::default()).await.unwrap()
}

async fn open(binary: &str, root: &Path) -> anyhow::Result<Launcher> {
    let binary = Path::new(binary);
    Launcher::open(binary, root, Isolation::probe(binary, false), Policy::with_loopback()).await
}

/// What comes of launching this instead of a browser, with less patience than usual.
async fn failure(place: &Place, binary: &Path, limit: Duration) -> LaunchError {
    let mut launcher =
        Launcher::open(binary, &place.root(), Isolation::none(), Policy::default()).await.unwrap();
    launcher.limit = limit;
    let error = launcher.launch(&LaunchOptions::default()).await.unwrap_err();
    launcher.cleared().await;
    place.assert_clear();
    error
}

async fn new_page(browser: &Browser, mut params: Value) -> String {
    params["url"] = "about:blank".into();
    let target = browser.mux.command("Target.createTarget", params).await.unwrap();
    target["targetId"].as_str().unwrap().to_owned()
}

/// The users that the processes of browsers below this place have.
fn users_of(place: &Place) -> HashSet<u32> {
    let found = proc_table::all(|found| found.works_below(&place.root()));
    found.iter().map(|found| found.user).collect()
}

/// The session of a process as proc(5) tells it, 0 if its leader is outside of this container:
/// for that `getsid` of rustix, whose numbers are never 0, has no word.
fn session_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[tokio::test]
async fn every_page_has_exactly_the_viewport() {
    let place = Place::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let launcher = place.launcher(binary).await;
        for viewport in [(1280, 720), (1000, 401), (1920, 1080)] {
            let options = LaunchOptions { viewport, ..LaunchOptions::default() };
            let browser = launcher.launch(&options).await.unwrap();
            let context =
                browser.mux.command("Target.createBrowserContext", json!({})).await.unwrap();
            let context = &context["browserContextId"];
            let pages = [
                first_page_of(&browser).await,
                new_page(&browser, json!({})).await,
                new_page(&browser, json!({ "newWindow": true })).await,
                new_page(&browser, json!({ "browserContextId": context })).await,
            ];
            for (i, page) in pages.iter().enumerate() {
                let size = evaluate(&browser, page, "[innerWidth, innerHeight]").await;
                assert_eq!(size, json!(viewport), "{binary}, page {i}");
            }
            let screen = evaluate(
                &browser,
                &pages[0],
                "[screen.width >= outerWidth, screen.height >= outerHeight]",
            );
            assert_eq!(screen.await, json!([true, true]), "{binary}");
            browser.close().await;
        }
    }
}

#[tokio::test]
async fn the_user_agent_is_the_one_asked_for() {
    let place = Place::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let launcher = place.launcher(binary).await;
        let agent = "Mine/1.0 (a \"test\") --no-sandbox";
        let options = LaunchOptions { user_agent: Some(agent.into()), ..LaunchOptions::default() };
        let browser = launcher.launch(&options).await.unwrap();
        let page = first_page_of(&browser).await;
        assert_eq!(evaluate(&browser, &page, "navigator.userAgent").await, agent);
        browser.close().await;
    }
}

#[tokio::test]
async fn a_screenshot_and_webgl_need_no_gpu() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let place = Place::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let browser = launch(&*place.launcher(binary).await).await;
        let page = first_page_of(&browser).await;
        let shot = on_page(&browser, &page, "Page.captureScreenshot", json!({})).await;
        let png = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (1280, 720), "{binary}"); // the IHDR chunk
        let webgl = "!!document.createElement('canvas').getContext('webgl')";
        assert_eq!(evaluate(&browser, &page, webgl).await, true, "{binary}");
        browser.close().await;
    }
}

#[tokio::test]
async fn a_closed_browser_leaves_nothing() {
    let place = Place::new();
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        let launcher = place.launcher(binary).await;
        launch(&launcher).await.close().await; // what the runtime opens once
        let before = descriptors();
        for _ in 0..3 {
            let browser = launch(&launcher).await;
            assert_eq!(place.directories(), 1);
            let users = users_of(&place);
            assert_eq!(users.len(), 1);
            let closing = Instant::now();
            browser.close().await;
            assert!(closing.elapsed() < Duration::from_secs(5));
            place.assert_clear();
            if geteuid().is_root() {
                for shared in ["/dev/shm", "/tmp", "/run/ventus/users"] {
                    let left = fs::read_dir(shared).unwrap().flatten().find(|entry| {
                        entry.metadata().is_ok_and(|about| users.contains(&about.uid()))
                            || users.iter().any(|user| *entry.file_name() == *user.to_string())
                    });
                    assert!(left.is_none(), "{left:?}");
                }
            }
        }
        until(SOON, "descriptors are closed", || descriptors() == before).await;
    }
}

#[tokio::test]
async fn a_dropped_browser_leaves_nothing() {
    let place = Place::new();
    let launcher = place.launcher(CHROMIUM).await;
    drop(launch(&launcher).await);
    launcher.cleared().await;
    place.assert_clear();
}

#[tokio::test]
async fn a_launch_that_is_given_up_leaves_nothing() {
    let place = Place::new();
    let launcher = place.launcher(CHROMIUM).await;
    let options = LaunchOptions::default();
    let given_up = time::timeout(Duration::from_millis(60), launcher.launch(&options)).await;
    assert!(given_up.is_err(), "no browser starts that fast");
    launcher.cleared().await;
    place.assert_clear();
}

#[tokio::test]
async fn a_browser_killed_from_outside_is_noticed_and_cleared_away() {
    let place = Place::new();
    let launcher = place.launcher(CHROMIUM).await;
    let mut browser = launch(&launcher).await;
    // Cancel-safe: a wait that was given up does not lose the end.
    assert!(time::timeout(Duration::from_millis(20), browser.exited()).await.is_err());
    assert!(browser.is_running());
    let named = proc_table::all(|found| found.works_below(&place.root()));
    let leads = |found: &&Found| found.group == Some(found.pid);
    let main = named.iter().find(leads).unwrap().pid;
    kill_process(main, Signal::KILL).unwrap();
    let status = time::timeout(SOON, browser.exited()).await.unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    time::timeout(SOON, browser.mux.closed()).await.unwrap();
    assert!(!browser.is_running());
    browser.close().await;
    place.assert_clear();
}

#[tokio::test]
async fn every_browser_has_a_user_of_its_own_and_chromes_sandbox() {
    let place = Place::new();
    let launcher = place.launcher(CHROMIUM).await;
    let (one, other) = (launch(&launcher).await, launch(&launcher).await);
    if geteuid().is_root() {
        let users = users_of(&place);
        assert_eq!(users.len(), 2);
        assert!(users.iter().all(|user| (61_184..=65_519).contains(user)));
    }
    let read = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let mut renderers = 0;
    for pid in place.processes() {
        let (Ok(command), Ok(status)) = (read(pid, "cmdline"), read(pid, "status")) else {
            continue;
        };
        assert!(!command.contains("--no-sandbox"), "{command}");
        assert!(status.contains("\nGroups:\t \n"), "supplementary groups: {status}");
        if command.contains("--type=renderer") {
            renderers += 1;
            assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
            let own = fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
            assert_ne!(own, fs::read_link("/proc/self/ns/user").unwrap());
        }
    }
    assert!(renderers >= 2);
    tokio::join!(one.close(), other.close());
}

/// The kernel divides the processor among sessions: see `limits::order`.
#[tokio::test]
async fn all_processes_of_a_browser_are_in_a_session_of_its_own() {
    let place = Place::new();
    let launcher = place.launcher(CHROMIUM).await;
    let (one, other) = (launch(&launcher).await, launch(&launcher).await);
    // Those that wait for crashes are apart from what may crash: they have no type.
    let works = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains("--type="))
    };
    let mut seen = HashMap::new();
    until(SOON, "the browsers are in two sessions", || {
        let working = place.processes().into_iter().filter(works);
        seen = working.filter_map(|pid| Some((session_of(pid)?, pid))).collect();
        seen.len() == 2
    })
    .await;
    let own = session_of(std::process::id() as i32).unwrap();
    assert!(!seen.contains_key(&own), "{own} in {seen:?}");
    tokio::join!(one.close(), other.close());
}

#[tokio::test]
async fn nothing_of_the_agents_environment_or_descriptors_goes_to_a_browser() {
    let place = Place::new();
    let seen = place.path().join("seen");
    fs::write(&seen, "").unwrap();
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o666)).unwrap();
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // As if whoever started the agent had left it open.
    let _left_open = pipe_with(PipeFlags::empty()).unwrap();
    let script = format!("(env; ls -l /proc/self/fd) > {}; exit 1", seen.display());
    failure(&place, &place.script(&script), SOON).await;
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("HOME="), "{seen}");
    assert!(!seen.contains("CARGO"), "{seen}"); // what this test was started with
    assert!(!seen.contains("socket:"), "{seen}");
    assert_eq!(seen.matches("pipe:").count(), 3, "3, 4 and standard error: {seen}");
}

#[tokio::test]
async fn a_missing_browser_is_told_by_its_path() {
    let place = Place::new();
    let error = failure(&place, Path::new("/nowhere/chrome"), SOON).await;
    assert!(matches!(error, LaunchError::NotFound(_)), "{error:?}");
    assert!(error.to_string().contains("/nowhere/chrome"));
}

#[tokio::test]
async fn a_file_that_is_no_program_is_told_so() {
    let place = Place::new();
    let text = place.path().join("text");
    fs::write(&text, "text").unwrap();
    let error = failure(&place, &text, SOON).await;
    assert!(matches!(error, LaunchError::NotExecutable { source: None, .. }), "{error:?}");
    let error = failure(&place, place.path(), SOON).await;
    assert!(matches!(error, LaunchError::NotExecutable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_program_that_the_browsers_user_cannot_reach_is_told_so() {
    if !geteuid().is_root() {
        return; // browsers run as this user then
    }
    let place = Place::new();
    let barred = place.path().join("barred");
    fs::create_dir(&barred).unwrap();
    fs::rename(place.script("exit 1"), barred.join("program")).unwrap();
    fs::set_permissions(&barred, fs::Permissions::from_mode(0o700)).unwrap();
    let error = failure(&place, &barred.join("program"), SOON).await;
    assert!(matches!(error, LaunchError::NotExecutable { source: Some(_), .. }), "{error:?}");
}

#[tokio::test]
async fn a_browser_that_exits_at_once_leaves_its_last_words() {
    let place = Place::new();
    let script =
        place.script("echo '[1:1:FATAL:x.cc:1] out of luck' >&2; echo '#0 0x1' >&2; exit 7");
    let error = failure(&place, &script, SOON).await;
    assert!(error.to_string().contains("out of luck"), "{error}");
    let LaunchError::Exited { status, stderr } = error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(7));
    assert_eq!(stderr.lines().count(), 2);
}

#[tokio::test]
async fn a_browser_that_hangs_is_given_up_and_killed() {
    let place = Place::new();
    let script = place.script("echo thinking >&2; sleep 1000 & exec sleep 1000");
    let error = failure(&place, &script, Duration::from_millis(300)).await;
    assert!(error.to_string().contains("thinking"), "{error}");
    assert!(matches!(error, LaunchError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_browser_that_closes_its_pipe_and_hangs_is_given_up() {
    let place = Place::new();
    let script = place.script("exec 3<&- 4>&-; exec sleep 1000");
    let error = failure(&place, &script, Duration::from_millis(300)).await;
    assert!(matches!(error, LaunchError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_helper_that_left_the_process_group_is_killed_as_well() {
    let place = Place::new();
    // As Chrome's crash handlers do.
    let script = place.script("setsid sleep 1000 & sleep 0.1; exit 1");
    let error = failure(&place, &script, SOON).await;
    assert!(matches!(error, LaunchError::Exited { .. }), "{error:?}");
}

#[tokio::test]
async fn a_root_that_browsers_cannot_use_is_refused_early() {
    let place = Place::new();
    let long = place.path().join("x".repeat(60)).join("browsers");
    let error = open(CHROMIUM, &long).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    // Only the full browser makes the socket.
    open(HEADLESS_SHELL, &long).await.unwrap();
    if geteuid().is_root() {
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = open(CHROMIUM, &place.root()).await.unwrap_err();
        let barred = format!("{} lets nobody", place.path().display());
        assert!(error.to_string().contains(&barred), "{error}");
    }
}

#[tokio::test]
async fn the_longest_root_that_is_allowed_works() {
    let place = Place::new();
    let length = directory::ROOT_MAX - place.path().as_os_str().len() - 1;
    let root = place.path().join("x".repeat(length));
    let launcher = open(CHROMIUM, &root).await.unwrap();
    launch(&launcher).await.close().await;
}

#[tokio::test]
async fn what_a_killed_run_left_is_swept() {
    let place = Place::new();
    let root = place.root();
    fs::create_dir_all(root.join("OLD/profile/Default")).unwrap();
    fs::write(root.join("OLD/profile/Default/Cookies"), "x").unwrap();
    let spawn = |directory: &Path, user: u32| {
        let mut command = Command::new("sleep");
        command.arg("1000").env("TMPDIR", directory.join("tmp")).process_group(0);
        if geteuid().is_root() {
            command.uid(user);
        }
        command.spawn().unwrap()
    };
    let mut left = spawn(&root.join("OLD"), 65_519);
    let mut strangers = spawn(&place.path().join("browsers-of-another/X"), 65_518);
    let launcher = place.launcher(HEADLESS_SHELL).await;
    assert!(!left.wait().unwrap().success());
    assert_eq!(strangers.try_wait().unwrap(), None);
    assert_eq!(place.directories(), 0);
    launch(&launcher).await.close().await;
    strangers.kill().unwrap();
    strangers.wait().unwrap();
}

#[tokio::test]
async fn when_the_agent_is_killed_its_browsers_end() {
    const ROOT: &str = "VENTUS_TEST_ROOT";
    let name = "browser::launch::tests::when_the_agent_is_killed_its_browsers_end";
    if let Ok(root) = std::env::var(ROOT) {
        // This is the agent: it starts browsers and waits for its end.
        let launcher = open(CHROMIUM, Path::new(&root)).await.unwrap();
        let browsers = [launch(&launcher).await, launch(&launcher).await];
        fs::write(Path::new(&root).join("up"), "").unwrap();
        std::future::pending::<()>().await;
        drop(browsers);
    }
    let place = Place::new();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ROOT, place.root())
        .spawn()
        .unwrap();
    let up = place.root().join("up");
    until(Duration::from_secs(30), "the agent's browsers are up", || up.exists()).await;
    assert!(place.processes().len() > 4);
    kill_process(Pid::from_child(&agent), Signal::KILL).unwrap();
    agent.wait().unwrap();
    until(SOON, "no browser is left", || place.processes().is_empty()).await;
    assert_eq!(place.directories(), 3);
    place.launcher(CHROMIUM).await;
    assert_eq!(place.directories(), 0);
}
