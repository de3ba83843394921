//! What agents have to do with uploads. Any replica may ask; the one with the agent's stream
//! carries the order and writes the answer down. An order stays until it is answered, so an
//! agent that was away hears of it when it is back; a newer one for the same name takes its
//! place.

use std::time::Duration;

use proto::{
    agent::Placed,
    id::{AgentId, FileOrderId, SessionId},
};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::{
    app::App,
    db::{Tx, from_row, on, parse, unsigned},
    error::Error,
    retention::{Old, old},
    sessions,
};

/// How long to wait for an agent's answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look for it without having been woken.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Older orders have nobody who waits for them, and no agent that will answer, in microseconds.
const STALE_US: i64 = 3_600 * 1_000_000;
/// Longest error of an agent that is passed on, in characters.
const ERROR_MAX: usize = 500;

/// Something to do with an upload.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names it.
    pub id: FileOrderId,
    /// Whose browser it is about.
    pub session: SessionId,
    /// Of the file.
    pub name: String,
    /// Of the file.
    pub size_bytes: u64,
    /// Whether it is to go; otherwise it is to be fetched.
    pub remove: bool,
}

from_row!(Order, |row| Self {
    id: parse(row.try_get("id")?)?,
    session: parse(row.try_get("session_id")?)?,
    name: row.try_get("name")?,
    size_bytes: unsigned(row.try_get("size_bytes")?)?,
    remove: row.try_get::<i64, _>("remove")? == 1,
});

const FORGET_NAME: &str = "DELETE FROM file_orders WHERE session_id = $1 AND name = $2";
const INSERT: &str = "INSERT INTO file_orders \
     (id, session_id, name, size_bytes, remove, status, created_us) \
     VALUES ($1, $2, $3, $4, $5, 'ASKED', $6)";

/// Records an order in the transaction of what it follows from; the session must be locked.
/// Send it once that is committed.
pub async fn ask(
    tx: &mut Tx,
    session: SessionId,
    name: &str,
    size_bytes: u64,
    remove: bool,
) -> sqlx::Result<Order> {
    let now = tx.now_us().await?;
    let id = FileOrderId::generate();
    on!(tx, |db| {
        sqlx::query(FORGET_NAME).bind(session.to_string()).bind(name).execute(db).await.map(drop)
    })?;
    on!(tx, |db| {
        sqlx::query(INSERT)
            .bind(id.to_string())
            .bind(session.to_string())
            .bind(name)
            .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
            .bind(i64::from(remove))
            .bind(now)
            .execute(db)
            .await
            .map(drop)
    })?;
    Ok(Order { id, session, name: name.to_owned(), size_bytes, remove })
}

const TO_ASK_AGAIN: &str = "SELECT name, size_bytes FROM session_files \
     WHERE session_id = $1 AND kind = 'UPLOAD' AND status = 'STORED' AND NOT EXISTS \
     (SELECT 1 FROM file_orders WHERE file_orders.session_id = session_files.session_id \
     AND file_orders.name = session_files.name AND file_orders.status = 'ASKED')";

/// Has all uploads of a session fetched that nobody is about to fetch: it has another agent.
/// The session must be locked.
pub async fn ask_again(tx: &mut Tx, session: SessionId) -> sqlx::Result<()> {
    let files: Vec<(String, i64)> = on!(tx, |db| {
        sqlx::query_as(TO_ASK_AGAIN).bind(session.to_string()).fetch_all(db).await
    })?;
    for (name, size_bytes) in files {
        ask(tx, session, &name, unsigned(size_bytes)?, false).await?;
    }
    Ok(())
}

const ASKED_FOR: &str = "SELECT id, session_id, name, size_bytes, remove FROM file_orders \
     WHERE session_id = $1 AND name = $2 AND remove = 1 AND status = 'ASKED'";

/// The order to remove a file that its agent has not answered yet.
pub async fn asked_for_removal(
    tx: &mut Tx,
    session: SessionId,
    name: &str,
) -> sqlx::Result<Option<Order>> {
    on!(tx, |db| {
        let asked = sqlx::query_as(ASKED_FOR).bind(session.to_string()).bind(name);
        asked.fetch_optional(db).await
    })
}

/// Sends an order to the agent of its session, and waits until it is carried out. No
/// transaction may be open.
///
/// # Errors
///
/// [`Error::Over`] when the session ends meanwhile, [`Error::NotPlaced`] when its agent
/// cannot do it or does not answer in time. In the latter case it may still do it.
pub async fn carried_out(app: &App, agent: Option<AgentId>, order: &Order) -> Result<(), Error> {
    let mut watch = app.changes.watch(order.session);
    if let Some(agent) = agent {
        app.hub.file(agent, order);
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = look(app, order).await? {
            return done;
        }
        if Instant::now() >= deadline {
            let detail = format!("no answer in {} seconds", PATIENCE.as_secs());
            return Err(Error::NotPlaced(detail));
        }
        tokio::select! {
            () = app.stop.cancelled() => {
                return Err(Error::NotPlaced("the server is stopping".to_owned()));
            }
            // Running into the limit is one of the two reasons to look again.
            _ = timeout(LOOK_EVERY, watch.changed()) => (),
        }
    }
}

