//! What agents say of their sessions, and what follows from it. All of these may be repeated
//! or come late: what no longer fits the session's row changes nothing.

use std::{borrow::Cow, time::Duration};

use proto::{
    agent::SessionUsage,
    id::{AgentId, SessionId},
    region::Region,
    session::{EndReason, SessionStatus},
};
use tokio::time::sleep;
use tracing::{Span, error, field::display, info, warn};

use super::{
    SessionRow,
    changes::Seen,
    idempotency,
    inputs::{self, Sealed},
    store,
};
use crate::{
    agents::{self, slots::Slot},
    app::App,
    db::Tx,
    files::orders,
    periodic::part_of,
};

/// Most agents that try to launch a session.
const AGENTS_MAX: usize = 3;
/// How long after its creation a session may still go to another agent, in microseconds: as
/// long as a create waits for it.
const FAILOVER_US: i64 = 120 * 1_000_000;
/// How long a launch that is to go to another agent leaves those to others that hold them, at
/// most. They do so for as long as a commit takes.
const AGAIN: Duration = Duration::from_millis(20);

/// Who says something of a session.
#[derive(Clone, Copy, Debug)]
pub struct Reporter {
    /// The agent that has the session.
    pub agent: AgentId,
    /// The epoch of the stream that it came by. It counts only as long as the agent has no newer
    /// one: what an older run said may be about a browser that is long replaced. `None`: the hub
    /// itself.
    pub epoch: Option<u64>,
}

impl From<AgentId> for Reporter {
    fn from(agent: AgentId) -> Self {
        Self { agent, epoch: None }
    }
}

/// The browser is up: PROVISIONING becomes RUNNING. False: the session is in another state, or
/// another agent has it.
pub async fn started(app: &App, by: impl Into<Reporter>, id: SessionId) -> sqlx::Result<bool> {
    let by = by.into();
    let mut tx = app.db.begin().await?;
    let Some(row) = store::start(&mut tx, id, by).await? else { return Ok(false) };
    let now_us = tx.now_us().await?;
    tx.commit().await?;
    row.log_span().in_scope(|| info!(session = %id, agent = %by.agent, "running"));
    app.changes.tell(Seen { row, now_us });
    Ok(true)
}

