//! What a client may tell its browser.
//!
//! CDP is an interface to the browser's process: files, downloads, proxies, extensions, ports.
//! Whoever holds a connect URL has the session's browser and nothing else, so every command is
//! looked up in one [`table`] before it goes to Chrome. Most pass as they came. Some depend on
//! their arguments: these are read strictly, judged, perhaps changed, and what was judged is
//! what is sent, never the client's bytes. The rest is refused, as is what nobody reviewed.
//!
//! This is the second layer. The jail and the gateway must hold without it.

mod files;
#[cfg(test)]
mod page;
mod rules;
mod sizes;
mod strict;
mod table;
#[cfg(test)]
mod tests;
mod urls;

use std::{borrow::Cow, fmt, path::Path};

use serde_json::{Map, Value};

pub(super) use self::urls::is_inside;
use self::{files::Files, rules::Rule, table::Class, urls::Fault};
use super::scan::scan;

/// Deepest nesting of messages inside messages; clients use one level.
const NESTING_MAX: u32 = 4;

/// Finds the way through the session's gateway to a proxy that a client names for a context, or
/// why that proxy is not used.
pub type ContextProxies = Box<dyn Fn(&str) -> Result<ContextProxy, String> + Send + Sync>;

/// A way to a client's proxy.
pub struct ContextProxy {
    /// What Chrome is told as `proxyServer`.
    pub server: String,
    /// Dropped, it ends the way.
    pub held: Box<dyn Send>,
}

/// A command that may be carried out.
#[derive(Default)]
pub(super) struct Judged {
    /// With these arguments instead of its own.
    pub arguments: Option<Object>,
    /// What the context that it makes needs for as long as it is there.
    pub proxy: Option<Box<dyn Send>>,
}

type Object = Map<String, Value>;

/// What is done about a method that depends on its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Only where the web is. Chrome's own words for what is no URL.
    Navigate,
    /// The same; what is no URL is an empty page. No window without bounds.
    CreateTarget,
    /// Only where the web is.
    Url,
    /// Not to the browser's own surfaces.
    Attach,
    /// The message inside is judged like any other.
    Open,
    /// Only arguments with one meaning: sessions are followed by them.
    Follow,
    /// Only the session's files.
    Files,
    /// The same for what is dragged.
    Drag,
    /// Into the session's directory.
    Downloads,
    /// Proxies behind the session's gateway; no exemptions.
    Context,
    /// No picture without bounds, here and below.
    Metrics,
    /// See [`Task::Metrics`].
    Screenshot,
    /// See [`Task::Metrics`].
    Pdf,
    /// See [`Task::Metrics`].
    Area,
    /// See [`Task::Metrics`].
    Window,
    /// Only to the client.
    Trace,
}

/// Why a command is not carried out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal(Cow<'static, str>);

impl Refusal {
    fn by(rule: &Rule) -> Self {
        Self::because(rule, rule.why)
    }

    fn because(rule: &Rule, why: &str) -> Self {
        Self(format!("refused by policy: {}: {why}", rule.name).into())
    }

