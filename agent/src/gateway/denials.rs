//! What a session's browser was refused: counted, listed once for each host, port and rule,
//! and told to the operator's log as it is listed. Of a URL only the host and the port.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{policy::Refusal, socks::Target};
use crate::metrics::COUNTS;

/// Most entries of a session's list. What is refused beyond is only counted.
pub const LISTED_MAX: usize = 100;

/// What a session's browser was refused so far; shared by all that asks.
#[derive(Clone, Default)]
pub struct Denials(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    count: u64,
    listed: HashMap<(String, u16, Refusal), Times>,
    /// Something found no place on the list.
    is_full: bool,
}

#[derive(Clone, Copy)]
struct Times {
    count: u64,
    first_ms: i64,
    last_ms: i64,
    /// How many had been refused in all when this was refused for the last time.
    last: u64,
}

/// One entry of the list, with its running total.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// As the browser asked: a name or an address.
    pub host: String,
    /// Where on it.
    pub port: u16,
    /// What refused it.
    pub rule: &'static str,
    /// How often.
    pub count: u64,
    /// When for the first time, Unix milliseconds.
    pub first_ms: i64,
    /// When for the last time.
    pub last_ms: i64,
}

/// Whether a refusal is news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noted {
    /// It is on the list now.
    New,
    /// It is the first that found no place there.
    Full,
    /// It was there before, or there has been no place for long.
    Again,
}

impl Denials {
    /// How many were refused.
    pub fn count(&self) -> u64 {
        self.book().count
    }

    /// What was refused when `count` had been refused before, or since. In no order.
    pub fn since(&self, count: u64) -> Vec<Denial> {
        let book = self.book();
        let news = book.listed.iter().filter(|(_, times)| times.last > count);
        let entry = |((host, port, refusal), times): (&(String, u16, Refusal), &Times)| Denial {
            host: host.clone(),
            port: *port,
            rule: refusal.code(),
            count: times.count,
            first_ms: times.first_ms,
            last_ms: times.last_ms,
        };
        news.map(entry).collect()
    }

    pub(super) fn note(&self, target: &Target, refusal: Refusal) -> Noted {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let mut book = self.book();
        book.count += 1;
        COUNTS.egress.denials.inc();
        let last = book.count;
        let key = (target.host.to_string(), target.port, refusal);
        if let Some(known) = book.listed.get_mut(&key) {
            known.count += 1;
            (known.last, known.last_ms) = (last, now_ms.max(known.last_ms));
            return Noted::Again;
        }
        if book.listed.len() >= LISTED_MAX {
            return if std::mem::replace(&mut book.is_full, true) {
                Noted::Again
            } else {
                Noted::Full
            };
        }
        book.listed.insert(key, Times { count: 1, first_ms: now_ms, last_ms: now_ms, last });
        Noted::New
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denials").field("count", &self.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::socks::Host;

    fn target(host: &str, port: u16) -> Target {
        Target { host: Host::parse(host).unwrap(), port }
    }

    #[test]
    fn each_host_port_and_rule_is_listed_once_and_counted() {
        let denials = Denials::default();
        let (one, other) = (target("10.0.0.1", 80), target("10.0.0.1", 81));
        assert_eq!(denials.note(&one, Refusal::Private), Noted::New);
        assert_eq!(denials.note(&one, Refusal::Private), Noted::Again);
        assert_eq!(denials.note(&other, Refusal::Private), Noted::New);
        assert_eq!(denials.note(&one, Refusal::ServerDeny), Noted::New);
        assert_eq!(denials.count(), 4);
        let mut all = denials.since(0);
        all.sort_by_key(|denial| (denial.port, denial.rule));
        let counts: Vec<_> = all.iter().map(|d| (&*d.host, d.port, d.rule, d.count)).collect();
        assert_eq!(
            counts,
            [
                ("10.0.0.1", 80, "private", 2),
                ("10.0.0.1", 80, "server_deny", 1),
                ("10.0.0.1", 81, "private", 1)
            ]
        );
        assert!(all.iter().all(|denial| denial.first_ms <= denial.last_ms));
    }

    #[test]
    fn only_what_is_new_is_told_again() {
        let denials = Denials::default();
        let (one, other) = (target("a.test", 80), target("b.test", 80));
        denials.note(&one, Refusal::ServerDeny);
        let told = denials.count();
        assert!(denials.since(told).is_empty());
        denials.note(&other, Refusal::ServerDeny);
        denials.note(&one, Refusal::ServerDeny);
        assert_eq!(denials.since(told).len(), 2);
        assert_eq!(denials.since(told + 1).len(), 1);
    }

    #[test]
    fn a_page_that_asks_for_everything_fills_a_list_and_no_more() {
        let denials = Denials::default();
        let noted: Vec<_> = (1..=300)
            .map(|port| denials.note(&target("a.test", port), Refusal::Loopback))
            .collect();
        assert!(noted[..LISTED_MAX].iter().all(|noted| *noted == Noted::New));
        assert_eq!(noted[LISTED_MAX], Noted::Full);
        assert!(noted[LISTED_MAX + 1..].iter().all(|noted| *noted == Noted::Again));
        assert_eq!((denials.count(), denials.since(0).len()), (300, LISTED_MAX));
        assert_eq!(denials.note(&target("a.test", 1), Refusal::Loopback), Noted::Again);
    }
}
