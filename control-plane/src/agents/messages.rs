//! Between the messages of the protocol and what they mean here.

use proto::{
    HELD_MS, PROTOCOL_VERSION,
    agent::{
        Acknowledge, Adjust, Assign, Capture, Drain, FileOrder, FromHub, Hello, Lease, Peers,
        Proxy, Recorded, Release, SigningKeys, Welcome, from_hub::Message,
    },
    id::{CaptureId, SessionId},
    pod::Pod,
    session::EndReason,
    version,
};
use tonic::Status;

use super::{HEARTBEAT, LEASE, isolation, store::Registration};
use crate::{
    files::orders::Order,
    sessions::{self, SessionRow, inputs::Inputs},
};

/// Most sessions at once that an agent may claim to have room for.
const LARGEST_CAPACITY: u32 = 10_000;
/// Longest text that an agent may say of itself, in bytes.
const LONGEST_TEXT: usize = 2_048;
/// A public key (RFC 8032).
const ED25519_BYTES: usize = 32;

/// What an agent says of itself, checked; its join token aside.
pub(super) fn registration(hello: &Hello) -> Result<Registration, Status> {
    version::check(PROTOCOL_VERSION, hello.protocol_version)
        .map_err(|mismatch| Status::failed_precondition(mismatch.to_string()))?;
    let refused = |what: &str| Status::failed_precondition(format!("{what} is not valid"));
    if !is_data_plane_url(&hello.data_plane_url) {
        return Err(refused("the data plane URL"));
    }
    if !hello.peer_url.is_empty() && !is_data_plane_url(&hello.peer_url) {
        return Err(refused("the URL for other agents"));
    }
    if ![0, ED25519_BYTES].contains(&hello.forwarding_key.len()) {
        return Err(refused("the forwarding key"));
    }
    if !(1..=LARGEST_CAPACITY).contains(&hello.capacity) {
        return Err(refused("the capacity"));
    }
    if hello.browser_version.len() > LONGEST_TEXT {
        return Err(refused("the browser's version"));
    }
    Ok(Registration {
        id: hello.agent_id.parse().map_err(|_| refused("the agent's id"))?,
        instance: hello.instance.parse().map_err(|_| refused("the instance"))?,
        region: match hello.region.parse() {
            Ok(region) if hello.region != sessions::ANY => region,
            _ => return Err(refused("the region")),
        },
        capacity: hello.capacity,
        warm: hello.warm,
        data_plane_url: hello.data_plane_url.clone(),
        peer_url: hello.peer_url.clone(),
        forwarding_key: hello.forwarding_key.clone(),
        browser_version: hello.browser_version.clone(),
        isolation: isolation::told(&hello.isolation).ok_or_else(|| refused("the isolation"))?,
    })
}

/// The pod that an agent says it runs in, if it says one.
pub(super) fn pod(hello: &Hello) -> Result<Option<Pod>, Status> {
    let pod = Some(&hello.pod).filter(|pod| !pod.is_empty()).map(|pod| pod.parse());
    pod.transpose().map_err(|_| Status::failed_precondition("the pod is not valid"))
}

fn is_data_plane_url(url: &str) -> bool {
    let scheme = url.starts_with("ws://") || url.starts_with("wss://");
    scheme && !url.ends_with('/') && url.len() <= LONGEST_TEXT
}

pub(super) fn welcome(epoch: u64, jwks: &str) -> FromHub {
    from_hub(Message::Welcome(Welcome {
        epoch,
        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        signing_keys: Some(SigningKeys { jwks: jwks.to_owned() }),
        protocol_version: PROTOCOL_VERSION,
    }))
}

/// The answer to a heartbeat, and when it was given by the database's clock, in Unix
/// microseconds. The hello counts as number 0.
pub(super) fn lease(sequence: u64, now_us: i64) -> FromHub {
    let valid_ms = lease_ms();
    from_hub(Message::Lease(Lease { sequence, valid_ms, now_ms: now_us / 1_000, held_ms: 0 }))
}

