//! Readings of a browser's storage state, for profiles. Any replica may ask; the one with the
//! agent's stream carries the question and writes the answer down, encrypted; the one that
//! asked takes it. A capture whose asker died is swept.

use std::time::Duration;

use anyhow::Context;
use proto::{
    agent::{Captured, captured::Outcome},
    id::{AgentId, CaptureId, SessionId},
};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{SessionRow, store};
use crate::{
    app::App,
    db::{Tx, from_row, on, parse},
    error::Error,
    retention::{Old, old},
    secrets::{DataKey, Secrets, Undecryptable},
    storage_state::StorageState,
};

/// How long to wait for an agent's answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look for it without having been woken.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Older captures have nobody who waits for them, in microseconds.
const STALE_US: i64 = 2 * 60 * 1_000_000;
/// Longest error of an agent that is passed on, in characters.
const ERROR_MAX: usize = 500;

/// Reads the storage state of a running session's browser. No transaction may be open.
///
/// # Errors
///
/// [`Error::Conflict`] when the session ends meanwhile, [`Error::NotCaptured`] when its agent
/// cannot read the state or does not answer in time.
pub async fn capture(app: &App, session: &SessionRow) -> Result<Vec<u8>, Error> {
    let Some(agent) = session.agent_id else {
        return Err(anyhow::anyhow!("a running session has an agent").into());
    };
    let mut watch = app.changes.watch(session.id);
    let id = CaptureId::generate();
    let mut tx = app.db.begin().await?;
    insert(&mut tx, id, session.id, agent).await?;
    tx.commit().await?;
    app.hub.capture(agent, id, session.id);
    let deadline = Instant::now() + PATIENCE;
    let taken = loop {
        if let Some(taken) = look(app, id, session.id).await? {
            break taken;
        }
        if Instant::now() >= deadline {
            let detail = format!("no answer in {} seconds", PATIENCE.as_secs());
            break Err(Error::NotCaptured(detail));
        }
        tokio::select! {
            () = app.stop.cancelled() => {
                break Err(Error::NotCaptured("the server is stopping".to_owned()));
            }
            // Running into the limit is one of the two reasons to look again.
            _ = timeout(LOOK_EVERY, watch.changed()) => (),
        }
    };
    let mut tx = app.db.begin().await?;
    delete(&mut tx, id).await?;
    tx.commit().await?;
    let state = taken?;
    StorageState::parse(&state).context("what the agent sent")?;
    Ok(state)
}

/// What has come of a capture, if anything has.
async fn look(
    app: &App,
    id: CaptureId,
    session: SessionId,
) -> Result<Option<Result<Vec<u8>, Error>>, Error> {
    let mut tx = app.db.read().await?;
    let capture = get(&mut tx, id).await?;
    let session = store::get(&mut tx, session).await?;
    drop(tx);
    Ok(match capture {
        None => Some(Err(Error::NotCaptured("no answer in time".to_owned()))),
        Some(Capture { error: Some(error), .. }) => Some(Err(Error::NotCaptured(error))),
        Some(Capture { sealed: Some((key, content)), .. }) => {
            let state = open(&app.secrets, id, &key, &content).map_err(anyhow::Error::from)?;
            Some(Ok(state))
        }
        Some(_) if session.is_none_or(|session| session.status.is_final()) => {
            Some(Err(Error::Conflict("the session ended meanwhile".to_owned())))
        }
        Some(_) => None,
    })
}

/// What an agent says of a capture. Nothing, if nobody asked this agent for it.
pub async fn captured(app: &App, agent: AgentId, captured: Captured) -> sqlx::Result<()> {
    let (Ok(id), Ok(session)) = (captured.capture_id.parse(), captured.session_id.parse()) else {
        return Ok(());
    };
    let state = match captured.outcome {
        Some(Outcome::StorageState(state)) if state.len() <= proto::STORAGE_STATE_MAX => Ok(state),
        Some(Outcome::StorageState(_)) => {
            Err(format!("it has more than {} bytes", proto::STORAGE_STATE_MAX))
        }
        // PostgreSQL cannot store NUL.
        Some(Outcome::Error(error)) => {
            Err(error.chars().filter(|&c| c != '\0').take(ERROR_MAX).collect())
        }
        None => Err("the agent sent nothing".to_owned()),
    };
    let recorded = match state {
        Ok(state) => done(app, id, session, agent, &state).await?,
        Err(error) => {
            let mut tx = app.db.begin().await?;
            let recorded = failed(&mut tx, id, session, agent, &error).await?;
            tx.commit().await?;
            recorded
        }
    };
    debug!(capture = %id, %session, recorded, "captured");
    app.changes.wake(session);
    Ok(())
}

/// What a capture has brought.
#[cfg(test)]
pub(crate) async fn content(app: &App, id: CaptureId) -> anyhow::Result<Vec<u8>> {
    let capture = get(&mut app.db.read().await?, id).await?;
    let (key, content) = capture.and_then(|capture| capture.sealed).unwrap_or_default();
    Ok(open(&app.secrets, id, &key, &content)?)
}

