//! Closes the gap between what the database says should be and what an agent says is.

use std::{collections::HashSet, time::Duration};

use proto::{
    agent::{Ended, SessionReport, session_report::State},
    id::{AgentId, SessionId},
    session::{EndReason, SessionStatus},
};
use tracing::{error, warn};

use super::{hub::Open, messages};
use crate::{
    app::App,
    files::orders,
    sessions::{
        self, SessionRow, captures,
        inputs::{self, Inputs},
    },
};

/// Goes through all that an agent says it runs, then through all that it should run.
pub(super) async fn hello(
    app: &App,
    stream: &Open,
    reports: Vec<SessionReport>,
) -> sqlx::Result<()> {
    let held = held(app, stream.agent).await?;
    let is_running = |session: &&SessionRow| session.status == SessionStatus::Running;
    let running_here: HashSet<_> =
        held.iter().filter(is_running).map(|session| session.id).collect();
    let (mut known, mut recorded) = (HashSet::new(), Vec::new());
    for report in reports {
        let Ok(id) = report.session_id.parse() else { continue };
        known.insert(id);
        match report.state {
            // All is well, as with most of them: a region that reconnects costs no more.
            Some(State::Running(_)) if running_here.contains(&id) => recorded.push(id),
            Some(State::Ended(report)) => ended(app, stream, id, &report).await?,
            Some(State::Running(_)) => running(app, stream, id).await?,
            Some(State::Launching(_)) | None => drop(unless_wanted(app, stream, id).await?),
        }
    }
    if !recorded.is_empty() {
        stream.send(messages::recorded(recorded));
    }
    for session in held {
        if known.contains(&session.id) {
            continue;
        }
        match session.status {
            // It was assigned while there was no stream.
            SessionStatus::Queued | SessionStatus::Provisioning => {
                assign(app, stream, &session).await?;
            }
            // Its browser is gone: with a former run of the agent, or for good.
            _ => {
                warn!(session = %session.id, agent = %stream.agent, "the agent has forgotten a session");
                let detail = "the agent was restarted";
                sessions::ended(app, stream.reporter(), session.id, EndReason::AgentLost, detail)
                    .await?;
            }
        }
    }
    Ok(())
}

/// How often the database is asked what is to be done: the longest that a lost push delays.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Repeats, to all agents whose streams end here, what they have yet to do and may not know of.
/// One look for all of them: what they do already is not read.
pub async fn look_for_all(app: &App) -> sqlx::Result<()> {
    if app.hub.is_idle() {
        return Ok(());
    }
    let mut tx = app.db.read().await?;
    let sessions = sessions::store::pending(&mut tx).await?;
    let asked = captures::asked(&mut tx).await?;
    let orders = orders::asked(&mut tx).await?;
    drop(tx);
    for session in &sessions {
        let Some(stream) = session.agent_id.and_then(|agent| app.hub.stream_of(agent)) else {
            continue;
        };
        if let Err(error) = tell(app, &stream, session).await {
            error!(?error, session = %session.id, "could not tell an agent what to do");
        }
    }
    for (agent, capture, session) in &asked {
        if let Some(stream) = app.hub.stream_of(*agent) {
            stream.capture(*capture, *session);
        }
    }
    for (agent, order) in &orders {
        if let Some(stream) = app.hub.stream_of(*agent) {
            stream.file(order);
        }
    }
    Ok(())
}

/// Repeats all that the database wants of an agent and that may not have reached it.
pub(super) async fn repeat(app: &App, stream: &Open) -> sqlx::Result<()> {
    let held = held(app, stream.agent).await?;
    for session in &held {
        tell(app, stream, session).await?;
    }
    let asked = captures::asked_of(&mut app.db.read().await?, stream.agent).await?;
    for (capture, session) in &asked {
        stream.capture(*capture, *session);
    }
    let orders = orders::asked_of(&mut app.db.read().await?, stream.agent).await?;
    for order in &orders {
        stream.file(order);
    }
    stream.told().keep(&held, &asked, &orders);
    Ok(())
}

