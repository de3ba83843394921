//! Closes the gap between what the database says should be and what an agent says is.

use std::collections::HashSet;

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
    let mut known = HashSet::new();
    for report in reports {
        let Ok(id) = report.session_id.parse() else { continue };
        known.insert(id);
        match report.state {
            Some(State::Ended(report)) => ended(app, stream, id, &report).await?,
            Some(State::Running(_)) => running(app, stream, id).await?,
            Some(State::Launching(_)) | None => unless_wanted(app, stream, id).await?,
        }
    }
    for session in held(app, stream.agent).await? {
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
                sessions::ended(app, stream.agent, session.id, EndReason::AgentLost, detail)
                    .await?;
            }
        }
    }
    Ok(())
}

/// Repeats what the database wants of an agent and what may not have reached it.
pub(super) async fn repeat(app: &App, stream: &Open) -> sqlx::Result<()> {
    let held = held(app, stream.agent).await?;
    for session in &held {
        match session.status {
            SessionStatus::Queued | SessionStatus::Provisioning => {
                assign(app, stream, session).await?;
                stream.adjust(session);
            }
            SessionStatus::Running => stream.adjust(session),
            _ => stream.send(messages::release(session.id, end_of(session))),
        }
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
            sessions::ended(app, stream.agent, session.id, reason, detail).await?;
        }
    }
    Ok(())
}

/// A browser is up. If no one wants it any more it is to go.
pub(super) async fn running(app: &App, stream: &Open, id: SessionId) -> sqlx::Result<()> {
    sessions::started(app, stream.agent, id).await?;
    unless_wanted(app, stream, id).await
}

/// A browser is gone. Acknowledged once that is recorded.
pub(super) async fn ended(
    app: &App,
    stream: &Open,
    id: SessionId,
    report: &Ended,
) -> sqlx::Result<()> {
    let reason = report.reason.parse().unwrap_or_else(|_| {
        warn!(session = %id, "the agent gave an unknown reason");
        EndReason::AgentLost
    });
    sessions::ended(app, stream.agent, id, reason, &report.detail).await?;
    stream.send(messages::acknowledge(id));
    Ok(())
}

/// Releases a session that the agent runs but should not.
async fn unless_wanted(app: &App, stream: &Open, id: SessionId) -> sqlx::Result<()> {
    let session = sessions::store::get(&mut app.db.read().await?, id).await?;
    match session {
        Some(session) if session.agent_id == Some(stream.agent) && !session.status.is_final() => (),
        Some(session) => stream.send(messages::release(id, end_of(&session))),
        None => stream.send(messages::release(id, EndReason::AgentLost)),
    }
    Ok(())
}

fn end_of(session: &SessionRow) -> EndReason {
    // Without one it goes on elsewhere: here its launch came too late.
    session.reason.as_ref().map_or(EndReason::AgentLost, |reason| reason.code)
}

async fn held(app: &App, agent: AgentId) -> sqlx::Result<Vec<SessionRow>> {
    sessions::store::held_by(&mut app.db.read().await?, agent).await
}
