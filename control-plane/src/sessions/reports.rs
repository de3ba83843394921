//! What agents say of their sessions, and what follows from it. All of these may be repeated
//! or come late: what no longer fits the session's row changes nothing.

use proto::{
    agent::SessionUsage,
    id::{AgentId, SessionId},
    region::Region,
    session::{EndReason, SessionStatus},
};
use tracing::{error, info, warn};

use super::{
    SessionRow, idempotency,
    inputs::{self, Sealed},
    store,
};
use crate::{agents, app::App, db::Tx, scheduling};

/// The browser is up: PROVISIONING becomes RUNNING.
pub async fn started(app: &App, agent: AgentId, id: SessionId) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let Some(_held) = store::lock_on(&mut tx, id, agent).await? else { return Ok(()) };
    let started = store::start(&mut tx, id).await?;
    tx.commit().await?;
    if started.is_some() {
        info!(session = %id, %agent, "running");
        app.changes.wake(id);
    }
    Ok(())
}

/// The browser is gone, or never came up. Frees the slot; ends the session unless it is over
/// already or another agent can take its launch over.
pub async fn ended(
    app: &App,
    agent: AgentId,
    id: SessionId,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let Some(session) = store::lock_on(&mut tx, id, agent).await? else { return Ok(()) };
    let gone = gone(&mut tx, session, reason, detail).await?;
    tx.commit().await?;
    gone.announce(app);
    Ok(())
}

/// All that an agent ran is gone with it: it lost its lease, or began anew. Not for an agent
/// whose browsers may still run.
pub async fn lost(app: &App, agent: AgentId) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let lost = lost_in(&mut tx, agent).await?;
    tx.commit().await?;
    lost.announce(app);
    Ok(())
}

/// [`lost`] as a part of an operation. Announce the result once that is committed.
pub async fn lost_in(tx: &mut Tx, agent: AgentId) -> sqlx::Result<Lost> {
    let mut all = Lost::default();
    for held in store::held_by(tx, agent).await? {
        // Read again under its lock: it may have ended or moved meanwhile.
        if let Some(session) = store::lock_on(tx, held.id, agent).await?
            && session.slot_held
        {
            all.0.push(gone(tx, session, EndReason::AgentLost, "").await?);
        }
    }
    Ok(all)
}

/// What became of the sessions of a lost agent.
#[must_use]
#[derive(Default)]
pub struct Lost(Vec<Gone>);

impl Lost {
    /// Tells those whom it concerns. After the commit.
    pub fn announce(self, app: &App) {
        for gone in self.0 {
            gone.announce(app);
        }
    }
}

/// What became of a session whose browser is gone.
struct Gone {
    id: SessionId,
    region: Region,
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
    fn announce(self, app: &App) {
        match self.fate {
            Fate::Known => (),
            Fate::Ended(reason) => info!(session = %self.id, %reason, "ended"),
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
        app.queue.wake(&self.region);
    }
}

/// The session's row is locked, and its agent has no browser for it any more.
async fn gone(
    tx: &mut Tx,
    session: SessionRow,
    reason: EndReason,
    detail: &str,
) -> sqlx::Result<Gone> {
    let (id, region) = (session.id, session.region.clone());
    // What a lost agent had begun is not moved: it may have been seen to run.
    if session.status == SessionStatus::Provisioning && reason == EndReason::LaunchFailed {
        warn!(session = %id, agent = ?session.agent_id, detail, "launch failed");
        if let Some(fate) = elsewhere(tx, &session).await? {
            return Ok(Gone { id, region, fate });
        }
    }
    let ended = store::end(tx, id, reason, Some(detail)).await?;
    store::free_slot(tx, id).await?;
    if ended.as_ref().is_some_and(SessionRow::never_ran) {
        // The create failed, so its key is not used up.
        idempotency::forget(tx, id).await?;
    }
    let fate = ended.map_or(Fate::Known, |_| Fate::Ended(reason));
    Ok(Gone { id, region, fate })
}

/// Gives a launch that failed to an agent that has not tried it, if one has room.
async fn elsewhere(tx: &mut Tx, session: &SessionRow) -> sqlx::Result<Option<Fate>> {
    let mut tried = session.tried.clone();
    tried.extend(session.agent_id);
    let mut agents = agents::store::lock_with_room(tx, &session.region).await?;
    agents.retain(|agent| !tried.contains(&agent.id));
    let Some(agent) = scheduling::place(&agents) else { return Ok(None) };
    let moved = store::move_to(tx, session.id, agent, &tried).await?;
    let Some(session) = moved else { return Ok(None) };
    let sealed = match session.has_inputs {
        true => inputs::get(tx, session.id).await?,
        false => None,
    };
    Ok(Some(Fate::Moved(Box::new(session), agent, sealed)))
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
