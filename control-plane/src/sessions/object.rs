//! The session as callers see it.

use std::collections::BTreeMap;

use serde::Serialize;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use utoipa::ToSchema;

use super::{Reason, SessionRow, Viewport, connect_url, egress::Egress};
use crate::{app::App, request::Reached};

/// A browser lent to you, for a time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// A ULID.
    #[schema(example = "01KAW3Y0R5M8T2N6Q4P1C7D9EF")]
    id: String,
    /// What it is doing. `COMPLETED`, `EXPIRED` and `ERRORED` are final.
    #[schema(value_type = Status)]
    status: &'static str,
    /// Why it ended; null until then.
    #[schema(value_type = Option<StatusReason>)]
    status_reason: Option<StatusReason>,
    /// Where it runs.
    #[schema(example = "local")]
    region: String,
    /// What runs in it.
    #[schema(value_type = RuntimeKind)]
    runtime_kind: &'static str,
    /// Dial this with any CDP client. A secret: it holds a token that is good until
    /// `expires_at`. Each answer has a fresh one. Null once the session is over.
    #[schema(
        format = "uri",
        example = "ws://127.0.0.1:8080/v1/sessions/01KAW3Y0R5M8T2N6Q4P1C7D9EF/cdp?token=eyJhbGciOiJFZERTQSJ9.e30.c2ln"
    )]
    connect_url: Option<String>,
    /// How long it may live, from `created_at`.
    #[schema(example = 1800)]
    timeout_seconds: u32,
    /// How long it outlives its last client; 0 is a reconnect grace of 10 seconds.
    #[schema(example = 0)]
    keep_alive_seconds: u32,
    viewport: Viewport,
    /// Null: the browser's own.
    user_agent: Option<String>,
    /// The proxy, without its credentials.
    proxy: Option<Proxy>,
    /// Where it may connect to, within what the server allows; null: no narrower than that.
    egress: Option<Egress>,
    /// The profile that it began with.
    profile_id: Option<String>,
    /// Your own marks.
    #[schema(example = json!({"team": "search"}))]
    labels: BTreeMap<String, String>,
    recording: Recording,
    /// RFC 3339, UTC, milliseconds; as all times here.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    created_at: String,
    /// When its browser was ready.
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.009Z")]
    started_at: Option<String>,
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Its deadline.
    #[schema(format = DateTime, example = "2026-11-22T12:30:00.000Z")]
    expires_at: String,
    /// When a client last said something.
    #[schema(format = DateTime)]
    last_seen_at: Option<String>,
    usage: Usage,
}

/// The states of a session.
#[derive(ToSchema)]
#[schema(rename_all = "SCREAMING_SNAKE_CASE", example = "RUNNING")]
pub enum Status {
    /// Waits for a slot.
    Queued,
    /// Has a slot; its browser starts.
    Provisioning,
    /// Takes clients.
    Running,
    /// Ended as its users wanted.
    Completed,
    /// Reached its deadline.
    Expired,
    /// Ended by a fault.
    Errored,
}

/// Why a session ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatusReason {
    /// For programs.
    #[schema(value_type = ReasonCode)]
    code: &'static str,
    /// For people.
    #[schema(example = "released by request")]
    message: String,
}

impl From<Reason> for StatusReason {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code.as_str(), message: reason.message }
    }
}

/// Why a session ended.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum ReasonCode {
    /// A request released it.
    Released,
    /// Its last client left and its keep-alive ran out.
    Idle,
    /// A client closed the browser.
    ClosedByClient,
    /// It reached its deadline.
    Deadline,
    /// No agent could start its browser.
    LaunchFailed,
    /// Its browser died.
    BrowserCrashed,
    /// Its browser lived but did not answer any more.
    BrowserUnresponsive,
    /// Its browser took more of the machine than a session may.
    ResourceLimit,
    /// Its agent died.
    AgentLost,
    /// Its agent was taken out of service, and it had not ended by itself in the time for that.
    AgentDrained,
    /// An administrator stopped it.
    ForceStopped,
}

/// What runs in a session.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Chromium on Linux.
    Chromium,
}

/// An upstream proxy, as it may be shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proxy {
    /// Scheme, host and port.
    #[schema(format = "uri", example = "http://proxy.example:3128")]
    url: String,
}

/// Whether the session is recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct Recording {
    #[schema(example = false)]
    enabled: bool,
}

/// What a session has used so far.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// Since its browser was ready.
    #[schema(example = 4200)]
    duration_ms: u64,
    /// Both ways.
    #[schema(example = 120)]
    cdp_messages: u64,
    /// From clients to the browser.
    #[schema(example = 20480)]
    bytes_in: u64,
    /// From the browser to clients.
    #[schema(example = 409600)]
    bytes_out: u64,
    /// What its pages sent and received.
    #[schema(example = 0)]
    egress_bytes: u64,
}

impl Session {
    /// With a connect URL for whoever reached us there, if the agent is where we are.
    pub fn reached(mut self, app: &App, reached: &Reached) -> Self {
        if let Some(url) = &mut self.connect_url {
            reached.redirect(app.config.own_data_plane.as_deref(), url);
        }
        self
    }

    /// What callers may see of a session, with a fresh connect URL.
    pub fn of(app: &App, row: SessionRow, now_us: i64) -> Self {
        let connect_url = connect_url::of(app, &row, now_us);
        let ran_us = row.started_us.map(|start| row.ended_us.unwrap_or(now_us) - start);
        Self {
            id: row.id.to_string(),
            status: row.status.as_str(),
            status_reason: row.reason.map(StatusReason::from),
            region: row.region.into(),
            runtime_kind: "chromium",
            connect_url,
            timeout_seconds: row.timeout_seconds,
            keep_alive_seconds: row.keep_alive_seconds,
            viewport: row.viewport,
            user_agent: row.user_agent,
            proxy: row.proxy_url.map(|url| Proxy { url }),
            egress: row.egress,
            profile_id: row.profile_id.map(|profile| profile.to_string()),
            labels: row.labels,
            recording: Recording { enabled: false },
            created_at: rfc3339(row.created_us),
            started_at: row.started_us.map(rfc3339),
            ended_at: row.ended_us.map(rfc3339),
            expires_at: rfc3339(row.expires_us),
            last_seen_at: row.last_seen_us.map(rfc3339),
            usage: Usage {
                duration_ms: u64::try_from(ran_us.unwrap_or_default() / 1000).unwrap_or_default(),
                cdp_messages: row.cdp_messages,
                bytes_in: row.bytes_in,
                bytes_out: row.bytes_out,
                egress_bytes: row.egress_bytes,
            },
        }
    }
}

const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Unix microseconds as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(us: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000)
        .ok()
        .and_then(|at| at.format(MILLISECONDS).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_348_800_009_999), "2026-11-22T12:00:00.009Z");
    }
}
