//! The agent's own page beside those of the clients, who must not notice it, and sessions that
//! clients are not to have.
//!
//! They would hear of it in `Target.*` events, be attached to it and perhaps hold it at its
//! start, and find it in lists of targets. Chrome tells of a page while it carries out the
//! command that makes it, before it answers with the page's id. So:
//!
//! ```text
//! about to be made ─▶ messages are held ─▶ made: its ids are known ─▶ they go on, filtered
//!     ─▶ destroyed ─▶ one command later nothing of it can follow ─▶ forgotten
//! ```
//!
//! What is held stays in order. It is what Chrome says while it makes one page.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    routes::Key,
    tail::{answered_id, session_at_tail},
};

/// What messages about targets begin with.
pub(super) const TARGET_EVENT: &[u8] = b"{\"method\":\"Target.";

/// The agent's own page on one browser, if there is one.
#[derive(Default)]
pub(super) struct Hidden {
    /// What came while the page is being made.
    held: Option<VecDeque<BytesMut>>,
    /// What was held and may go on.
    released: VecDeque<BytesMut>,
    page: Option<Page>,
    /// Sessions that clients own without knowing, with the one that they came through.
    dismissed: HashMap<Key, Key>,
    /// Commands that end those: the client's session, and the number.
    dismissals: HashSet<(Key, i32)>,
}

struct Page {
    /// The page, and the tab that Chrome makes with it.
    targets: Vec<String>,
    /// How many of them are still there.
    left: usize,
    /// The agent's session on it, and who listens there.
    session: Option<(Key, mpsc::UnboundedSender<Bytes>)>,
    /// Room for one such page.
    _permit: OwnedSemaphorePermit,
}

/// What becomes of a message for a client.
pub(super) enum Verdict {
    /// It goes out.
    Show,
    /// It goes out like this.
    Instead(BytesMut),
    /// It does not go out.
    Hide,
    /// It does not go out, and the session that it tells of is to end.
    Dismiss(Key),
}

