//! Which layers confine the browsers of this machine, found out once at the start.

use std::{io, path::Path, str::FromStr, thread};

use anyhow::bail;
use rustix::{
    process::geteuid,
    thread::{CapabilitySet, capabilities},
};
use seccompiler::BpfProgram;
use tracing::{info, warn};

use super::{landlock, limits, seccomp};
use crate::browser::{Kind, directory::Directory, users};

/// What to do when a layer is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strictness {
    /// Warn, and go on with the others.
    #[default]
    BestEffort,
    /// Do not start.
    Strict,
}

impl FromStr for Strictness {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "best-effort" => Ok(Self::BestEffort),
            "strict" => Ok(Self::Strict),
            _ => Err("it is strict or best-effort"),
        }
    }
}

/// One layer of what confines a browser.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// What it is called.
    pub name: &'static str,
    /// Whether it is on, and all of it.
    pub active: bool,
    /// How far it goes, or why it is off.
    pub detail: String,
    /// How to get it, where it is off.
    pub remedy: Option<&'static str>,
}

impl Layer {
    pub(crate) fn on(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, active: true, detail: detail.into(), remedy: None }
    }

    fn off(name: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { name, active: false, detail: detail.into(), remedy: Some(remedy) }
    }
}

/// The layers of this machine.
#[derive(Debug)]
pub struct Isolation {
    layers: Vec<Layer>,
    filter: Option<BpfProgram>,
    landlock: bool,
    sandbox: bool,
}

impl Isolation {
    /// Finds out what the kernel and the agent's rights allow. `no_sandbox`: Chrome's own
    /// sandbox is not wanted. Blocks for a moment, and lowers the agent's own limits.
    pub fn probe(binary: &Path, no_sandbox: bool) -> Self {
        limits::lower_own();
        let (filter, seccomp) = probe_seccomp(Kind::of(binary));
        let layers =
            vec![user(), no_new_privileges(), probe_landlock(), seccomp, chrome(no_sandbox)];
        Self { layers, filter, landlock: true, sandbox: !no_sandbox }
    }