/// What has come of an order, if anything has.
async fn look(app: &App, order: &Order) -> Result<Option<Result<(), Error>>, Error> {
    let mut tx = app.db.read().await?;
    let outcome = get(&mut tx, order.id).await?;
    let session = sessions::store::get(&mut tx, order.session).await?;
    drop(tx);
    let answered = match outcome {
        // A later order for the same name took its place, and says all that there is to do.
        None => return Ok(Some(Ok(()))),
        Some(Outcome { asked: true, .. }) => {
            let over = session.is_none_or(|session| session.status.is_final());
            return Ok(over.then_some(Err(Error::Over)));
        }
        Some(Outcome { error: Some(error), .. }) => Err(Error::NotPlaced(error)),
        Some(Outcome { error: None, .. }) => Ok(()),
    };
    let mut tx = app.db.begin().await?;
    on!(tx, |db| sqlx::query(DELETE).bind(order.id.to_string()).execute(db).await.map(drop))?;
    tx.commit().await?;
    Ok(Some(answered))
}

/// How far an order is.
struct Outcome {
    asked: bool,
    error: Option<String>,
}

from_row!(Outcome, |row| {
    let status: String = row.try_get("status")?;
    Self { asked: status == "ASKED", error: row.try_get("error")? }
});

const GET: &str = "SELECT status, error FROM file_orders WHERE id = $1";
const DELETE: &str = "DELETE FROM file_orders WHERE id = $1";

async fn get(tx: &mut Tx, id: FileOrderId) -> sqlx::Result<Option<Outcome>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

const PLACED: &str = "UPDATE file_orders SET status = $4, error = $5 \
     WHERE id = $1 AND session_id = $2 AND status = 'ASKED' \
     AND EXISTS (SELECT 1 FROM sessions WHERE sessions.id = $2 AND agent_id = $3)";

/// What an agent says of an order. Nothing, if nobody asked this agent for it.
pub async fn placed(app: &App, agent: AgentId, placed: Placed) -> sqlx::Result<()> {
    let (Ok(id), Ok(session)) =
        (placed.order_id.parse::<FileOrderId>(), placed.session_id.parse::<SessionId>())
    else {
        return Ok(());
    };
    // PostgreSQL cannot store NUL.
    let error: String = placed.error.chars().filter(|&c| c != '\0').take(ERROR_MAX).collect();
    let error = Some(error).filter(|error| !error.is_empty());
    let status = if error.is_some() { "FAILED" } else { "DONE" };
    let mut tx = app.db.begin().await?;
    let recorded = on!(tx, |db| {
        sqlx::query(PLACED)
            .bind(id.to_string())
            .bind(session.to_string())
            .bind(agent.to_string())
            .bind(status)
            .bind(error)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
    })?;
    tx.commit().await?;
    debug!(order = %id, %session, status, recorded, "an agent answered a file order");
    app.changes.wake(session);
    Ok(())
}

macro_rules! asked {
    ($of:literal) => {
        concat!(
            "SELECT agent_id, file_orders.id, session_id, name, size_bytes, remove \
             FROM file_orders JOIN sessions ON sessions.id = session_id \
             WHERE file_orders.status = 'ASKED' \
             AND sessions.status IN ('PROVISIONING', 'RUNNING')",
            $of,
            " ORDER BY file_orders.id"
        )
    };
}
const ASKED_OF: &str = asked!(" AND agent_id = $1");

/// What an agent has been asked for and has not answered.
pub async fn asked_of(tx: &mut Tx, agent: AgentId) -> sqlx::Result<Vec<Order>> {
    on!(tx, |db| sqlx::query_as(ASKED_OF).bind(agent.to_string()).fetch_all(db).await)
}

const ASKED: &str = asked!("");

/// An order, and who was asked.
struct Asked(AgentId, Order);

from_row!(Asked, |row| {
    let agent: String = row.try_get("agent_id")?;
    Self(parse(&agent)?, sqlx::FromRow::from_row(row)?)
});

/// What any agent has been asked for and has not answered.
pub async fn asked(tx: &mut Tx) -> sqlx::Result<Vec<(AgentId, Order)>> {
    let rows: Vec<Asked> = on!(tx, |db| sqlx::query_as(ASKED).fetch_all(db).await)?;
    Ok(rows.into_iter().map(|Asked(agent, order)| (agent, order)).collect())
}

/// Orders that nobody waits for any more.
pub const OLD: Old = Old { texts: old!("file_orders", "created_us < $1"), kept_us: STALE_US };

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] =
    &[FORGET_NAME, INSERT, TO_ASK_AGAIN, ASKED_FOR, GET, DELETE, PLACED, ASKED_OF, ASKED];