/// The browser is about to go: ends a session that runs unless it is over already, and says
/// why it is over. The slot stays held. `None`: another agent has it, or it does not run.
pub async fn ending(
    app: &App,
    by: Reporter,
    id: SessionId,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<Option<EndReason>> {
    let mut tx = app.db.begin().await?;
    let Some(session) = store::lock_on(&mut tx, id, by).await? else { return Ok(None) };
    if let Some(known) = session.reason {
        return Ok(Some(known.code));
    }
    if session.status != SessionStatus::Running {
        return Ok(None);
    }
    let ended = store::end(&mut tx, id, reason, Some(detail)).await?;
    tx.commit().await?;
    if let Some(session) = ended {
        app.metrics.ended(&session.region, reason);
        session.log_span().in_scope(|| info!(session = %id, %reason, "ended"));
        app.changes.wake(id);
    }
    Ok(Some(reason))
}

/// The browser is gone, or never came up. Frees the slot; ends the session unless it is over
/// already or another agent can take its launch over.
pub async fn ended(
    app: &App,
    by: impl Into<Reporter>,
    id: SessionId,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<()> {
    let by = by.into();
    loop {
        let mut tx = app.db.begin().await?;
        let Some(session) = store::lock_on(&mut tx, id, by).await? else { return Ok(()) };
        if let Some(gone) = gone(app, &mut tx, session, reason, detail).await? {
            tx.commit().await?;
            gone.announce(app);
            return Ok(());
        }
        drop(tx);
        sleep(part_of(AGAIN)).await;
    }
}

/// Some of what an agent ran is gone with it, as its lease has lapsed: at most
/// [`store::ENDED_AT_ONCE`] sessions. False: nothing could be done, as the agent is back or
/// others are at all that is left.
pub async fn lost(app: &App, agent: AgentId) -> sqlx::Result<bool> {
    let mut tx = app.db.begin().await?;
    // Before the agent's row, as everywhere. Held, they are what counts.
    let held = store::lock_held_by(&mut tx, agent).await?;
    if !agents::store::lock_lapsed(&mut tx, agent).await? {
        return Ok(false);
    }
    // Most of them end alike.
    let (alike, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|session| {
        session.status != SessionStatus::Provisioning && session.tried.is_empty()
    });
    let mut lost = end_alike(&mut tx, &alike, EndReason::AgentLost).await?;
    for session in others {
        // One that can only move to agents that others hold is for the next time.
        lost.extend(gone(app, &mut tx, session, EndReason::AgentLost, "").await?);
    }
    let is_buried = agents::store::bury(&mut tx, agent).await?;
    tx.commit().await?;
    let sessions = lost.len();
    for gone in lost {
        gone.announce(app);
    }
    if sessions > 0 {
        warn!(%agent, sessions, "the agent's lease has lapsed: it is lost");
    }
    Ok(sessions > 0 || is_buried)
}

/// [`gone`] for sessions that came up on the first agent that tried, or are over.
async fn end_alike(
    tx: &mut Tx,
    sessions: &[SessionRow],
    reason: EndReason,
) -> sqlx::Result<Vec<Gone>> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let running: Vec<_> = sessions.iter().filter(|session| !session.status.is_final()).collect();
    store::end_all(tx, &running, reason).await?;
    store::free_all(tx, &sessions.iter().collect::<Vec<_>>()).await?;
    let gone = sessions.iter().map(|session| {
        let is_over = session.status.is_final();
        let fate = if is_over { Fate::Known } else { Fate::Ended(reason) };
        Gone::new(session, fate)
    });
    Ok(gone.collect())
}

/// What became of a session whose browser is gone.
struct Gone {
    id: SessionId,
    region: Region,
    log: Span,
    fate: Fate,
}

enum Fate {
    /// It was over already.
    Known,
    Ended(EndReason),
    /// Another agent launches it, with its inputs if it has any.
    Moved(Box<SessionRow>, AgentId, Option<Sealed>),
}

impl Gone {
    fn new(session: &SessionRow, fate: Fate) -> Self {
        let (id, region) = (session.id, session.region.clone());
        Self { id, region, log: session.log_span(), fate }
    }

    fn announce(self, app: &App) {
        let _inside = self.log.enter();
        match self.fate {
            // What it had there went to it elsewhere.
            Fate::Moved(..) => app.queue.wake(&self.region),
            Fate::Known | Fate::Ended(_) => app.queue.freed(&self.region),
        }
        match self.fate {
            Fate::Known => (),
            Fate::Ended(reason) => {
                app.metrics.ended(&self.region, reason);
                info!(session = %self.id, %reason, "ended");
            }
            Fate::Moved(session, agent, sealed) => {
                info!(session = %self.id, %agent, "launch goes to another agent");
                match sealed.map(|sealed| sealed.open(&app.secrets)).transpose() {
                    Ok(inputs) => app.hub.assign(agent, &session, &inputs.unwrap_or_default()),
                    // The agent's stream comes to it soon, and ends the session.
                    Err(error) => error!(session = %self.id, ?error, "no launch inputs"),
                }
            }
        }
        app.changes.wake(self.id);
    }
}

/// The session's row is locked, and its agent has no browser for it any more. `None`: it is to
/// go to another agent, but others hold all that have room. Then nothing was changed.
async fn gone(
    app: &App,
    tx: &mut Tx,
    session: SessionRow,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<Option<Gone>> {
    let id = session.id;
    let never_came_up = matches!(reason, EndReason::LaunchFailed | EndReason::AgentLost);
    if session.status == SessionStatus::Provisioning && never_came_up {
        match elsewhere(app, tx, &session, reason, detail).await? {
            Elsewhere::Moved(fate) => return Ok(Some(Gone::new(&session, fate))),
            Elsewhere::Contended => return Ok(None),
            Elsewhere::Nowhere => (),
        }
        session.log_span().in_scope(|| failed(&session, reason, detail));
    }
    let ended = match session.status.is_final() {
        true => None,
        false => store::end(tx, id, reason, Some(&told(&session, detail))).await?,
    };
    store::free_slot(tx, id).await?;
    if ended.as_ref().is_some_and(SessionRow::never_ran) {
        // The create failed, so its key is not used up.
        idempotency::forget(tx, id).await?;
    }
    let fate = ended.map_or(Fate::Known, |_| Fate::Ended(reason));
    Ok(Some(Gone::new(&session, fate)))
}

fn failed(session: &SessionRow, reason: EndReason, detail: &str) {
    let agent = session.agent_id.map(display);
    warn!(session = %session.id, agent, %reason, detail, "launch failed");
}

/// What the end of a session is to say: also whether several agents had tried it.
fn told<'a>(session: &SessionRow, detail: &'a str) -> Cow<'a, str> {
    let agents = session.tried.len() + 1;
    match (session.tried.as_slice(), detail) {
        ([], _) => detail.into(),
        (_, "") => format!("the last of {agents} agents that tried").into(),
        _ => format!("{detail} (the last of {agents} agents that tried)").into(),
    }
}