    /// None of the kernel's layers: for programs in tests that are no browsers.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { layers: Vec::new(), filter: None, landlock: false, sandbox: true }
    }

    /// All of them, in the order in which they are told.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Adds one that others keep.
    pub(crate) fn add(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// Whether Chrome's own sandbox is on.
    pub fn has_sandbox(&self) -> bool {
        self.sandbox
    }

    /// Says in the log what is on, and loudly what is not.
    ///
    /// # Errors
    ///
    /// When something is missing that must not be.
    pub fn demand(&self, strictness: Strictness) -> anyhow::Result<()> {
        let (on, off): (Vec<_>, Vec<_>) = self.layers.iter().partition(|layer| layer.active);
        if strictness == Strictness::Strict && !off.is_empty() {
            let missing = off.iter().map(|layer| {
                format!("{}: {} ({})", layer.name, layer.detail, layer.remedy.unwrap_or_default())
            });
            bail!(
                "browsers cannot be isolated as strictly as was asked for; missing is {}",
                missing.collect::<Vec<_>>().join("; ")
            );
        }
        let on: Vec<_> = on.iter().map(|layer| layer.name).collect();
        info!(layers = on.join(", "), "what isolates browsers");
        for Layer { name, detail, remedy, .. } in off {
            let remedy = remedy.unwrap_or_default();
            warn!(
                layer = name,
                "browsers are LESS ISOLATED than they could be: {detail}; {remedy}"
            );
        }
        Ok(())
    }

    /// Confines the calling thread and all that it starts, for good.
    pub(super) fn confine_this_thread(
        &self,
        program: &Path,
        directory: &Directory,
        gateway: u16,
    ) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        if self.landlock {
            landlock::restrict(program, directory, gateway).map_err(io::Error::other)?;
        }
        if let Some(filter) = &self.filter {
            seccomp::apply(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn user() -> Layer {
    const NAME: &str = "user";
    const NEEDED: CapabilitySet = CapabilitySet::SETUID
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::CHOWN)
        .union(CapabilitySet::KILL);
    if !geteuid().is_root() {
        let remedy = "run the agent as root: its browsers will not be";
        return Layer::off(NAME, "browsers run as the agent's own user", remedy);
    }
    match capabilities(None) {
        Ok(sets) if !sets.effective.contains(NEEDED) => {
            let lacking =
                format!("root may not change users (it lacks {:?})", NEEDED - sets.effective);
            Layer::off(
                NAME,
                lacking,
                "give the agent CAP_SETUID, CAP_SETGID, CAP_CHOWN and CAP_KILL",
            )
        }
        _ => {
            let (first, last) = (users::FIRST_USER, users::LAST_USER);
            Layer::on(NAME, format!("each browser has one of its own, from {first} to {last}"))
        }
    }
}

fn no_new_privileges() -> Layer {
    // Every kernel that runs this program has it (3.5).
    Layer::on("no-new-privileges", "no program gives a browser rights")
}

fn probe_landlock() -> Layer {
    const NAME: &str = "landlock";
    const REMEDY: &str = "run a kernel of 6.12 or newer that has landlock in its lsm= list; in a \
                          container allow landlock_create_ruleset by its seccomp profile";
    match on_a_thread(landlock::reach).unwrap_or_else(Err) {
        Ok(reach) => Layer::on(NAME, reach),
        Err(why) => Layer::off(NAME, why, REMEDY),
    }
}

/// The filter is tried, on a thread that ends: the kernel's or a container's refusal shows
/// only then.
fn probe_seccomp(kind: Kind) -> (Option<BpfProgram>, Layer) {
    const NAME: &str = "seccomp";
    let off = |why: String| Layer::off(NAME, why, "run a kernel with CONFIG_SECCOMP_FILTER");
    let filter = match seccomp::filter(kind) {
        Ok(filter) => filter,
        Err(error) => return (None, off(error.to_string())),
    };
    match on_a_thread(|| seccomp::apply(&filter)) {
        Ok(Ok(())) => (Some(filter), Layer::on(NAME, "no UDP, no raw sockets, no other's memory")),
        Ok(Err(error)) => (None, off(error.to_string())),
        Err(why) => (None, off(why)),
    }
}

/// Where what is tried ends with the thread.
fn on_a_thread<T: Send>(tried: impl FnOnce() -> T + Send) -> Result<T, String> {
    let tried = thread::scope(|scope| scope.spawn(tried).join());
    tried.map_err(|_| "it cannot be tried".to_owned())
}

fn chrome(no_sandbox: bool) -> Layer {
    const NAME: &str = "chrome-sandbox";
    if no_sandbox {
        let why = "switched off by --no-sandbox: a page that breaks out of its renderer has all \
                   that the browser has";
        return Layer::off(NAME, why, "leave out --no-sandbox");
    }
    // Without what it needs Chrome does not start.
    Layer::on(NAME, "pages in namespaces of their own, with few system calls")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(layers: Vec<Layer>) -> Isolation {
        Isolation { layers, ..Isolation::none() }
    }

    #[test]
    fn strict_names_what_is_missing_and_the_remedy() {
        let isolation =
            with(vec![Layer::on("user", "a"), Layer::off("landlock", "too old", "update")]);
        let error = isolation.demand(Strictness::Strict).unwrap_err().to_string();
        assert!(error.contains("landlock: too old (update)"), "{error}");
        assert!(!error.contains("user"), "{error}");
        isolation.demand(Strictness::BestEffort).unwrap();
        with(vec![Layer::on("user", "a")]).demand(Strictness::Strict).unwrap();
    }

    #[test]
    fn a_sandbox_that_was_switched_off_is_a_missing_layer() {
        let isolation = Isolation::probe(Path::new("/usr/lib/chromium/chromium"), true);
        let sandbox =
            isolation.layers().iter().find(|layer| layer.name == "chrome-sandbox").unwrap();
        assert!(!sandbox.active);
        assert!(isolation.demand(Strictness::Strict).is_err());
    }

    #[test]
    fn strictness_is_one_of_two_words() {
        assert_eq!("strict".parse(), Ok(Strictness::Strict));
        assert_eq!("best-effort".parse(), Ok(Strictness::BestEffort));
        assert!("Strict".parse::<Strictness>().is_err());
    }
}
