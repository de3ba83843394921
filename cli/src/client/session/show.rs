//! How people see sessions.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::super::{card, table, when};

/// How long keeping a browser's state may take: the server gives up after a minute.
pub const SAVE: Duration = Duration::from_secs(90);

/// A session, as far as people care.
#[derive(Debug, Deserialize)]
pub struct Session {
    pub id: String,
    pub status: String,
    pub status_reason: Option<Reason>,
    pub region: String,
    pub connect_url: Option<String>,
    pub timeout_seconds: u32,
    pub keep_alive_seconds: u32,
    pub viewport: Viewport,
    pub user_agent: Option<String>,
    pub proxy: Option<Proxy>,
    pub profile_id: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub expires_at: String,
    pub last_seen_at: Option<String>,
    pub usage: Usage,
}

/// Why a session ended.
#[derive(Debug, Deserialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

#[derive(Debug, Deserialize)]
pub struct Viewport {
    width: u32,
    height: u32,
}

#[derive(Debug, Deserialize)]
pub struct Proxy {
    url: String,
}

/// What a session has used.
#[derive(Debug, Deserialize)]
pub struct Usage {
    duration_ms: u64,
    cdp_messages: u64,
    bytes_in: u64,
    bytes_out: u64,
    egress_bytes: u64,
}

impl Session {
    /// One session, all of it.
    pub fn card(&self) -> String {
        let ended = self.ended_at.is_some();
        let time = |time: &Option<String>| time.as_deref().map(when).unwrap_or_default();
        let Usage { duration_ms, cdp_messages, bytes_in, bytes_out, egress_bytes } = self.usage;
        card(&[
            ("Session", self.id.clone()),
            ("Status", self.ending()),
            ("Connect", self.connect_url.clone().unwrap_or_default()),
            ("Region", self.region.clone()),
            ("Created", when(&self.created_at)),
            ("Started", time(&self.started_at)),
            ("Ended", time(&self.ended_at)),
            ("Expires", if ended { String::new() } else { when(&self.expires_at) }),
            ("Last seen", time(&self.last_seen_at)),
            ("Timeout", format!("{} s", self.timeout_seconds)),
            ("Keep-alive", format!("{} s", self.keep_alive_seconds)),
            ("Viewport", format!("{}x{}", self.viewport.width, self.viewport.height)),
            ("User agent", self.user_agent.clone().unwrap_or_default()),
            ("Proxy", self.proxy.as_ref().map(|proxy| proxy.url.clone()).unwrap_or_default()),
            ("Profile", self.profile_id.clone().unwrap_or_default()),
            ("Labels", self.labels()),
            ("Duration", seconds(duration_ms)),
            (
                "Traffic",
                format!(
                    "{cdp_messages} CDP messages, {} in, {} out; pages {}",
                    bytes(bytes_in),
                    bytes(bytes_out),
                    bytes(egress_bytes)
                ),
            ),
        ])
    }

    /// The status, and why.
    pub fn ending(&self) -> String {
        match &self.status_reason {
            Some(Reason { message, .. }) => format!("{} ({message})", self.status),
            None => self.status.clone(),
        }
    }

    fn labels(&self) -> String {
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        labels.collect::<Vec<_>>().join(", ")
    }
}

/// Several sessions, a line each.
pub fn table_of(sessions: &[Session]) -> String {
    let head = ["ID", "STATUS", "REASON", "REGION", "CREATED", "DURATION", "LABELS"];
    let rows = sessions.iter().map(|session| {
        [
            session.id.clone(),
            session.status.clone(),
            session.status_reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default(),
            session.region.clone(),
            when(&session.created_at),
            seconds(session.usage.duration_ms),
            session.labels(),
        ]
    });
    table(head, rows)
}

/// Milliseconds, for people.
fn seconds(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}.{} s", ms % 1000 / 100),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// Bytes, for people: in KiB and the like, rounded down to a tenth.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(mut power) = bytes.checked_ilog2().map(|log| log / 10).filter(|power| *power > 0)
    else {
        return format!("{bytes} B");
    };
    power = power.min(4);
    let tenths = bytes / (1 << (10 * power - 10)) * 10 / 1024;
    format!("{}.{} {}", tenths / 10, tenths % 10, units[power as usize - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_at_a_glance() {
        assert_eq!(["0.0 s", "59.9 s"], [0, 59_999].map(seconds));
        assert_eq!(["1 min 0 s", "1 h 1 min"], [60_000, 3_660_000].map(seconds));
        let sizes = [0, 1023, 1024, 1536, 5 << 20, (5 << 20) + 600_000, u64::MAX].map(bytes);
        let read = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "5.5 MiB", "16777215.9 TiB"];
        assert_eq!(sizes, read);
    }
}
