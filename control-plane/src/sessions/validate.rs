//! Reads the body of a create or a change, and finds all that is wrong with it at once.
//!
//! Unknown fields answer 400, fields that make no sense 422. `null` is the same as nothing.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use proto::{
    id::ProfileId,
    problem::{FieldError, Problem, Slug},
};
use serde_json::Value;

use super::{
    NewSession, Viewport, egress, proxy, save_profile::Target, store::LONGEST_SECONDS,
    wanted::Wanted,
};
use crate::{error::fault, profiles, storage_state};

/// Bounds of a number, both included.
type Bounds = std::ops::RangeInclusive<u32>;
const TIMEOUT_SECONDS: Bounds = 5..=LONGEST_SECONDS;
const KEEP_ALIVE_SECONDS: Bounds = 0..=3_600;
const EXTEND_SECONDS: Bounds = 1..=86_400;
const DRAIN_SECONDS: Bounds = 0..=86_400;
const VIEWPORT: Bounds = 100..=7_680;
const USER_AGENT_MAX: usize = 512;
const LABELS_MAX: usize = 32;
const LABEL_KEY_MAX: usize = 63;
const LABEL_VALUE_MAX: usize = 256;
/// Most faults that are told of one body.
const FAULTS_MAX: usize = 100;

/// The body of a create. Whether the region exists is for the store to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Create {
    /// Where it may run.
    pub region: Wanted,
    /// All the rest.
    pub session: NewSession,
}

/// The body of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// End the session.
    Release,
    /// New labels in place of the old ones.
    Labels(BTreeMap<String, String>),
}

/// Reads the body of `POST /v1/sessions`. `text` is how it was written.
pub fn create(body: &Value, text: &[u8]) -> Result<Create, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let region = Wanted::take(&mut body);
    let session = NewSession {
        timeout_seconds: body.number("timeout_seconds", TIMEOUT_SECONDS, Some(1_800)),
        keep_alive_seconds: body.number("keep_alive_seconds", KEEP_ALIVE_SECONDS, Some(0)),
        viewport: viewport(&mut body),
        user_agent: user_agent(&mut body),
        proxy: proxy::take(&mut body),
        egress: egress::take(&mut body),
        profile_id: profile_id(&mut body),
        storage_state: storage_state::take(&mut body, text),
        labels: labels(&mut body),
    };
    runtime_kind(&mut body);
    recording(&mut body);
    body.close();
    faults.settle(Create { region, session })
}

/// Reads the body of `PATCH /v1/sessions/{id}`.
pub fn change(body: &Value) -> Result<Change, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let status = body.take("status");
    if status.is_some_and(|status| status != "REQUEST_RELEASE") {
        body.invalid("status", "must be \"REQUEST_RELEASE\"");
    }
    let labelled = body.has("labels");
    let labels = labels(&mut body);
    if status.is_some() == labelled && body.is_object {
        body.faults.invalid.push(fault("", "exactly one of status and labels must be given"));
    }
    body.close();
    faults.settle(if labelled { Change::Labels(labels) } else { Change::Release })
}

/// Reads the body of `POST /v1/sessions/{id}/keepalive`: by how much to move the deadline.
pub fn keepalive(body: &Value) -> Result<u32, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let given = body.has("extend_seconds");
    let extend_seconds = body.number("extend_seconds", EXTEND_SECONDS, Some(0));
    body.close();
    faults.settle(if given { extend_seconds } else { 0 })
}

/// Reads the body of `POST /v1/agents/{id}/drain`: how long its sessions may go on, in seconds.
pub fn drain(body: &Value) -> Result<u32, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let default = Some(crate::agents::drain::DEFAULT_SECONDS);
    let deadline_seconds = body.number("deadline_seconds", DRAIN_SECONDS, default);
    body.close();
    faults.settle(deadline_seconds)
}

/// Reads the body of `POST /v1/sessions/{id}/save-profile`.
pub fn save_profile(body: &Value) -> Result<Target, Problem> {
    let mut faults = Faults::default();
    let mut body = Object::read(body, "", &mut faults);
    let named = body.has("name");
    if named == body.has("profile_id") && body.is_object {
        body.faults.invalid.push(fault("", "exactly one of name and profile_id must be given"));
    }
    let name = if named { profiles::name(&mut body) } else { String::new() };
    body.take("name"); // `null` is the same as nothing
    let profile = profile_id(&mut body);
    body.close();
    faults.settle(profile.map_or(Target::New(name), Target::Known))
}

/// Whether a label may have this key.
pub fn is_label_key(key: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'/' | b'-');
    key.len() <= LABEL_KEY_MAX
        && key.bytes().all(inner)
        && key.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn viewport(body: &mut Object<'_, '_>) -> Viewport {
    let default = Viewport { width: 1280, height: 720 };
    let Some(mut viewport) = body.object("viewport") else { return default };
    let chosen = Viewport {
        width: viewport.number("width", VIEWPORT, None),
        height: viewport.number("height", VIEWPORT, None),
    };
    viewport.close();
    chosen
}

