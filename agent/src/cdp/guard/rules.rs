//! Why something is refused. A rule has a short name, which callers may rely on.

/// A reason to refuse a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its name in the answer.
    pub name: &'static str,
    /// Why, as a sentence for whoever sent the command.
    pub why: &'static str,
}

/// Every rule, in the order in which they are documented.
#[cfg(test)]
pub(super) const ALL: [&Rule; 18] = [
    &UNREVIEWED,
    &PORTS,
    &EXTENSIONS,
    &APPS,
    &DEVICES,
    &MACHINE,
    &PROCESS,
    &DEBUGGER,
    &BINARY,
    &URL,
    &TARGET,
    &FILES,
    &PROXY,
    &ORIGINS,
    &SIZE,
    &TRACE,
    &NESTED,
    &ARGUMENTS,
];

pub(super) const UNREVIEWED: Rule = Rule {
    name: "unreviewed",
    why: "no such method is known here; new ones of Chrome are let through once reviewed",
};
pub(super) const PORTS: Rule = Rule { name: "ports", why: "it opens ports on the machine" };
pub(super) const EXTENSIONS: Rule = Rule {
    name: "extensions",
    why: "extensions are not available: they have rights beyond the session's pages",
};
pub(super) const APPS: Rule = Rule { name: "apps", why: "it installs apps on the machine" };
pub(super) const DEVICES: Rule = Rule {
    name: "devices",
    why: "devices of the machine and of its network are not the session's",
};
pub(super) const MACHINE: Rule = Rule { name: "machine", why: "it tells about the machine" };
pub(super) const PROCESS: Rule =
    Rule { name: "process", why: "it reaches into the browser's own process" };
pub(super) const DEBUGGER: Rule =
    Rule { name: "debugger", why: "it opens another way to debug the browser, past this one" };
pub(super) const BINARY: Rule =
    Rule { name: "binary", why: "it makes a page read bytes that Chrome trusts unseen" };
pub(super) const URL: Rule = Rule {
    name: "url",
    why: "only http, https, data, blob and javascript URLs, about:blank and about:srcdoc",
};
pub(super) const TARGET: Rule =
    Rule { name: "target", why: "this is a page or a surface of the browser itself" };
pub(super) const FILES: Rule = Rule {
    name: "files",
    why: "only files of the session: put them there first with \
          PUT /v1/sessions/{id}/uploads/{name}, then name them uploads/{name}",
};
pub(super) const PROXY: Rule =
    Rule { name: "proxy", why: "the session's network policy stands before every proxy" };
pub(super) const ORIGINS: Rule =
    Rule { name: "origins", why: "no origin is exempt from the rules between origins" };
pub(super) const SIZE: Rule =
    Rule { name: "size", why: "a picture or a screen may have 100 million pixels" };
pub(super) const TRACE: Rule =
    Rule { name: "trace", why: "traces go to the client: no perfettoConfig, no system backend" };
pub(super) const NESTED: Rule =
    Rule { name: "nested", why: "the message inside is not one that Chrome carries out" };
pub(super) const ARGUMENTS: Rule = Rule {
    name: "arguments",
    why: "the arguments of this method must be a JSON object in which no key comes twice",
};
