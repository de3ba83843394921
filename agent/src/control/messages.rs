//! Between the messages of the protocol and what they mean here.

use std::time::Duration;

use proto::{
    PROTOCOL_VERSION,
    agent::{
        Adjust, Assign, Captured, Denials, Draining, Ended, FromAgent, Heartbeat, Hello, Layer,
        Placed, Running, SessionReport, SessionUsage, Usage, captured, from_agent::Message,
        session_report,
    },
    egress::{Egress, NotARule, Rule},
    id::{NotAnId, SessionId},
};
use tokio::time::Instant;

use super::Control;
use crate::{
    browser::{self, LaunchOptions},
    clock::Clock,
    files::PlaceError,
    gateway::{Denial, NotAnUpstream, Upstream, Way},
    sessions::{self, CaptureError, Ending, Order, RECONNECT_GRACE, State, StorageState, Terms},
};

/// Who this agent is and all that it runs.
pub(super) fn hello(control: &Control) -> FromAgent {
    let Control { config, identity, sessions, .. } = control;
    let sessions = sessions.registry().inventory().into_iter().map(|(id, state)| SessionReport {
        session_id: id.to_string(),
        state: Some(match state {
            State::Launching => session_report::State::Launching(true),
            State::Running => session_report::State::Running(true),
            State::Ended(outcome) => {
                session_report::State::Ended(ended_report(id, &outcome.ending))
            }
        }),
    });
    from_agent(Message::Hello(Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_id: identity.agent.to_string(),
        instance: identity.instance.to_string(),
        join_token: config.join_token.clone(),
        region: config.region.to_string(),
        capacity: config.capacity,
        warm: *control.warm.borrow(),
        data_plane_url: config.data_plane_url.clone(),
        browser_version: control.browser_version.clone(),
        sessions: sessions.collect(),
        isolation: control.isolation.iter().map(layer).collect(),
        forwarding_key: control.forwarder.key(),
        peer_url: config.peer_url.clone().unwrap_or_default(),
        pod: config.pod.as_ref().map(ToString::to_string).unwrap_or_default(),
    }))
}

fn layer(layer: &browser::Layer) -> Layer {
    Layer { name: layer.name.to_owned(), active: layer.active, detail: layer.detail.clone() }
}

pub(super) fn heartbeat(sequence: u64, warm: u32) -> FromAgent {
    from_agent(Message::Heartbeat(Heartbeat { sequence, warm }))
}

pub(super) fn running(id: SessionId) -> FromAgent {
    from_agent(Message::Running(Running { session_id: id.to_string() }))
}

/// The agent's process is about to stop, when what runs has ended or this much time is over.
pub(super) fn draining(left: Duration) -> FromAgent {
    let deadline_seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    from_agent(Message::Draining(Draining { deadline_seconds }))
}

pub(super) fn ending(id: SessionId, ending: &Ending) -> FromAgent {
    from_agent(Message::Ending(ended_report(id, ending)))
}

pub(super) fn ended(id: SessionId, ending: &Ending) -> FromAgent {
    from_agent(Message::Ended(ended_report(id, ending)))
}

pub(super) fn usage(
    totals: impl IntoIterator<Item = (SessionId, sessions::Usage)>,
    clock: &Clock,
) -> FromAgent {
    let last_seen = |own_ms| if own_ms == 0 { 0 } else { clock.corrected(own_ms) };
    let sessions = totals.into_iter().map(|(id, usage)| SessionUsage {
        session_id: id.to_string(),
        last_seen_ms: last_seen(usage.clients.last_seen_ms),
        cdp_messages: usage.clients.cdp_messages,
        bytes_in: usage.clients.bytes_in,
        bytes_out: usage.clients.bytes_out,
        egress_bytes: usage.egress_bytes,
    });
    from_agent(Message::Usage(Usage { sessions: sessions.collect() }))
}