/// Tells the agent what should become of a session that holds a slot on it.
async fn tell(app: &App, stream: &Open, session: &SessionRow) -> sqlx::Result<()> {
    match session.status {
        SessionStatus::Queued | SessionStatus::Provisioning => {
            assign(app, stream, session).await?;
            stream.adjust(session);
        }
        SessionStatus::Running => stream.adjust(session),
        _ => stream.send(messages::release(session.id, end_of(session))),
    }
    Ok(())
}

/// Another replica has changed what the database wants of an agent: of this session, or of
/// anything.
pub async fn look(app: &App, stream: &Open, session: Option<SessionId>) -> sqlx::Result<()> {
    let Some(id) = session else { return repeat(app, stream).await };
    let session = sessions::store::get(&mut app.db.read().await?, id).await?;
    match session {
        Some(session) if session.agent_id == Some(stream.agent) && session.slot_held => {
            tell(app, stream, &session).await
        }
        _ => Ok(()),
    }
}

/// Tells the agent to run a session, with all that its launch needs.
async fn assign(app: &App, stream: &Open, session: &SessionRow) -> sqlx::Result<()> {
    if !session.has_inputs {
        stream.assign(session, &Inputs::default());
        return Ok(());
    }
    if !stream.told().is_due(session) {
        return Ok(());
    }
    let sealed = inputs::get(&mut app.db.read().await?, session.id).await?;
    // Without them it has come to run or ended meanwhile. It is never launched without.
    let Some(sealed) = sealed else { return Ok(()) };
    match sealed.open(&app.secrets) {
        Ok(inputs) => stream.assign(session, &inputs),
        Err(error) => {
            error!(session = %session.id, ?error, "no launch inputs");
            let detail = "what it was to begin with cannot be decrypted";
            let reason = EndReason::LaunchFailed;
            sessions::ended(app, stream.reporter(), session.id, reason, detail).await?;
        }
    }
    Ok(())
}

/// A browser is up. If no one wants it any more it is to go.
pub(super) async fn running(app: &App, stream: &Open, id: SessionId) -> sqlx::Result<()> {
    let is_new = sessions::started(app, stream.reporter(), id).await?;
    if is_new || unless_wanted(app, stream, id).await? == Some(SessionStatus::Running) {
        stream.send(messages::recorded([id]));
    }
    Ok(())
}

/// A browser is about to go. Answered with how the session has ended once that is recorded.
pub(super) async fn ending(
    app: &App,
    stream: &Open,
    id: SessionId,
    report: &Ended,
) -> sqlx::Result<()> {
    let reason = reason_of(id, report);
    let ended = sessions::ending(app, stream.reporter(), id, reason, &report.detail).await?;
    if let Some(recorded) = ended {
        stream.send(messages::release(id, recorded));
    }
    Ok(())
}

/// A browser is gone. Acknowledged once that is recorded.
pub(super) async fn ended(
    app: &App,
    stream: &Open,
    id: SessionId,
    report: &Ended,
) -> sqlx::Result<()> {
    let reason = reason_of(id, report);
    sessions::ended(app, stream.reporter(), id, reason, &report.detail).await?;
    stream.send(messages::acknowledge(id));
    Ok(())
}

fn reason_of(id: SessionId, report: &Ended) -> EndReason {
    report.reason.parse().unwrap_or_else(|_| {
        warn!(session = %id, "the agent gave an unknown reason");
        EndReason::AgentLost
    })
}

/// Releases a session that the agent runs but should not. What it is, if the agent should.
async fn unless_wanted(
    app: &App,
    stream: &Open,
    id: SessionId,
) -> sqlx::Result<Option<SessionStatus>> {
    let session = sessions::store::get(&mut app.db.read().await?, id).await?;
    if let Some(session) = &session
        && session.agent_id == Some(stream.agent)
        && !session.status.is_final()
    {
        return Ok(Some(session.status));
    }
    let reason = session.as_ref().map_or(EndReason::AgentLost, end_of);
    stream.send(messages::release(id, reason));
    Ok(None)
}

fn end_of(session: &SessionRow) -> EndReason {
    // Without one it goes on elsewhere: here its launch came too late.
    session.reason.as_ref().map_or(EndReason::AgentLost, |reason| reason.code)
}

async fn held(app: &App, agent: AgentId) -> sqlx::Result<Vec<SessionRow>> {
    sessions::store::held_by(&mut app.db.read().await?, agent).await
}
