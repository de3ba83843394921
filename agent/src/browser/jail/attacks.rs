//! What a client cannot make a jailed browser do, by all that the protocol has: nothing stands
//! between these commands and Chrome, no guard and no multiplexer. Each attack is also made on
//! a browser without a jail, where it must succeed: else it would prove nothing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::Duration,
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::geteuid,
};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    browser::{
        Kind, LaunchOptions,
        flags::{self, Machine},
        process::Process,
        testing::{CHROMIUM, HEADLESS_SHELL, Place, until},
        users::Users,
    },
    limits::{Limited, Limits},
};

const SOON: Duration = Duration::from_secs(10);

/// A browser at the other end of its pipe.
struct Victim {
    kind: Kind,
    jailed: bool,
    place: Place,
    directory: PathBuf,
    process: Process,
    commands: File,
    answers: BufReader<File>,
    last_id: u64,
}

/// A page's session.
struct Page(String);

/// Makes an attack on both builds of Chrome, first without a jail, then in one.
async fn on_each_browser(mut attack: impl AsyncFnMut(&mut Victim)) {
    for binary in [CHROMIUM, HEADLESS_SHELL] {
        for jailed in [false, true] {
            let mut victim = Victim::start(Path::new(binary), jailed);
            attack(&mut victim).await;
            victim.process.end().await;
        }
    }
}

impl Victim {
    fn start(binary: &Path, jailed: bool) -> Self {
        let place = Place::new();
        fs::create_dir(place.root()).unwrap();
        fs::set_permissions(place.root(), fs::Permissions::from_mode(0o711)).unwrap();
        let users =
            geteuid().is_root().then(|| Users::new(Path::new("/run/ventus/users")).unwrap());
        let user = users.map(|users| users.claim().unwrap().unwrap());
        let id = user.as_ref().map(|user| user.id);
        let own = Directory::create(&place.root(), id).unwrap();
        let directory = own.path().to_owned();
        let isolation = Isolation::probe(binary, false);
        let limits = Limits::default();
        let jail = Jail { user: id, directory: &own, gateway: 1, isolation: &isolation, limits };
        let (from_us, commands) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (answers, to_us) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut command = jail.command(binary, from_us, to_us).unwrap();
        let kind = Kind::of(binary);
        let machine = Machine { kind, sandbox: true, shared_memory: true };
        command.args(flags::arguments(machine, &LaunchOptions::default(), &own, 1));
        let child = if jailed { jail.spawn(binary, command) } else { command.spawn() }.unwrap();
        let process = Process::new(child, own, user, Limited::free(), TaskTracker::new()).unwrap();
        let (commands, answers) = (commands.into(), BufReader::new(answers.into()));
        Self { kind, jailed, place, directory, process, commands, answers, last_id: 0 }
    }

    /// The result of a command to the browser, or to a page of it; null when it is refused.
    fn call(&mut self, page: Option<&Page>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(Page(session)) = page {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut message = Vec::new();
            self.answers.read_until(0, &mut message).unwrap();
            let message: Value = serde_json::from_slice(&message[..message.len() - 1]).unwrap();
            if message["id"] == self.last_id {
                return message["result"].clone();
            }
        }
    }

    /// A new page, in a new context of its own.
    fn page(&mut self, context: Value) -> Page {
        let context = self.call(None, "Target.createBrowserContext", context);
        let new = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        self.attached(new)
    }

    /// A new page in the context that every browser has.
    fn plain_page(&mut self) -> Page {
        self.attached(json!({ "url": "about:blank" }))
    }

    fn attached(&mut self, new: Value) -> Page {
        let target = self.call(None, "Target.createTarget", new)["targetId"].clone();
        let flat = json!({ "targetId": target, "flatten": true });
        let session = self.call(None, "Target.attachToTarget", flat)["sessionId"].clone();
        Page(session.as_str().unwrap().to_owned())
    }

    /// Why it failed to go there; empty when it did not.
    fn navigate(&mut self, page: &Page, url: &str) -> String {
        let done = self.call(Some(page), "Page.navigate", json!({ "url": url }));
        done["errorText"].as_str().unwrap_or_default().to_owned()
    }

    fn evaluate(&mut self, page: &Page, expression: &str) -> Value {
        let params = json!({ "expression": expression, "userGesture": true,
            "awaitPromise": true, "returnByValue": true });
        self.call(Some(page), "Runtime.evaluate", params)["result"]["value"].clone()
    }

    /// Whether a page shows a directory with this entry.
    fn lists(&mut self, page: &Page, entry: &str) -> bool {
        let row = format!("document.documentElement.outerHTML.includes('addRow(\"{entry}\"')");
        self.evaluate(page, &row) == true
    }

    /// A directory that everybody may use.
    fn open_to_all(&self) -> PathBuf {
        let path = self.place.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }
}

/// A context that is told to pass the gateway by.
fn past_the_gateway() -> Value {
    json!({ "proxyServer": "direct://" })
}