/// What an event of the `Target` domain is about, as far as it matters here.
#[derive(Deserialize)]
pub(super) struct TargetNews {
    pub method: String,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Params {
    session_id: String,
    target_id: String,
    target_info: Option<Info>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Info {
    target_id: String,
    r#type: String,
    url: String,
}

impl TargetNews {
    pub fn read(message: &[u8]) -> Option<Self> {
        if !message.starts_with(TARGET_EVENT) {
            return None;
        }
        serde_json::from_slice(message).ok()
    }

    pub fn target(&self) -> &str {
        self.params.target_info.as_ref().map_or(&self.params.target_id, |info| &info.target_id)
    }

    /// Where the target is; empty when the event does not say.
    pub fn url(&self) -> &str {
        self.params.target_info.as_ref().map_or("", |info| &info.url)
    }

    /// The scheme of that URL: the rest of it is nobody's business.
    pub fn scheme(&self) -> &str {
        self.url().split(':').next().unwrap_or_default()
    }

    /// What kind of target it is; empty when the event does not say.
    pub fn kind(&self) -> &str {
        self.params.target_info.as_ref().map_or("", |info| &info.r#type)
    }

    fn session(&self) -> Option<Key> {
        Key::read(self.params.session_id.as_bytes())
    }

    fn makes(&self, kind: &str) -> bool {
        let info = self.params.target_info.as_ref();
        self.method == "Target.targetCreated" && info.is_some_and(|info| info.r#type == kind)
    }
}

impl Hidden {
    /// Chrome makes the page now.
    pub fn hold_from_now(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Keeps a message while the page is being made; the answers to the agent's own commands
    /// pass.
    pub fn hold(&mut self, message: BytesMut) -> Option<BytesMut> {
        let Some(held) = &mut self.held else { return Some(message) };
        if message.starts_with(b"{\"id\":") && session_at_tail(&message).is_none() {
            return Some(message);
        }
        held.push_back(message);
        None
    }

    /// The next message that was held and may go on.
    pub fn released(&mut self) -> Option<BytesMut> {
        self.released.pop_front()
    }

    /// The page could not be made.
    pub fn not_made(&mut self) {
        self.released = self.held.take().unwrap_or_default();
    }

    /// The page was made, and with it the tab that Chrome told of just before.
    pub fn made(&mut self, target: &str, permit: OwnedSemaphorePermit) {
        self.not_made();
        let mut targets = vec![target.to_owned()];
        let mut tab = None;
        for message in self.released.iter().filter(|message| session_at_tail(message).is_none()) {
            let Some(news) = TargetNews::read(message) else { continue };
            if news.makes("tab") {
                tab = Some(news.target().to_owned());
            } else if news.method == "Target.targetCreated" && news.target() == target {
                targets.extend(tab.take());
            }
        }
        self.page = Some(Page { left: targets.len(), targets, session: None, _permit: permit });
    }

    /// The agent's session on the page; what is said there goes to `events`.
    pub fn attached(&mut self, session: Key, events: mpsc::UnboundedSender<Bytes>) {
        if let Some(page) = &mut self.page {
            page.session = Some((session, events));
        }
    }

    /// Whether this is the agent's session on the page.
    pub fn is_session(&self, key: Key) -> bool {
        self.page
            .as_ref()
            .and_then(|page| page.session.as_ref())
            .is_some_and(|(own, _)| *own == key)
    }

    /// Passes on what was said on the agent's session.
    pub fn said(&self, message: Bytes) {
        if let Some((_, events)) = self.page.as_ref().and_then(|page| page.session.as_ref()) {
            let _ = events.send(message); // no one listens when the page is about to be closed
        }
    }

    /// The agent's session has ended: whoever listens there hears that nothing follows.
    pub fn detached(&mut self) {
        if let Some(page) = &mut self.page {
            page.session = None;
        }
    }

    /// Whether there is anything to hide.
    pub fn is_there(&self) -> bool {
        self.page.is_some() || !self.dismissed.is_empty() || !self.dismissals.is_empty()
    }

    /// Whether this target is not shown.
    pub fn hides(&self, target: &str) -> bool {
        self.page.as_ref().is_some_and(|page| page.targets.iter().any(|hidden| hidden == target))
    }

    /// Takes what is hidden off the answer to the agent's own `Target.getTargets`.
    pub fn leave_out(&self, result: &mut Value) {
        if self.is_there()
            && let Some(infos) = result["targetInfos"].as_array_mut()
        {
            infos.retain(|info| !self.hides(info["targetId"].as_str().unwrap_or_default()));
        }
    }

    /// A target is gone. `true` when it was the last that is hidden.
    pub fn destroyed(&mut self, target: &str) -> bool {
        if !self.hides(target) {
            return false;
        }
        self.page.as_mut().is_some_and(|page| {
            page.left = page.left.saturating_sub(1);
            page.left == 0
        })
    }

    /// Nothing of the page can follow.
    pub fn forget(&mut self) {
        self.page = None;
    }

    /// A command was sent through a client's session to end one that it is not to have.
    pub fn dismissed(&mut self, parent: Key, child: Key, id: i32) {
        self.dismissed.insert(child, parent);
        self.dismissals.insert((parent, id));
    }

    /// A client's session is gone: nothing more comes through it.
    pub fn session_gone(&mut self, parent: Key) {
        self.dismissed.retain(|_, of| *of != parent);
        self.dismissals.retain(|(of, _)| *of != parent);
    }

    /// Decides about a message for the client that owns the session `key`.
    pub fn judge(&mut self, key: Key, message: &[u8]) -> Verdict {
        if !self.is_there() {
            return Verdict::Show;
        }
        if let Some(news) = TargetNews::read(message) {
            return self.judge_news(&news);
        }
        let Some(id) = answered_id(message) else { return Verdict::Show };
        if self.dismissals.remove(&(key, id)) {
            return Verdict::Hide;
        }
        let Some(page) = &self.page else { return Verdict::Show };
        // The ids are unguessable: an answer that names one lists targets.
        if page.targets.iter().any(|id| memmem::find(message, id.as_bytes()).is_some())
            && let Some(instead) = page.without(id, message)
        {
            return Verdict::Instead(instead);
        }
        Verdict::Show
    }

    fn judge_news(&mut self, news: &TargetNews) -> Verdict {
        let session = news.session();
        if self.hides(news.target()) {
            return match session {
                Some(child) if news.method == "Target.attachedToTarget" => Verdict::Dismiss(child),
                _ => Verdict::Hide,
            };
        }
        match session {
            Some(child) if self.dismissed.contains_key(&child) => {
                if news.method == "Target.detachedFromTarget" {
                    self.dismissed.remove(&child);
                }
                Verdict::Hide
            }
            _ => Verdict::Show,
        }
    }
}

impl Page {
    /// The answer to `Target.getTargets` without what is hidden; the rest as Chrome wrote it.
    fn without(&self, id: i32, message: &[u8]) -> Option<BytesMut> {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            result: Listed<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Listed<'a> {
            #[serde(borrow)]
            target_infos: Vec<&'a RawValue>,
        }
        let answer: Answer<'_> = serde_json::from_slice(message).ok()?;
        let session = session_at_tail(message)?;
        let hides = |info: &&str| self.targets.iter().any(|hidden| info.contains(hidden));
        let infos = answer.result.target_infos.iter().map(|info| info.get());
        let shown = infos.filter(|info| !hides(info)).collect::<Vec<_>>().join(",");
        let text = format!(
            r#"{{"id":{id},"result":{{"targetInfos":[{shown}]}},"sessionId":"{session}"}}"#
        );
        Some(text.as_bytes().into())
    }
}