/// What a content is encrypted for, and its key wrapped. `secrets::rotate` has the same.
fn purpose(id: CaptureId) -> String {
    format!("capture {id}")
}

fn open(
    secrets: &Secrets,
    id: CaptureId,
    wrapped_key: &[u8],
    content: &[u8],
) -> Result<Vec<u8>, Undecryptable> {
    secrets.unwrap_key(&purpose(id), wrapped_key)?.decrypt(&purpose(id), content)
}

const INSERT: &str = "INSERT INTO captures (id, session_id, agent_id, status, created_us) \
     VALUES ($1, $2, $3, 'ASKED', $4)";

async fn insert(
    tx: &mut Tx,
    id: CaptureId,
    session: SessionId,
    agent: AgentId,
) -> sqlx::Result<()> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let insert = sqlx::query(INSERT).bind(id.to_string()).bind(session.to_string());
        insert.bind(agent.to_string()).bind(now).execute(db).await.map(drop)
    })
}

const DONE: &str = "UPDATE captures SET status = 'DONE', key_id = $4, wrapped_key = $5, \
     content = $6 WHERE id = $1 AND session_id = $2 AND agent_id = $3 AND status = 'ASKED'";

async fn done(
    app: &App,
    id: CaptureId,
    session: SessionId,
    agent: AgentId,
    state: &[u8],
) -> sqlx::Result<bool> {
    let failed = |error: anyhow::Error| sqlx::Error::Encode(error.into());
    let key = DataKey::generate().map_err(failed)?;
    let content = key.encrypt(&purpose(id), state).map_err(failed)?;
    let mut tx = app.db.begin().await?;
    let key = app.secrets.wrap(&purpose(id), key.as_bytes()).map_err(failed)?;
    let written = on!(tx, |db| {
        sqlx::query(DONE)
            .bind(id.to_string())
            .bind(session.to_string())
            .bind(agent.to_string())
            .bind(&key.key_id)
            .bind(&key.bytes)
            .bind(&content)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
    })?;
    tx.commit().await?;
    Ok(written == 1)
}

const FAILED: &str = "UPDATE captures SET status = 'FAILED', error = $4 \
     WHERE id = $1 AND session_id = $2 AND agent_id = $3 AND status = 'ASKED'";

async fn failed(
    tx: &mut Tx,
    id: CaptureId,
    session: SessionId,
    agent: AgentId,
    error: &str,
) -> sqlx::Result<bool> {
    let written = on!(tx, |db| {
        let failed = sqlx::query(FAILED).bind(id.to_string()).bind(session.to_string());
        let failed = failed.bind(agent.to_string()).bind(error).execute(db).await;
        failed.map(|done| done.rows_affected())
    })?;
    Ok(written == 1)
}

/// A capture as the store has it.
struct Capture {
    error: Option<String>,
    /// Its wrapped key and its content.
    sealed: Option<(Vec<u8>, Vec<u8>)>,
}

from_row!(Capture, |row| {
    let key: Option<Vec<u8>> = row.try_get("wrapped_key")?;
    Self { error: row.try_get("error")?, sealed: key.zip(row.try_get("content")?) }
});

const GET: &str = "SELECT error, wrapped_key, content FROM captures WHERE id = $1";

async fn get(tx: &mut Tx, id: CaptureId) -> sqlx::Result<Option<Capture>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

const DELETE: &str = "DELETE FROM captures WHERE id = $1";

async fn delete(tx: &mut Tx, id: CaptureId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(DELETE).bind(id.to_string()).execute(db).await.map(drop))
}

const ASKED_OF: &str = "SELECT id, session_id FROM captures \
     WHERE agent_id = $1 AND status = 'ASKED' ORDER BY id";

/// What an agent has been asked for and has not answered.
pub async fn asked_of(tx: &mut Tx, agent: AgentId) -> sqlx::Result<Vec<(CaptureId, SessionId)>> {
    let rows: Vec<(String, String)> =
        on!(tx, |db| sqlx::query_as(ASKED_OF).bind(agent.to_string()).fetch_all(db).await)?;
    rows.iter().map(|(id, session)| Ok((parse(id)?, parse(session)?))).collect()
}

const ASKED: &str = "SELECT agent_id, id, session_id FROM captures \
     WHERE status = 'ASKED' ORDER BY id";

/// What any agent has been asked for and has not answered.
pub async fn asked(tx: &mut Tx) -> sqlx::Result<Vec<(AgentId, CaptureId, SessionId)>> {
    let rows: Vec<(String, String, String)> =
        on!(tx, |db| sqlx::query_as(ASKED).fetch_all(db).await)?;
    let read = |(agent, id, session): &(String, String, String)| {
        Ok((parse(agent)?, parse(id)?, parse(session)?))
    };
    rows.iter().map(read).collect()
}

/// Captures that nobody waits for any more.
pub const OLD: Old = Old { texts: old!("captures", "created_us < $1"), kept_us: STALE_US };

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, DONE, FAILED, GET, DELETE, ASKED_OF, ASKED];
