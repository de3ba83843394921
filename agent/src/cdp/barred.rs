//! Targets that clients get no hold of: the browser's own surfaces, and pages that are not of
//! the web.
//!
//! A page of the browser's own (`chrome:`, `devtools:`, …) or a file can do more than a page of
//! the web. Clients cannot navigate there, but keys of theirs may open one (Ctrl+J, Ctrl+U,
//! F12), so such a page is closed as soon as Chrome tells of it. Surfaces such as the address
//! bar's popup stay, as everything else about them; clients are not attached to them.

use std::collections::HashSet;

use super::{guard::is_inside, hidden::TargetNews};

/// Those that are there now.
#[derive(Default)]
pub(super) struct Barred {
    targets: HashSet<String>,
}

impl Barred {
    /// Whether clients may not attach to this target.
    pub fn holds(&self, target: &str) -> bool {
        self.targets.contains(target)
    }

    /// Chrome told of a target. `true`: it is to be closed.
    pub fn heard(&mut self, news: &TargetNews) -> bool {
        if news.method == "Target.targetDestroyed" || !is_barred(news.kind(), news.url()) {
            self.targets.remove(news.target());
            return false;
        }
        self.targets.insert(news.target().to_owned()) && news.kind() != SURFACE
    }
}

/// What Chrome calls its own surfaces.
const SURFACE: &str = "browser_ui";

/// Whether a target of this kind at this URL is none for clients.
pub(super) fn is_barred(kind: &str, url: &str) -> bool {
    // Others belong to a page: the PDF viewer's frame is an extension's, and is not shut.
    kind == SURFACE || matches!(kind, "page" | "other" | "app") && is_inside(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(event: &str, kind: &str, url: &str) -> TargetNews {
        let text = format!(
            r#"{{"method":"Target.{event}","params":{{"targetInfo":{{"targetId":"T","type":"{kind}","url":"{url}"}}}}}}"#
        );
        TargetNews::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_page_that_leaves_the_web_is_closed_once() {
        let mut barred = Barred::default();
        assert!(!barred.heard(&news("targetCreated", "page", "about:blank")));
        assert!(!barred.holds("T"));
        assert!(barred.heard(&news("targetInfoChanged", "page", "chrome://downloads/")));
        assert!(!barred.heard(&news("targetInfoChanged", "page", "chrome://downloads/")));
        assert!(barred.holds("T"));
        let gone = br#"{"method":"Target.targetDestroyed","params":{"targetId":"T"}}"#;
        assert!(!barred.heard(&TargetNews::read(gone).unwrap()));
        assert!(!barred.holds("T"));
    }

    #[test]
    fn the_browsers_surfaces_stay_and_are_barred() {
        let mut barred = Barred::default();
        assert!(!barred.heard(&news("targetCreated", "browser_ui", "chrome://omnibox-popup/")));
        assert!(barred.holds("T"));
    }

    #[test]
    fn what_belongs_to_a_page_of_the_web_is_the_clients() {
        for (kind, url, is) in [
            ("page", "https://example.com/", false),
            ("page", "", false),
            ("page", "chrome-error://chromewebdata/", false),
            ("iframe", "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai/index.html", false),
            ("service_worker", "https://example.com/sw.js", false),
            ("page", "file:///etc/hostname", true),
            ("other", "devtools://devtools/bundled/devtools_app.html", true),
        ] {
            assert_eq!(is_barred(kind, url), is, "{kind} {url}");
        }
    }
}
