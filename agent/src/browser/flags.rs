//! The command line of a browser.
//!
//! Callers reach it only through [`LaunchOptions`]: there are no free flags. Nothing here
//! touches site isolation, service workers, popups or downloads: clients find Chrome as it
//! is, only quieter.

use std::{ffi::OsString, path::Path};

use super::{LaunchOptions, directory::Directory};

/// Which build of Chrome a binary is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The whole browser, run without a screen.
    Full,
    /// The old headless mode, now a program of its own: starts faster, has less.
    HeadlessShell,
}

impl Kind {
    /// Told by the binary's name: `chromium-headless-shell`, `chrome-headless-shell` and
    /// `headless_shell` are the ones in use.
    pub fn of(binary: &Path) -> Self {
        let name = binary.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("headless") { Self::HeadlessShell } else { Self::Full }
    }
}

/// Height of the tab strip and the toolbar of the full browser's window in pixels, which a
/// page does not get. Measured on Chromium 156; a test notices when it changes.
const BARS_HEIGHT: u32 = 87;

/// For every browser, each with its reason.
const COMMON: [&str; 35] = [
    // The control channel: no port is ever opened.
    "--remote-debugging-pipe",
    // Nobody is there to click these away.
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-search-engine-choice-screen",
    "--disable-infobars",
    "--disable-hang-monitor",
    "--disable-prompt-on-repost",
    // No traffic but the pages' own: updates, sync, reports, hints, pings.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-domain-reliability",
    "--metrics-recording-only",
    "--no-pings",
    // What Chromium 156 asks its vendor nevertheless: who is signed in, and for components on
    // demand. No flag stops it; so it asks where nobody is, which its gateway knows.
    "--gaia-url=https://browser.invalid",
    "--component-updater=url-source=https://browser.invalid/",
    // Behave as released, not as in the experiments that unbranded builds turn on.
    "--disable-field-trial-config",
    // No crash reports. Its handler process stays, and is ended with the rest: without it
    // (--disable-crashpad-for-testing) the network service of Chromium 156 dies at the first
    // navigation of an "FD ownership violation".
    "--disable-breakpad",
    // The gateway is the only way out, also to this machine; UDP would pass it by.
    "--proxy-bypass-list=<-loopback>",
    "--disable-quic",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    // Tools, not people, bring extensions; the built-in ones cost a process each.
    "--disable-extensions",
    "--disable-component-extensions-with-background-pages",
    // Pages in the background run at full speed: a client drives many at once.
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
    "--disable-ipc-flooding-protection",
    // Puppeteer and Playwright start Chrome with these; scripts depend on them.
    "--disable-back-forward-cache",
    "--disable-popup-blocking",
    "--allow-pre-commit-input",
    "--force-color-profile=srgb",
    // There is no keyring to ask, no speaker and no GPU (WebGL runs in software).
    "--password-store=basic",
    "--mute-audio",
    "--disable-gpu",
    DISABLED_FEATURES,
];

/// In this order: both big clients ask for the first three (changed request headers, http
/// turned into https, delayed first paint); then Chrome's own traffic on the local network
/// and to its vendor (hints, the time), and offers to translate.
const DISABLED_FEATURES: &str = "--disable-features=AcceptCHFrame,HttpsUpgrades,PaintHolding,\
     DialMediaRouteProvider,MediaRouter,OptimizationHints,NetworkTimeServiceQuerying,Translate";

/// What the machine decides about a command line.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Which build of Chrome it has.
    pub kind: Kind,
    /// Chrome's own sandbox.
    pub sandbox: bool,
    /// Whether `/dev/shm` is large enough for pages; otherwise files take its place.
    pub shared_memory: bool,
}

/// The arguments for one browser, without the program's name. `gateway` is the port of its
/// gateway on this machine.
pub fn arguments(
    machine: Machine,
    options: &LaunchOptions,
    directory: &Directory,
    gateway: u16,
) -> Vec<OsString> {
    let mut flags: Vec<OsString> = COMMON.iter().map(OsString::from).collect();
    flags.push(format!("--proxy-server=socks5://127.0.0.1:{gateway}").into());
    let mut profile = OsString::from("--user-data-dir=");
    profile.push(directory.profile());
    flags.push(profile);
    let (width, height) = options.viewport;
    match machine.kind {
        // The size is the window's, bars included; the screen (800x600 by default) must hold
        // it. As a flag it holds for every window, also in contexts made later; but popups
        // get it too, whatever size the page asks for, and no window is narrower than 500.
        Kind::Full => {
            let height = height + BARS_HEIGHT;
            flags.push("--headless=new".into());
            flags.push(format!("--window-size={width},{height}").into());
            flags.push(format!("--screen-info={{{width}x{height}}}").into());
        }
        // Its windows have no bars, and its screen follows them.
        Kind::HeadlessShell => flags.push(format!("--window-size={width},{height}").into()),
    }
    if let Some(user_agent) = &options.user_agent {
        flags.push(format!("--user-agent={user_agent}").into());
    }
    if !machine.sandbox {
        flags.push("--no-sandbox".into());
    }
    if !machine.shared_memory {
        flags.push("--disable-dev-shm-usage".into());
    }
    // The first page. The headless shell makes none by itself.
    flags.push("about:blank".into());
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_by_its_name() {
        for (binary, kind) in [
            ("/usr/lib/chromium/chromium", Kind::Full),
            ("/opt/google/chrome/chrome", Kind::Full),
            ("/usr/lib/chromium/chromium-headless-shell", Kind::HeadlessShell),
            ("/opt/headless/headless_shell", Kind::HeadlessShell),
            ("/opt/headless/chrome", Kind::Full),
        ] {
            assert_eq!(Kind::of(Path::new(binary)), kind, "{binary}");
        }
    }

    #[test]
    fn the_sandbox_is_off_only_when_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), None).unwrap();
        for sandbox in [true, false] {
            let machine = Machine { kind: Kind::Full, sandbox, shared_memory: true };
            let flags = arguments(machine, &LaunchOptions::default(), &directory, 1);
            assert_eq!(flags.iter().any(|flag| flag == "--no-sandbox"), !sandbox);
        }
    }

    #[test]
    fn a_user_agent_is_one_argument_whatever_it_holds() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::create(root.path(), None).unwrap();
        let machine = Machine { kind: Kind::Full, sandbox: true, shared_memory: true };
        let options = LaunchOptions {
            user_agent: Some("Mine --no-sandbox \"x\"".into()),
            ..LaunchOptions::default()
        };
        let flags = arguments(machine, &options, &directory, 1);
        assert!(flags.iter().any(|flag| flag == "--user-agent=Mine --no-sandbox \"x\""));
        assert!(!flags.iter().any(|flag| flag == "--no-sandbox"));
    }
}
