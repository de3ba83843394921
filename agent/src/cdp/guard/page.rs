//! `docs/guard.md`, written from the table by a test.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use super::{
    Task, rules,
    table::{self, Class},
};

/// What is done about arguments, for the page.
fn told(task: Task) -> &'static str {
    match task {
        Task::Navigate | Task::CreateTarget | Task::Url => {
            "only `http`, `https`, `data`, `blob` and `javascript` URLs, `about:blank` and `about:srcdoc`; \
             blanks and line ends are taken out of a scheme"
        }
        Task::Attach => "not to the browser's own surfaces (`browser_ui` targets)",
        Task::Open => "the message inside is judged like any other, up to 4 levels deep",
        Task::Follow => "as it is, if no key comes twice",
        Task::Files | Task::Drag => {
            "only files of the session: of a path the file's name counts, and is looked for among \
             the uploads, or the downloads for `downloads/{name}`"
        }
        Task::Downloads => "`downloadPath` becomes the session's own directory",
        Task::Context => {
            "`proxyServer` stands behind the session's gateway; `proxyBypassList` has no effect; \
             no `originsWithUniversalNetworkAccess`"
        }
        Task::Metrics | Task::Screenshot | Task::Area | Task::Window => "up to 100 million pixels",
        Task::Pdf => "sheets of up to 100 million pixels at 96 to the inch",
        Task::Trace => "no `perfettoConfig`, no `system` backend",
    }
}

fn page() -> String {
    let methods: BTreeMap<_, _> = table::methods().collect();
    let mut page = String::from(INTRODUCTION);
    page.push_str("\n## Rules\n\n| Name | Why |\n| --- | --- |\n");
    for rule in rules::ALL {
        page.push_str(&format!("| `{}` | {} |\n", rule.name, rule.why));
    }
    page.push_str(
        "\n## Judged by their arguments\n\n| Method | What is let through |\n| --- | --- |\n",
    );
    for (name, class) in &methods {
        if let Class::Judge(task) = class {
            page.push_str(&format!("| `{name}` | {} |\n", told(*task)));
        }
    }
    page.push_str("\n## Refused\n\n| Method | Rule |\n| --- | --- |\n");
    for (name, class) in &methods {
        if let Class::Refuse(rule) = class {
            page.push_str(&format!("| `{name}` | `{}` |\n", rule.name));
        }
    }
    page.push_str("\n## Passed on as they come\n");
    let mut domain = String::new();
    for (name, _) in methods.iter().filter(|(_, class)| matches!(class, Class::Pass)) {
        let (of, method) = name.split_once('.').unwrap();
        if of != domain {
            page.push_str(&format!("\n- **{of}**:"));
            domain = of.to_owned();
        }
        page.push_str(&format!(" `{method}`"));
    }
    page.push('\n');
    page
}

const INTRODUCTION: &str = "\
# What clients may do over CDP

A connect URL speaks Chrome's own protocol, and gives its holder the session's browser and nothing
else of the machine. So a few methods are refused, and a few have their arguments judged. A refusal
is an ordinary CDP error on the command's own id and session:

```json
{\"id\": 1, \"error\": {\"code\": -32000, \"message\": \"refused by policy: extensions: …\"}}
```

The word behind `refused by policy:` names the rule. Commands that are judged are read strictly: as
JSON (RFC 8259) in which no object has a key twice.

Pages that clients cannot navigate to are closed when something else opens them (`Ctrl+J`, `Ctrl+U`,
`F12`), and clients are not attached to surfaces of the browser itself.

This page is written by a test from the guard's table, which knows every method of Chromium 156.
";

#[test]
fn the_page_about_the_guard_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/guard.md");
    if env::var_os("UPDATE_GUARD").is_some() {
        fs::write(&path, page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "run UPDATE_GUARD=1 cargo nextest run -p agent guard");
}