/// Whether another agent takes a launch over.
enum Elsewhere {
    /// One does.
    Moved(Fate),
    /// Those that could are held by others.
    Contended,
    /// None does.
    Nowhere,
}

/// Gives a launch that failed to an agent that has not tried it, if one has room and there is
/// time left for it.
async fn elsewhere(
    app: &App,
    tx: &mut Tx,
    session: &SessionRow,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<Elsewhere> {
    let mut tried = session.tried.clone();
    tried.extend(session.agent_id);
    let now = tx.now_us().await?;
    let latest = session.expires_us.min(session.created_us + FAILOVER_US);
    if tried.len() >= AGENTS_MAX || now >= latest {
        return Ok(Elsewhere::Nowhere);
    }
    // The agent that it leaves comes first: see `agents::slots`.
    if let Some(agent) = session.agent_id {
        agents::store::lock(tx, agent).await?;
    }
    let shortlist = app.hub.shortlist(&session.region, &tried);
    let agent = match agents::slots::hold(tx, &session.region, &shortlist, &tried).await? {
        Slot::On(agent) => agent,
        Slot::Contended(_) => return Ok(Elsewhere::Contended),
        Slot::None => return Ok(Elsewhere::Nowhere),
    };
    let moved = store::move_to(tx, session.id, agent, &tried, (reason, detail)).await?;
    let Some(moved) = moved else { return Ok(Elsewhere::Nowhere) };
    session.log_span().in_scope(|| failed(session, reason, detail));
    // What the former agent had of its files is gone.
    orders::ask_again(tx, moved.id).await?;
    let sealed = match moved.has_inputs {
        true => inputs::get(tx, moved.id).await?,
        false => None,
    };
    Ok(Elsewhere::Moved(Fate::Moved(Box::new(moved), agent, sealed)))
}

/// Records what an agent says that its sessions have used.
pub async fn usage(app: &App, agent: AgentId, used: &[SessionUsage]) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    for session in used {
        let Ok(id) = session.session_id.parse() else { continue };
        let usage = store::Usage {
            last_seen_us: session.last_seen_ms.saturating_mul(1000),
            cdp_messages: session.cdp_messages,
            bytes_in: session.bytes_in,
            bytes_out: session.bytes_out,
            egress_bytes: session.egress_bytes,
        };
        store::record_usage(&mut tx, id, agent, &usage).await?;
    }
    tx.commit().await
}