    /// The answer to the client, on the session that the command named.
    pub fn answer(&self, id: i32, session: &str) -> String {
        let message = Value::from(self.0.as_ref());
        let mut answer = format!(r#"{{"id":{id},"error":{{"code":-32000,"message":{message}}}"#);
        if !session.is_empty() {
            answer.push_str(&format!(r#","sessionId":{}"#, Value::from(session)));
        }
        answer.push('}');
        answer
    }
}

/// `Ok` when what is asked for is small, of the session, or whatever the rule demands.
fn demand(holds: bool, rule: &Rule) -> Result<(), Refusal> {
    holds.then_some(()).ok_or_else(|| Refusal::by(rule))
}

/// Judges the commands of one browser's clients.
pub struct Guard {
    files: Files,
    context_proxies: ContextProxies,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Guard {
    /// For the browser whose own directory this is.
    pub fn new(directory: &Path, context_proxies: ContextProxies) -> Self {
        Self { files: Files::new(directory), context_proxies }
    }

    /// Judges a command. `is_barred` knows the targets that clients may not attach to.
    pub(super) fn judge(
        &self,
        method: &str,
        params: Option<&[u8]>,
        is_barred: &dyn Fn(&str) -> bool,
    ) -> Result<Judged, Refusal> {
        self.judge_at(0, method, params, is_barred)
    }

    fn judge_at(
        &self,
        depth: u32,
        method: &str,
        params: Option<&[u8]>,
        is_barred: &dyn Fn(&str) -> bool,
    ) -> Result<Judged, Refusal> {
        let task = match table::class(method) {
            Some(Class::Pass) => return Ok(Judged::default()),
            Some(Class::Judge(task)) => task,
            Some(Class::Refuse(rule)) => return Err(Refusal::by(rule)),
            None => return Err(Refusal::by(&rules::UNREVIEWED)),
        };
        let arguments = strict::arguments(params);
        let mut arguments = arguments.ok_or_else(|| Refusal::by(&rules::ARGUMENTS))?;
        let mut proxy = None;
        match task {
            Task::Open => self.open(depth, &mut arguments, is_barred)?,
            Task::Attach => {
                let target = arguments.get("targetId").and_then(Value::as_str);
                demand(!target.is_some_and(is_barred), &rules::TARGET)?;
            }
            Task::Context => proxy = self.lead_context(&mut arguments)?,
            _ => self.judge_alone(task, &mut arguments)?,
        }
        Ok(Judged { arguments: Some(arguments), proxy })
    }

    /// Judges arguments by themselves, and changes what has to be.
    fn judge_alone(&self, task: Task, arguments: &mut Object) -> Result<(), Refusal> {
        match task {
            Task::Navigate | Task::CreateTarget | Task::Url => {
                if task == Task::CreateTarget {
                    demand(sizes::area(arguments), &rules::SIZE)?;
                }
                match arguments.get_mut("url") {
                    Some(Value::String(url)) => judge_url(task, url),
                    _ => Ok(()), // nothing to go to; Chrome says so where there must be
                }
            }
            Task::Files => self.place(arguments.get_mut("files")),
            Task::Drag => match arguments.get_mut("data").and_then(|data| data.get_mut("files")) {
                Some(files) => self.place(Some(files)),
                None => Ok(()),
            },
            Task::Downloads => {
                self.lead_downloads(arguments);
                Ok(())
            }
            Task::Metrics => demand(sizes::metrics(arguments), &rules::SIZE),
            Task::Screenshot => demand(sizes::screenshot(arguments), &rules::SIZE),
            Task::Pdf => demand(sizes::sheet(arguments), &rules::SIZE),
            Task::Area => demand(sizes::area(arguments), &rules::SIZE),
            Task::Window => demand(sizes::window(arguments), &rules::SIZE),
            Task::Trace => {
                let config = arguments.contains_key("perfettoConfig");
                let system = arguments.get("tracingBackend").is_some_and(|name| name == "system");
                demand(!config && !system, &rules::TRACE)
            }
            Task::Open | Task::Attach | Task::Context | Task::Follow => Ok(()),
        }
    }

    /// Judges the message that `Target.sendMessageToTarget` carries.
    fn open(
        &self,
        depth: u32,
        arguments: &mut Object,
        is_barred: &dyn Fn(&str) -> bool,
    ) -> Result<(), Refusal> {
        let Some(Value::String(message)) = arguments.get_mut("message") else { return Ok(()) };
        let nested = || Refusal::by(&rules::NESTED);
        let command = scan(message.as_bytes()).map_err(|_| nested())?;
        demand(depth < NESTING_MAX && command.clean.is_none(), &rules::NESTED)?;
        let judged = self.judge_at(depth + 1, &command.method, command.params, is_barred)?;
        if judged.arguments.is_some() || !command.plain {
            let mut text = command.rewritten(judged.arguments.as_ref());
            if !command.session.is_empty() {
                let session = Value::from(command.session.as_ref()).to_string();
                text.extend_from_slice(b",\"sessionId\":");
                text.extend_from_slice(session.as_bytes());
            }
            text.push(b'}');
            *message = String::from_utf8(text).map_err(|_| nested())?;
        }
        Ok(())
    }

    fn place(&self, files: Option<&mut Value>) -> Result<(), Refusal> {
        demand(files.is_none_or(|files| self.files.place(files)), &rules::FILES)
    }

    /// Downloads go to the session's directory, wherever the client wanted them.
    fn lead_downloads(&self, arguments: &mut Object) {
        let behavior = arguments.get("behavior").and_then(Value::as_str);
        let kept = matches!(behavior, Some("allow" | "allowAndName"));
        arguments.remove("downloadPath");
        if kept {
            let path = self.files.downloads().to_string_lossy();
            arguments.insert("downloadPath".into(), path.into());
        }
    }

    /// A context goes to the network by the session's gateway, whatever proxy it has behind it.
    fn lead_context(&self, arguments: &mut Object) -> Result<Option<Box<dyn Send>>, Refusal> {
        let origins = arguments.remove("originsWithUniversalNetworkAccess");
        let none = origins.is_none_or(|origins| origins.as_array().is_some_and(Vec::is_empty));
        demand(none, &rules::ORIGINS)?;
        // Hosts that go past the proxy would go past the gateway.
        arguments.remove("proxyBypassList");
        let server = match arguments.remove("proxyServer") {
            Some(Value::String(server)) if !server.is_empty() => server,
            _ => return Ok(None),
        };
        let way = (self.context_proxies)(&server);
        let way = way.map_err(|why| Refusal::because(&rules::PROXY, &why))?;
        arguments.insert("proxyServer".into(), way.server.into());
        arguments.insert("proxyBypassList".into(), "<-loopback>".into());
        Ok(Some(way.held))
    }
}

/// Whether clients may take a page there.
///
/// # Errors
///
/// With the sentence that a client hears.
pub(super) fn judge_page(url: &str) -> Result<(), String> {
    let judged = judge_url(Task::CreateTarget, &mut url.to_owned());
    judged.map_err(|refusal| refusal.0.into_owned())
}

fn judge_url(task: Task, url: &mut String) -> Result<(), Refusal> {
    *url = match urls::judge(url) {
        Ok(read) => read,
        Err(Fault::Invalid) if task == Task::CreateTarget => "about:blank".to_owned(),
        Err(Fault::Invalid) if task == Task::Navigate => {
            return Err(Refusal("Cannot navigate to invalid URL".into()));
        }
        Err(_) => return Err(Refusal::by(&rules::URL)),
    };
    Ok(())
}
