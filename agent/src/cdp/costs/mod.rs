//! What a message costs on its way through the agent, and the parts of that.

mod rig;

use std::{hint::black_box, path::Path};

use costs::Meter;

use self::rig::{PAGE, ROOT, Rig};
use super::{guard::Guard, scan::scan};

/// Messages that come at once: what is done once for all of them hardly counts any more.
const MANY: u32 = 32;

/// The length of a long argument or result, in bytes: what is done to each of them counts.
const LONG: usize = 16 << 10;

/// Numbers of commands. Chrome's answers to others are measured: how long a command took decides
/// where that is noted, and so what it costs.
const COMMANDS: u32 = 1_000;

fn guard() -> Guard {
    Guard::new(Path::new("/browser"), Box::new(|_| Err("no network".to_owned())))
}

fn command(id: u32, method: &str, params: &str) -> String {
    format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#)
}

/// The same message with a session.
fn of(session: &str, message: &str) -> String {
    let open = message.strip_suffix('}').unwrap();
    format!(r#"{open},"sessionId":"{session}"}}"#)
}

const EVALUATE: (&str, &str) =
    ("Runtime.evaluate", r#"{"expression":"document.title","returnByValue":true}"#);
const NAVIGATE: (&str, &str) = ("Page.navigate", r#"{"url":"https://example.com/a?b=c"}"#);

/// Whole routes: from a client's socket to Chrome's pipe, and back.
pub(crate) fn route(meter: &mut Meter) {
    let mut rig = Rig::new(guard());
    let evaluate = |id| command(COMMANDS + id, EVALUATE.0, EVALUATE.1);
    let navigate = |id| command(COMMANDS + id, NAVIGATE.0, NAVIGATE.1);
    let type_in = |id| {
        let params = format!(r#"{{"text":"{}"}}"#, "x".repeat(LONG));
        command(COMMANDS + id, "Input.insertText", &params)
    };
    for (case, each, message) in [
        ("a command alone", 1, &evaluate as &dyn Fn(u32) -> String),
        ("a command among 32", MANY, &evaluate),
        ("a command that is judged by its arguments, among 32", MANY, &navigate),
        ("a command of 16 KiB", 1, &type_in),
    ] {
        let sent: Vec<_> = (0..each).map(message).collect();
        let arrives: Vec<_> = sent.iter().map(|message| of(ROOT, message)).collect();
        meter.case(case, each, |round| rig.client_sends(round, &sent, &arrives));
    }
    let sent: Vec<_> = (0..MANY).map(|id| of(PAGE, &evaluate(id))).collect();
    meter
        .case("a command to a page, among 32", MANY, |round| rig.client_sends(round, &sent, &sent));

    let answer = |id| format!(r#"{{"id":{id},"result":{{"result":{{"type":"undefined"}}}}}}"#);
    let picture = |id| format!(r#"{{"id":{id},"result":{{"data":"{}"}}}}"#, "A".repeat(LONG));
    for (case, each, message) in [
        ("an answer alone", 1, &answer as &dyn Fn(u32) -> String),
        ("an answer among 32", MANY, &answer),
        ("an answer of 16 KiB", 1, &picture),
    ] {
        let arrives: Vec<_> = (0..each).map(message).collect();
        let said: Vec<_> = arrives.iter().map(|message| of(ROOT, message)).collect();
        meter.case(case, each, |round| rig.chrome_says(round, &said, &arrives));
    }
    let event = r#"{"method":"Network.loadingFinished","params":{"requestId":"1","timestamp":1}}"#;
    let said = vec![of(PAGE, event); MANY as usize];
    meter.case("an event of a page, among 32", MANY, |round| rig.chrome_says(round, &said, &said));
}

/// What is done to each command before it goes to Chrome.
pub(crate) fn judge(meter: &mut Meter) {
    let guard = guard();
    let message = of(PAGE, &command(1, EVALUATE.0, EVALUATE.1));
    meter.case("a scan", MANY, |round| {
        round.counted(|| {
            for _ in 0..MANY {
                assert!(scan(black_box(message.as_bytes())).is_ok());
            }
        });
    });
    for (case, (method, params), passes) in [
        ("a judgement by the method", EVALUATE, true),
        ("a judgement by the arguments", NAVIGATE, true),
        ("a refusal", ("Browser.crash", "{}"), false),
    ] {
        meter.case(case, MANY, |round| {
            round.counted(|| {
                for _ in 0..MANY {
                    let judged =
                        guard.judge(black_box(method), Some(params.as_bytes()), &|_| false);
                    assert_eq!(judged.is_ok(), passes);
                }
            });
        });
    }
}
