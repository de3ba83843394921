//! Where a page may be taken.
//!
//! A URL is read as browsers read it (WHATWG URL), so that case, blanks in front of it and
//! line ends within it make no difference. Only schemes of the web are allowed: everything
//! else (`file`, `chrome`, `devtools`, `view-source`, …) is the machine's or the browser's.

use url::Url;

/// Why a URL is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no URL.
    Invalid,
    /// It leads out of the web.
    Refused,
}

/// What to tell Chrome instead of `text`, which it reads in the same way.
pub(super) fn judge(text: &str) -> Result<String, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::Invalid)?;
    let allowed = match url.scheme() {
        "http" | "https" | "data" | "blob" | "javascript" => true,
        // Others are pages of the browser: about:version was chrome://version once.
        "about" => matches!(url.path(), "blank" | "srcdoc"),
        _ => false,
    };
    if !allowed {
        return Err(Fault::Refused);
    }
    // Written plainly the scheme has one reading, and the rest is a matter of the web's.
    let plain =
        text.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(url.scheme()));
    Ok(if plain { text.to_owned() } else { url.into() })
}

/// Whether a top-level page at this URL is one of the browser's own, or a file.
pub(in crate::cdp) fn is_inside(url: &str) -> bool {
    const INSIDE: [&str; 9] = [
        "chrome",
        "chrome-extension",
        "chrome-native",
        "chrome-search",
        "chrome-untrusted",
        "devtools",
        "file",
        "filesystem",
        "view-source",
    ];
    url.split_once(':').is_some_and(|(scheme, _)| INSIDE.contains(&scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_web_is_allowed_however_it_is_written() {
        for url in [
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "file:/etc/passwd",
            "file:etc/passwd",
            "file://localhost/etc/passwd",
            "file:///etc/%70asswd",
            "  file:///etc/passwd",
            "\t\nfile:///etc/passwd",
            "fi\nle:///etc/passwd",
            "f\til\re:///etc/passwd",
            "\u{1}file:///etc/passwd",
            "file:\\\\\\etc\\passwd",
            "file:////etc/passwd",
            "view-source:file:///etc/passwd",
            "VIEW-SOURCE:https://x/",
            "filesystem:file:///x",
            "chrome://version",
            "chrome:version",
            "chrome-untrusted://x",
            "chrome-extension://x/",
            "devtools://devtools/bundled/inspector.html",
            "about:version",
            "about:settings",
            "ftp://x/",
            "ws://x/",
            "mailto:a@b",
            "intent:x",
            "externalfile:x",
            "content://x",
        ] {
            assert_eq!(judge(url), Err(Fault::Refused), "{url:?}");
        }
        for url in ["", "nonsense", "//x", "/etc/passwd", "http://", ":x"] {
            assert_eq!(judge(url), Err(Fault::Invalid), "{url:?}");
        }
    }

    #[test]
    fn what_is_plain_goes_on_as_it_came_and_the_rest_as_it_was_read() {
        for url in [
            "http://example.com",
            "HTTPS://Example.com/a b",
            "data:text/html,<p> x\n",
            "about:blank",
            "about:blank#x",
            "about:srcdoc",
            "blob:https://x/1",
            "javascript:alert( 1 )",
        ] {
            assert_eq!(judge(url).as_deref(), Ok(url));
        }
        assert_eq!(judge(" ht\ntp://example.com").as_deref(), Ok("http://example.com/"));
        assert_eq!(judge("\u{0}about:blank").as_deref(), Ok("about:blank"));
    }

    #[test]
    fn a_page_of_the_browser_itself_is_known_by_its_scheme() {
        for (url, inside) in [
            ("chrome://downloads/", true),
            ("view-source:http://x/", true),
            ("devtools://devtools/bundled/devtools_app.html", true),
            ("file:///etc/hostname", true),
            ("chrome-error://chromewebdata/", false),
            ("https://chrome/", false),
            ("about:blank", false),
            ("", false),
        ] {
            assert_eq!(is_inside(url), inside, "{url}");
        }
    }
}