#[tokio::test]
async fn no_file_of_the_machine_is_shown() {
    on_each_browser(async |browser| {
        let page = browser.plain_page();
        let open = browser.open_to_all();
        fs::write(open.join("file"), "x").unwrap();
        let file = format!("file://{}", open.join("file").display());
        for url in [&file, "file:///etc/hostname"] {
            let failed = browser.navigate(&page, url);
            assert_eq!(failed, if browser.jailed { "net::ERR_ACCESS_DENIED" } else { "" }, "{url}");
        }
        fs::write(browser.directory.join("own"), "x").unwrap();
        let [open, own] =
            [&open, &browser.directory].map(|path| format!("file://{}/", path.display()));
        let other = browser.plain_page();
        for (url, entry) in [(&open[..], "file"), ("file:///etc/", "group")] {
            browser.navigate(&page, url); // there is a page, and in a jail nothing ever comes to it
            browser.navigate(&other, &own);
            until(SOON, "its own is listed", || browser.lists(&other, "own")).await;
            if browser.jailed {
                assert!(!browser.lists(&page, entry), "{url}, though there was the time");
            } else {
                until(SOON, url, || browser.lists(&page, entry)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_of_this_machine_is_reached_past_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    on_each_browser(async |browser| {
        let page = browser.page(past_the_gateway());
        // Without content there is no navigation, but an answer.
        let jailed = browser.jailed;
        let answered = if jailed { "net::ERR_NETWORK_ACCESS_DENIED" } else { "net::ERR_ABORTED" };
        assert_eq!(browser.navigate(&page, &url), answered);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_downloaded_to_outside_its_directory() {
    const DOWNLOAD: &str = "let a = document.createElement('a'); a.download = 'file.txt'; \
                            a.href = 'data:application/octet-stream,x'; a.click()";
    on_each_browser(async |browser| {
        let (outside, inside) = (browser.open_to_all(), browser.directory.join("downloads"));
        for directory in [&outside, &inside] {
            let allowed = json!({ "behavior": "allow", "downloadPath": directory });
            browser.call(None, "Browser.setDownloadBehavior", allowed);
            let page = browser.plain_page(); // one may download one thing without asking
            browser.evaluate(&page, DOWNLOAD);
            if !browser.jailed || directory == &inside {
                let file = directory.join("file.txt");
                until(SOON, "the download is there", || file.exists()).await;
            }
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), usize::from(!browser.jailed));
    })
    .await;
}

#[tokio::test]
async fn only_what_was_uploaded_can_be_given_to_a_page() {
    const INPUT: &str =
        "window.input = document.createElement('input'); input.type = 'file'; input";
    on_each_browser(async |browser| {
        let page = browser.plain_page();
        let uploads = browser.directory.join("uploads");
        for directory in [&browser.open_to_all(), &uploads] {
            let file = directory.join("file");
            fs::write(&file, "content").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            let input = json!({ "expression": INPUT });
            let input = browser.call(Some(&page), "Runtime.evaluate", input);
            let object = &input["result"]["objectId"];
            let chosen = json!({ "files": [file], "objectId": object });
            browser.call(Some(&page), "DOM.setFileInputFiles", chosen);
            let read = browser.evaluate(&page, "input.files[0].text().catch(error => error.name)");
            let may = !browser.jailed || directory == &uploads;
            let expected = if may { "content" } else { "NotReadableError" };
            assert_eq!(read, expected, "{}", file.display());
        }
    })
    .await;
}

/// The flag against it holds in the full browser; the headless shell does not know it.
#[tokio::test]
async fn webrtc_sends_nothing_past_the_gateway() {
    let asked = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    asked.set_nonblocking(true).unwrap();
    let was_asked = || asked.recv(&mut [0; 64]).is_ok();
    let gather = format!(
        "new Promise(done => {{ const peer = new RTCPeerConnection({{ iceServers: \
         [{{ urls: 'stun:{}' }}] }}); peer.createDataChannel('x'); \
         setTimeout(done, 2000, 'gathered'); \
         peer.createOffer().then(offer => peer.setLocalDescription(offer)) }})",
        asked.local_addr().unwrap()
    );
    on_each_browser(async |browser| {
        let page = browser.page(past_the_gateway());
        assert_eq!(browser.evaluate(&page, &gather), "gathered");
        if browser.jailed {
            assert!(!was_asked());
        } else if browser.kind == Kind::HeadlessShell {
            until(SOON, "it asks", was_asked).await;
            while was_asked() {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_sees_the_same_in_a_jail() {
    // Cores, time zone, languages, fonts by their widths, formats and the renderer of WebGL.
    const SEEN: &str = "(() => { const c = document.createElement('canvas'); \
         const d = c.getContext('2d'); const width = f => { d.font = '40px ' + f; \
         return d.measureText('Ventus ÄÖ 漢字').width }; const v = document.createElement('video'); \
         const g = document.createElement('canvas').getContext('webgl'); \
         return JSON.stringify([navigator.hardwareConcurrency, navigator.deviceMemory, \
         Intl.DateTimeFormat().resolvedOptions().timeZone, navigator.languages, \
         ['serif', 'sans-serif', 'monospace', 'Arial', 'emoji'].map(width), \
         ['video/mp4', 'video/webm; codecs=vp9', 'audio/mpeg'].map(t => v.canPlayType(t)), \
         g && g.getParameter(g.RENDERER), new Date(0).toLocaleString()]) })()";
    let mut outside = Value::Null;
    on_each_browser(async |browser| {
        let page = browser.plain_page();
        let seen = browser.evaluate(&page, SEEN);
        if browser.jailed {
            assert_eq!(seen, outside);
        } else {
            assert!(seen.as_str().unwrap().contains("WebGL"), "{seen}");
            outside = seen;
        }
    })
    .await;
}