/// The answer to a heartbeat when the database gave none: see [`lost`](super::lost).
pub(super) fn held(sequence: u64) -> FromHub {
    from_hub(Message::Lease(Lease { sequence, valid_ms: 0, now_ms: 0, held_ms: lease_ms() }))
}

/// Refuses an agent because the database gave no answer.
pub(super) fn away() -> Status {
    let mut status = Status::unavailable("the database failed");
    status.metadata_mut().insert(HELD_MS, lease_ms().into());
    status
}

fn lease_ms() -> u32 {
    u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX)
}

pub(super) fn assign(session: &SessionRow, inputs: &Inputs) -> FromHub {
    let proxy = inputs.proxy.clone();
    let storage_state = inputs.storage_state.as_ref();
    from_hub(Message::Assign(Assign {
        session_id: session.id.to_string(),
        workspace_id: session.workspace_id.to_string(),
        expires_ms: session.expires_us / 1_000,
        keep_alive_seconds: session.keep_alive_seconds,
        viewport_width: session.viewport.width,
        viewport_height: session.viewport.height,
        user_agent: session.user_agent.clone(),
        traceparent: session.traceparent.clone(),
        proxy: proxy.map(|proxy| Proxy {
            url: proxy.url,
            username: proxy.username,
            password: proxy.password,
        }),
        storage_state: storage_state.map(|state| state.get().into()).unwrap_or_default(),
        keepalives: session.keepalives,
        egress: session.egress.clone().map(Into::into),
    }))
}

pub(super) fn adjust(session: &SessionRow) -> FromHub {
    from_hub(Message::Adjust(Adjust {
        session_id: session.id.to_string(),
        expires_ms: session.expires_us / 1_000,
        keepalives: session.keepalives,
    }))
}

pub(super) fn capture(capture: CaptureId, session: SessionId) -> FromHub {
    let (capture_id, session_id) = (capture.to_string(), session.to_string());
    from_hub(Message::Capture(Capture { capture_id, session_id }))
}

pub(super) fn file(order: &Order) -> FromHub {
    from_hub(Message::File(FileOrder {
        order_id: order.id.to_string(),
        session_id: order.session.to_string(),
        name: order.name.clone(),
        size_bytes: order.size_bytes,
        remove: order.remove,
    }))
}

pub(super) fn release(session: SessionId, reason: EndReason) -> FromHub {
    let session_id = session.to_string();
    from_hub(Message::Release(Release { session_id, reason: reason.to_string() }))
}

/// The database knows that these run.
pub(super) fn recorded(sessions: impl IntoIterator<Item = SessionId>) -> FromHub {
    let session_ids = sessions.into_iter().map(|id| id.to_string()).collect();
    from_hub(Message::Recorded(Recorded { session_ids }))
}

pub(super) fn acknowledge(session: SessionId) -> FromHub {
    from_hub(Message::Acknowledge(Acknowledge { session_id: session.to_string() }))
}

/// How long the agent's sessions may still go on; `None`: it is not drained any more.
pub(super) fn drain(left_us: Option<i64>) -> FromHub {
    let seconds = |us: i64| u32::try_from(us.max(0) / 1_000_000).unwrap_or(u32::MAX);
    let deadline_seconds = left_us.map(seconds).unwrap_or_default();
    from_hub(Message::Drain(Drain { deadline_seconds, over: left_us.is_none() }))
}

pub(super) fn peers(peers: &Peers) -> FromHub {
    from_hub(Message::Peers(peers.clone()))
}

pub(super) fn signing_keys(jwks: &str) -> FromHub {
    from_hub(Message::SigningKeys(SigningKeys { jwks: jwks.to_owned() }))
}

fn from_hub(message: Message) -> FromHub {
    FromHub { message: Some(message) }
}
