//! What a launch needs and the session's row does not say: the proxy with its credentials, and
//! the storage state that the browser begins with. Kept encrypted beside the row from the
//! create's own transaction until the browser runs or the session is over, so that whoever
//! assigns the session, now or after a crash, has it.

use proto::{
    id::{SessionId, WorkspaceId},
    session::SessionStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{NewSession, SessionRow, proxy::Upstream};
use crate::{
    app::App,
    db::{Tx, from_row, on},
    error::Error,
    profiles,
    secrets::{DataKey, Secrets, Undecryptable},
    storage_state::{self, StorageState},
};

/// What a content is encrypted for.
const PURPOSE: &str = "session inputs";

/// What a content's key is wrapped for. `secrets::rotate` has the same.
fn purpose(id: SessionId) -> String {
    format!("session inputs {id}")
}

/// What goes with an assignment. Nothing, for most sessions.
#[derive(Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Where the browser's traffic goes.
    pub proxy: Option<Upstream>,
    /// JSON in Playwright's shape.
    pub storage_state: Option<Box<RawValue>>,
}

/// Inputs of a session that is yet to be recorded.
pub struct Ready {
    /// In clear, for the first assignment.
    pub inputs: Inputs,
    key: DataKey,
    content: Vec<u8>,
}

/// Puts together what the launch needs: with a profile that is what it holds now. `None` when
/// it needs nothing. No transaction may be open.
pub async fn prepare(
    app: &App,
    workspace: WorkspaceId,
    new: &NewSession,
) -> Result<Option<Ready>, Error> {
    if !new.has_inputs() {
        return Ok(None);
    }
    let storage_state = match new.profile_id {
        None => new.storage_state.as_ref().map(|given| raw(given.to_json())).transpose()?,
        Some(profile) => {
            let held = profiles::content::read(app, workspace, profile).await?;
            let held = held.ok_or(Error::UnknownProfile)?;
            Some(raw(over(new.storage_state.clone(), held)?)?)
        }
    };
    let inputs = Inputs { proxy: new.proxy.clone(), storage_state };
    let key = DataKey::generate()?;
    let content = serde_json::to_vec(&inputs).map_err(anyhow::Error::from)?;
    let content = key.encrypt(PURPOSE, &content)?;
    Ok(Some(Ready { inputs, key, content }))
}

/// A state that was given, over the one of a profile.
fn over(given: Option<StorageState>, held: Vec<u8>) -> Result<Vec<u8>, Error> {
    let Some(given) = given else { return Ok(held) };
    let held = StorageState::parse(&held).map_err(anyhow::Error::from)?;
    let both = given.over(held).to_json();
    if both.len() > proto::STORAGE_STATE_MAX {
        let detail = format!(
            "must have at most {} bytes together with what the profile holds",
            proto::STORAGE_STATE_MAX
        );
        return Err(Error::Unfit { pointer: storage_state::POINTER, detail });
    }
    Ok(both)
}

fn raw(json: Vec<u8>) -> anyhow::Result<Box<RawValue>> {
    Ok(RawValue::from_string(String::from_utf8(json)?)?)
}

const INSERT: &str = "INSERT INTO session_inputs (session_id, key_id, wrapped_key, content) \
     VALUES ($1, $2, $3, $4)";

/// Records the inputs of a session, in the transaction that records the session.
pub async fn insert(
    tx: &mut Tx,
    secrets: &Secrets,
    id: SessionId,
    ready: &Ready,
) -> Result<(), Error> {
    // Right before it is written: the master key may change.
    let key = secrets.wrap(&purpose(id), ready.key.as_bytes())?;
    on!(tx, |db| {
        let insert = sqlx::query(INSERT).bind(id.to_string()).bind(&key.key_id).bind(&key.bytes);
        insert.bind(&ready.content).execute(db).await.map(drop)
    })?;
    Ok(())
}

/// Inputs as the store has them.
pub struct Sealed {
    session_id: SessionId,
    wrapped_key: Vec<u8>,
    content: Vec<u8>,
}

from_row!(Sealed, |row| Self {
    session_id: crate::db::parse(row.try_get("session_id")?)?,
    wrapped_key: row.try_get("wrapped_key")?,
    content: row.try_get("content")?,
});

impl Sealed {
    /// Decrypts them.
    pub fn open(&self, secrets: &Secrets) -> Result<Inputs, Undecryptable> {
        let key = secrets.unwrap_key(&purpose(self.session_id), &self.wrapped_key)?;
        let content = key.decrypt(PURPOSE, &self.content)?;
        serde_json::from_slice(&content).map_err(|_| Undecryptable)
    }
}

const GET: &str = "SELECT session_id, wrapped_key, content FROM session_inputs \
     WHERE session_id = $1";

/// The inputs of a session that has yet to come up; `None` if they are gone meanwhile.
pub async fn get(tx: &mut Tx, id: SessionId) -> sqlx::Result<Option<Sealed>> {
    on!(tx, |db| sqlx::query_as(GET).bind(id.to_string()).fetch_optional(db).await)
}

const DELETE: &str = "DELETE FROM session_inputs WHERE session_id = $1";

/// After a transition: nobody needs the inputs of a session that runs or is over.
pub async fn drop_unneeded(tx: &mut Tx, session: &SessionRow) -> sqlx::Result<()> {
    let comes_up = matches!(session.status, SessionStatus::Queued | SessionStatus::Provisioning);
    if comes_up || !session.has_inputs {
        return Ok(());
    }
    on!(tx, |db| sqlx::query(DELETE).bind(session.id.to_string()).execute(db).await.map(drop))
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[INSERT, GET, DELETE];