fn user_agent(body: &mut Object<'_, '_>) -> Option<String> {
    let text = body.take("user_agent")?.as_str().unwrap_or_default();
    let visible = text.bytes().all(|c| c.is_ascii_graphic() || c == b' ');
    if text.trim().is_empty() || text.len() > USER_AGENT_MAX || !visible {
        body.invalid(
            "user_agent",
            format!("must be 1 to {USER_AGENT_MAX} visible ASCII characters"),
        );
    }
    Some(text.to_owned())
}

fn labels(body: &mut Object<'_, '_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(mut given) = body.object("labels") else { return labels };
    if given.members.len() > LABELS_MAX {
        given.faults.invalid.push(fault("/labels", format!("has more than {LABELS_MAX} labels")));
    }
    for (key, value) in std::mem::take(&mut given.members) {
        if !is_label_key(key) {
            let rule = format!(
                "the key must begin with a letter or digit and have at most {LABEL_KEY_MAX} \
                 letters, digits, dots, slashes, hyphens and underscores"
            );
            given.invalid(key, rule);
        }
        match value.as_str() {
            None => given.invalid(key, "must be a string"),
            Some(text) if text.chars().count() > LABEL_VALUE_MAX => {
                given.invalid(key, format!("must have at most {LABEL_VALUE_MAX} characters"));
            }
            // PostgreSQL cannot store it.
            Some(text) if text.contains('\0') => given.invalid(key, "must not contain NUL"),
            Some(text) => drop(labels.insert(key.to_owned(), text.to_owned())),
        }
    }
    labels
}

fn runtime_kind(body: &mut Object<'_, '_>) {
    let Some(kind) = body.take("runtime_kind") else { return };
    match kind.as_str() {
        Some("chromium") => (),
        Some("rda") => {
            body.invalid("runtime_kind", "this server runs only \"chromium\"");
            body.faults.special = Some(Slug::UnsupportedRuntime);
        }
        _ => body.invalid("runtime_kind", "must be \"chromium\" or \"rda\""),
    }
}

fn recording(body: &mut Object<'_, '_>) {
    let Some(mut recording) = body.object("recording") else { return };
    match recording.take("enabled") {
        None | Some(Value::Bool(false)) => (),
        Some(Value::Bool(true)) => recording.invalid("enabled", "recording is not yet supported"),
        Some(_) => recording.invalid("enabled", "must be true or false"),
    }
    recording.close();
}

/// Whether the profile exists is for the store to say, but what is no id names none.
pub(crate) fn profile_id(body: &mut Object<'_, '_>) -> Option<ProfileId> {
    let profile = body.take("profile_id")?;
    let id = profile.as_str().and_then(|id| id.parse().ok());
    if id.is_none() && profile.is_string() {
        body.invalid("profile_id", "the workspace has no profile with this id");
        body.faults.special = Some(Slug::UnknownProfile);
    } else if id.is_none() {
        body.invalid("profile_id", "must be a string");
    }
    id
}

/// What is wrong with a body.
#[derive(Default)]
pub(crate) struct Faults {
    unknown: Vec<FieldError>,
    invalid: Vec<FieldError>,
    /// A kind of problem of its own, if its fault is the only one.
    special: Option<Slug>,
}

impl Faults {
    pub(crate) fn settle<T>(self, good: T) -> Result<T, Problem> {
        let malformed = !self.unknown.is_empty();
        let mut errors = [self.unknown, self.invalid].concat();
        let count = errors.len();
        errors.truncate(FAULTS_MAX);
        let detail = match errors.as_slice() {
            [] => return Ok(good),
            [only] if only.pointer.is_empty() => format!("the body {}", only.detail),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => {
                let pointers: Vec<_> = several.iter().map(|fault| fault.pointer.as_str()).collect();
                format!("{count} faults, at {}", pointers.join(", "))
            }
        };
        let problem = match self.special {
            _ if malformed => Problem::malformed(detail),
            Some(slug) if count == 1 => Problem::new(slug, detail),
            _ => Problem::new(Slug::ValidationError, detail),
        };
        Err(problem.with_errors(errors))
    }
}

/// A JSON object whose members are taken out one by one.
pub(crate) struct Object<'a, 'f> {
    members: BTreeMap<&'a str, &'a Value>,
    at: String,
    faults: &'f mut Faults,
    pub(crate) is_object: bool,
}

impl<'a, 'f> Object<'a, 'f> {
    pub(crate) fn read(value: &'a Value, at: &str, faults: &'f mut Faults) -> Self {
        let is_object = value.is_object();
        if !is_object {
            faults.invalid.push(fault(at, "must be a JSON object"));
        }
        let members = value.as_object().into_iter().flatten();
        let members = members.map(|(name, value)| (name.as_str(), value)).collect();
        Self { members, at: at.to_owned(), faults, is_object }
    }

