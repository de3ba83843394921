//! Between the messages of the protocol and what they mean here.

use proto::{
    PROTOCOL_VERSION,
    agent::{
        Acknowledge, Adjust, Assign, Capture, FileOrder, FromHub, Hello, Lease, Proxy, Release,
        SigningKeys, Welcome, from_hub::Message,
    },
    id::{CaptureId, SessionId},
    session::EndReason,
};
use tonic::Status;

use super::{HEARTBEAT, LEASE, isolation, store::Registration};
use crate::{
    files::orders::Order,
    sessions::{SessionRow, inputs::Inputs},
};

/// Most sessions at once that an agent may claim to have room for.
const LARGEST_CAPACITY: u32 = 10_000;
/// Longest text that an agent may say of itself, in bytes.
const LONGEST_TEXT: usize = 2_048;

/// What an agent says of itself, checked; its join token aside.
pub(super) fn registration(hello: &Hello) -> Result<Registration, Status> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "this hub speaks version {PROTOCOL_VERSION} of the agent protocol, the agent {}",
            hello.protocol_version
        )));
    }
    let refused = |what: &str| Status::failed_precondition(format!("{what} is not valid"));
    let url = &hello.data_plane_url;
    let scheme = url.starts_with("ws://") || url.starts_with("wss://");
    if !scheme || url.ends_with('/') || url.len() > LONGEST_TEXT {
        return Err(refused("the data plane URL"));
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
        region: hello.region.parse().map_err(|_| refused("the region"))?,
        capacity: hello.capacity,
        warm: hello.warm,
        data_plane_url: url.clone(),
        browser_version: hello.browser_version.clone(),
        isolation: isolation::told(&hello.isolation).ok_or_else(|| refused("the isolation"))?,
    })
}

pub(super) fn welcome(epoch: u64, jwks: &str) -> FromHub {
    from_hub(Message::Welcome(Welcome {
        epoch,
        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
        signing_keys: Some(SigningKeys { jwks: jwks.to_owned() }),
    }))
}

/// The answer to a heartbeat. The hello counts as number 0.
pub(super) fn lease(sequence: u64) -> FromHub {
    let valid_ms = u32::try_from(LEASE.as_millis()).unwrap_or(u32::MAX);
    from_hub(Message::Lease(Lease { sequence, valid_ms }))
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

pub(super) fn acknowledge(session: SessionId) -> FromHub {
    from_hub(Message::Acknowledge(Acknowledge { session_id: session.to_string() }))
}

pub(super) fn signing_keys(jwks: &str) -> FromHub {
    from_hub(Message::SigningKeys(SigningKeys { jwks: jwks.to_owned() }))
}

fn from_hub(message: Message) -> FromHub {
    FromHub { message: Some(message) }
}