/// What a session's browser was refused: `count` in all, and what is new of the list.
pub(super) fn denials(id: SessionId, count: u64, news: Vec<Denial>, clock: &Clock) -> FromAgent {
    let denials = news.into_iter().map(|denial| proto::agent::Denial {
        host: denial.host,
        port: denial.port.into(),
        rule: denial.rule.to_owned(),
        count: denial.count,
        first_ms: clock.corrected(denial.first_ms),
        last_ms: clock.corrected(denial.last_ms),
    });
    let (session_id, denials) = (id.to_string(), denials.collect());
    from_agent(Message::Denials(Denials { session_id, count, denials }))
}

/// Why an assignment cannot be carried out.
#[derive(Debug)]
pub(super) enum Unfit {
    Id(NotAnId),
    Proxy(SessionId, NotAnUpstream),
    Egress(SessionId, String, NotARule),
}

fn egress(lists: proto::agent::Egress) -> Result<Egress, (String, NotARule)> {
    let rules = |entries: Vec<String>| {
        let rule = |entry: String| entry.parse::<Rule>().map_err(|why| (entry, why));
        entries.into_iter().map(rule).collect::<Result<_, _>>()
    };
    Ok(Egress { allow: rules(lists.allow)?, deny: rules(lists.deny)? })
}

/// What the hub wants to be run.
pub(super) fn order(assign: Assign, clock: &Clock) -> Result<Order, Unfit> {
    let id = assign.session_id.parse().map_err(Unfit::Id)?;
    let proxy =
        assign.proxy.map(|proxy| Upstream::new(&proxy.url, &proxy.username, &proxy.password));
    let proxy = proxy.transpose().map_err(|why| Unfit::Proxy(id, why))?;
    let egress = egress(assign.egress.unwrap_or_default())
        .map_err(|(entry, why)| Unfit::Egress(id, entry, why))?;
    let keep_alive = match assign.keep_alive_seconds {
        0 => RECONNECT_GRACE,
        seconds => Duration::from_secs(seconds.into()),
    };
    Ok(Order {
        id,
        terms: terms_of(assign.expires_ms, assign.keepalives, clock),
        keep_alive,
        options: LaunchOptions {
            viewport: (assign.viewport_width, assign.viewport_height),
            user_agent: assign.user_agent,
        },
        way: Way { upstream: proxy, egress },
        storage_state: StorageState(assign.storage_state),
        traceparent: assign.traceparent,
    })
}

/// What the hub wants to be changed.
pub(super) fn terms(adjust: &Adjust, clock: &Clock) -> Terms {
    terms_of(adjust.expires_ms, adjust.keepalives, clock)
}

fn terms_of(expires_ms: i64, keepalives: u64, clock: &Clock) -> Terms {
    Terms { deadline: Instant::now() + clock.until(expires_ms), keepalives }
}

/// The answer to a capture.
pub(super) fn captured(
    capture_id: String,
    session_id: String,
    captured: Result<Vec<u8>, CaptureError>,
) -> FromAgent {
    let outcome = match captured {
        Ok(state) => captured::Outcome::StorageState(state),
        Err(error) => captured::Outcome::Error(error.to_string()),
    };
    from_agent(Message::Captured(Captured { capture_id, session_id, outcome: Some(outcome) }))
}

/// The answer to a file order.
pub(super) fn placed(
    order_id: String,
    session_id: String,
    placed: Result<(), PlaceError>,
) -> FromAgent {
    let error = placed.err().map(|error| error.to_string()).unwrap_or_default();
    from_agent(Message::Placed(Placed { order_id, session_id, error }))
}

fn ended_report(id: SessionId, ending: &Ending) -> Ended {
    Ended {
        session_id: id.to_string(),
        reason: ending.reason.to_string(),
        detail: ending.detail.clone(),
    }
}

fn from_agent(message: Message) -> FromAgent {
    FromAgent { message: Some(message) }
}