    /// Whether nothing is wrong with the whole body so far.
    pub(crate) fn is_faultless(&self) -> bool {
        self.faults.unknown.is_empty() && self.faults.invalid.is_empty()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<&'a Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    fn pointer(&self, name: &str) -> String {
        // RFC 6901, section 3.
        format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"))
    }

    pub(crate) fn invalid(&mut self, name: &str, detail: impl Into<String>) {
        let pointer = self.pointer(name);
        self.faults.invalid.push(fault(pointer, detail));
    }

    pub(crate) fn object(&mut self, name: &str) -> Option<Object<'a, '_>> {
        let value = self.take(name)?;
        Some(Object::read(value, &self.pointer(name), self.faults))
    }

    /// A number within bounds. Without a default it must be there.
    fn number(&mut self, name: &str, bounds: Bounds, default: Option<u32>) -> u32 {
        let Some(value) = self.take(name) else {
            if default.is_none() && self.is_object {
                self.invalid(name, "is required");
            }
            return default.unwrap_or_default();
        };
        // To JSON Schema 5.0 is an integer, and some clients write it so.
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
        let number = value.as_u64().or(whole.map(|number| number as u64));
        let number = number.and_then(|number| u32::try_from(number).ok());
        if let Some(number) = number.filter(|number| bounds.contains(number)) {
            return number;
        }
        self.invalid(
            name,
            format!("must be an integer from {} to {}", bounds.start(), bounds.end()),
        );
        0
    }

    /// A text that must be there, of 1 to `max` characters and on one line.
    pub(crate) fn line(&mut self, name: &str, max: usize) -> String {
        let given = self.take(name);
        let text = given.and_then(Value::as_str).unwrap_or_default();
        let fits = (1..=max).contains(&text.chars().count()) && !text.trim().is_empty();
        if given.is_none() && self.is_object {
            self.invalid(name, "is required");
        } else if given.is_some() && (!fits || text.chars().any(char::is_control)) {
            self.invalid(name, format!("must be 1 to {max} characters without line breaks"));
        }
        text.to_owned()
    }

    /// A member that must follow a rule, and be there if it is required.
    pub(crate) fn checked(
        &mut self,
        name: &str,
        required: bool,
        rule: &str,
        fits: impl FnOnce(&Value) -> bool,
    ) -> Option<&'a Value> {
        let Some(value) = self.take(name) else {
            if required && self.is_object {
                self.invalid(name, "is required");
            }
            return None;
        };
        if !fits(value) {
            self.invalid(name, rule);
        }
        Some(value)
    }

    /// A text that must be there and be one of `T`.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, rule: &str) -> Option<T> {
        let parse = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        self.checked(name, true, rule, |value| parse(value).is_some()).and_then(parse)
    }

    /// Whether a member is there, also as `null`; takes it out.
    pub(crate) fn strip(&mut self, name: &str) -> bool {
        self.members.remove(name).is_some()
    }

    /// Reads an array of objects one by one. What `read` leaves of one is not known.
    pub(crate) fn each(
        &mut self,
        name: &str,
        required: bool,
        mut read: impl FnMut(&mut Object<'a, '_>),
    ) {
        let items = self.checked(name, required, "must be an array", Value::is_array);
        let at = self.pointer(name);
        for (index, item) in items.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let mut item = Object::read(item, &format!("{at}/{index}"), self.faults);
            read(&mut item);
            item.close();
        }
    }

    /// The texts of an array of at most `max`, all of which `read` must be able to read.
    pub(crate) fn texts<E: Display>(
        &mut self,
        name: &str,
        max: usize,
        read: impl Fn(&str) -> Result<(), E>,
    ) -> Vec<String> {
        let rule = format!("must be an array of at most {max} strings");
        let fits = |value: &Value| value.as_array().is_some_and(|items| items.len() <= max);
        let items = self.checked(name, false, &rule, fits).and_then(Value::as_array);
        let at = self.pointer(name);
        let mut texts = Vec::new();
        for (index, item) in items.into_iter().flatten().take(max).enumerate() {
            let read = item.as_str().map(|text| read(text).map(|()| text.to_owned()));
            let why = match read {
                Some(Ok(text)) => {
                    texts.push(text);
                    continue;
                }
                Some(Err(why)) => why.to_string(),
                None => "must be a string".to_owned(),
            };
            self.faults.invalid.push(fault(format!("{at}/{index}"), why));
        }
        texts
    }

    /// Whatever is left is not known.
    pub(crate) fn close(self) {
        for name in self.members.keys() {
            let unknown = fault(self.pointer(name), format!("unknown field {name:?}"));
            self.faults.unknown.push(unknown);
        }
    }
}
