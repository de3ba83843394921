//! Whose CDP session is whose: what decides where a message of Chrome's goes.
//!
//! A session belongs to the client that was told of it. That is learnt from Chrome's own
//! messages, in their order: `Target.attachedToTarget` events, and the answers to the
//! commands that attach without one. What a client does not own does not exist for it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use serde::Deserialize;

use super::{barred::Barred, client::Client, contexts::Contexts, hidden::Hidden, visited::Visited};

/// A CDP session's id: 32 hexadecimal digits, as Chrome writes its unguessable tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(u128);

/// Digits of a session's id.
pub(super) const KEY_DIGITS: usize = 32;

impl Key {
    /// Reads the digits as Chrome writes them: upper case, no sign.
    pub fn read(digits: &[u8]) -> Option<Self> {
        let upper = |c: &u8| c.is_ascii_digit() || (b'A'..=b'F').contains(c);
        if digits.len() != KEY_DIGITS || !digits.iter().all(upper) {
            return None;
        }
        u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(Self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}", self.0)
    }
}

/// How a client addresses a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Address {
    /// It is the connection itself: the client neither sends nor sees the id.
    Connection,
    /// By `sessionId` beside the command.
    Flat,
    /// By `Target.sendMessageToTarget`, without `flatten`.
    Legacy,
}

pub(super) struct Session {
    pub client: Arc<Client>,
    pub address: Address,
    parent: Option<Key>,
    children: HashSet<Key>,
    /// Its `Target.setAutoAttach` was made without `flatten`.
    legacy_auto_attach: bool,
}

/// A command whose answer changes who owns what, or what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Special {
    Attach { flat: bool },
    Detach(Key),
    AutoAttach { legacy: bool },
    Close,
    Dispose,
}

impl Special {
    /// Tells whether a command is one of them.
    pub fn of(method: &str, params: Option<&[u8]>) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Params {
            session_id: String,
            flatten: bool,
        }
        let read = || -> Params {
            params.and_then(|params| serde_json::from_slice(params).ok()).unwrap_or_default()
        };
        match method {
            "Target.attachToTarget" => Some(Self::Attach { flat: read().flatten }),
            "Target.attachToBrowserTarget" => Some(Self::Attach { flat: true }),
            "Target.detachFromTarget" => Key::read(read().session_id.as_bytes()).map(Self::Detach),
            "Target.setAutoAttach" => Some(Self::AutoAttach { legacy: !read().flatten }),
            "Browser.close" => Some(Self::Close),
            "Target.disposeBrowserContext" => Some(Self::Dispose),
            _ => None,
        }
    }
}

/// The sessions of one browser, each with its owner.
#[derive(Default)]
pub(super) struct Routes {
    sessions: HashMap<Key, Session>,
    /// Commands in flight whose answers matter here.
    special: HashMap<(Key, i32), Special>,
    /// The agent's own page, which no client sees.
    pub hidden: Hidden,
    /// Targets that are none for clients.
    pub barred: Barred,
    /// What contexts with a proxy hold.
    pub contexts: Contexts,
    /// Where pages have been.
    pub visited: Visited,
}

impl Routes {
    pub fn get(&self, key: Key) -> Option<&Session> {
        self.sessions.get(&key)
    }

    /// Whether this client may name this session beside a command.
    pub fn owns(&self, client: &Arc<Client>, key: Key) -> bool {
        self.get(key).is_some_and(|session| {
            session.address == Address::Flat && Arc::ptr_eq(&session.client, client)
        })
    }

    /// Remembers a command that matters when it is answered.
    pub fn expect(&mut self, key: Key, id: i32, special: Special) {
        self.special.insert((key, id), special);
    }

    pub fn expects_any(&self) -> bool {
        !self.special.is_empty()
    }

    /// Makes a session the client's own connection.
    pub fn connect(&mut self, key: Key, client: Arc<Client>) {
        self.insert(key, client, Address::Connection, None);
    }

    fn insert(&mut self, key: Key, client: Arc<Client>, address: Address, parent: Option<Key>) {
        if let Some(parent) = parent.and_then(|parent| self.sessions.get_mut(&parent)) {
            parent.children.insert(key);
        }
        self.sessions.entry(key).or_insert(Session {
            client,
            address,
            parent,
            children: HashSet::new(),
            legacy_auto_attach: false,
        });
    }

    /// `Target.attachedToTarget` came for `parent`.
    pub fn attached(&mut self, parent: Key, child: Key) {
        let Some(session) = self.sessions.get(&parent) else { return };
        let address = if session.legacy_auto_attach { Address::Legacy } else { Address::Flat };
        self.insert(child, session.client.clone(), address, Some(parent));
    }

    /// `key` is gone, and with it all that was attached through it.
    pub fn remove(&mut self, key: Key) -> Option<Session> {
        let session = self.sessions.remove(&key)?;
        if let Some(parent) = session.parent.and_then(|parent| self.sessions.get_mut(&parent)) {
            parent.children.remove(&key);
        }
        self.special.retain(|(of, _), _| *of != key);
        self.hidden.session_gone(key);
        self.contexts.session_gone(key);
        for child in &session.children {
            self.remove(*child);
        }
        Some(session)
    }

    /// An answer came: settles what its command was remembered for.
    pub fn answered(&mut self, key: Key, id: i32, answer: &[u8]) -> Option<(Special, bool)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            result: Option<Attached>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Attached {
            #[serde(default)]
            session_id: String,
        }
        let special = self.special.remove(&(key, id))?;
        let result = serde_json::from_slice(answer).ok().and_then(|answer: Answer| answer.result);
        let Some(result) = result else { return Some((special, false)) };
        let attached = Key::read(result.session_id.as_bytes());
        match (special, attached) {
            (Special::Attach { flat }, Some(child)) => {
                self.attached(key, child);
                if let Some(session) = self.sessions.get_mut(&child) {
                    session.address = if flat { Address::Flat } else { Address::Legacy };
                }
            }
            // Only what was attached through this very session can be detached by it.
            (Special::Detach(child), _)
                if self.get(child).is_some_and(|session| session.parent == Some(key)) =>
            {
                self.remove(child);
            }
            (Special::AutoAttach { legacy }, _) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.legacy_auto_attach = legacy;
                }
            }
            _ => {}
        }
        Some((special, true))
    }
}
