//! The mails of a server that has no SMTP: files in its data directory.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

/// How long a mail may take to be written.
const ARRIVAL: Duration = Duration::from_secs(3);
/// How often to look for it.
const LOOK: Duration = Duration::from_millis(50);

/// The folder of mails, and which of them were there before.
pub struct Mail {
    dir: PathBuf,
    before: HashSet<OsString>,
}

impl Mail {
    /// Looks at what there is now.
    pub fn of(data_dir: &Path) -> Self {
        let dir = data_dir.join("mail");
        let before = names(&dir).collect();
        Self { dir, before }
    }

    /// Waits for a new mail to this address, and answers the link in it. `None` when none
    /// comes, or none that this user may read.
    pub async fn link_to(&self, email: &str) -> Option<String> {
        let end = Instant::now() + ARRIVAL;
        loop {
            let new = names(&self.dir).filter(|name| !self.before.contains(name));
            let mails = new.filter_map(|name| fs::read_to_string(self.dir.join(name)).ok());
            let mut links = mails.filter(|mail| is_to(mail, email)).filter_map(|m| link_in(&m));
            if let Some(link) = links.next() {
                return Some(link);
            }
            if Instant::now() > end {
                return None;
            }
            sleep(LOOK).await;
        }
    }
}

fn names(dir: &Path) -> impl Iterator<Item = OsString> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "eml"))
}

fn is_to(mail: &str, email: &str) -> bool {
    let mut to = mail.lines().filter_map(|line| line.strip_prefix("To:"));
    to.any(|to| to.to_lowercase().contains(&email.to_lowercase()))
}

/// The sign-in link in a mail, whose text may be quoted-printable (RFC 2045, 6.7).
fn link_in(mail: &str) -> Option<String> {
    let text = mail.replace("=\r\n", "").replace("=\n", "").replace("=3D", "=");
    let (before, _) = text.split_once("#token=")?;
    let start =
        before.rfind(|c: char| c.is_whitespace() || "<>\"'".contains(c)).map_or(0, |n| n + 1);
    let link = &text[start..];
    let token = token_in(link)?;
    Some(format!("{}#token={token}", &before[start..]))
}

/// The token of a link or an invitation in a text.
pub fn token_in(text: &str) -> Option<&str> {
    let start = ["vm_", "vi_"].iter().filter_map(|kind| text.find(kind)).min()?;
    let belongs = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let end = text[start..].find(|c| !belongs(c)).map_or(text.len(), |length| start + length);
    let token = text[start..end].trim_end_matches('.');
    (token.len() > 3).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "https://v.example/sign-in#token=vm_01K.a-b_c";

    #[test]
    fn a_link_is_found_however_the_mail_is_written() {
        let plain = format!("To: a@x\r\n\r\nOpen {LINK} to sign in.\r\n");
        let quoted = LINK.replace('=', "=3D").replace("v.ex", "v.=\r\nex");
        let quoted = format!("To: a@x\r\n\r\n<{quoted}>\r\n");
        let last = format!("To: a@x\r\n\r\n{LINK}.\r\n");
        for mail in [plain, quoted, last] {
            assert_eq!(link_in(&mail).as_deref(), Some(LINK), "{mail}");
        }
        assert_eq!(link_in("To: a@x\r\n\r\nhello"), None);
    }

    #[test]
    fn a_token_is_taken_from_whatever_was_pasted() {
        for text in [LINK, "vm_01K.a-b_c", "  vm_01K.a-b_c\n", "<vm_01K.a-b_c>"] {
            assert_eq!(token_in(text), Some("vm_01K.a-b_c"), "{text}");
        }
        for text in ["", "vm_", "hello", "vs_01K.x"] {
            assert_eq!(token_in(text), None, "{text}");
        }
    }

    #[test]
    fn a_mail_is_for_whom_it_says() {
        let mail = "From: v@x\r\nTo: Ann <Ann@X>\r\n\r\nb@x";
        assert!(is_to(mail, "ann@x"));
        assert!(!is_to(mail, "b@x") && !is_to(mail, "v@x"));
    }
}
