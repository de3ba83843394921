//! Profiles: what a browser has stored, kept for later sessions to begin with.
//!
//! The content is a storage state, encrypted wherever it is (see [`content`]); a profile is
//! replaced as a whole. Sessions copy it when they are created, so that what becomes of the
//! profile later is nothing to them.

pub mod change;
pub mod content;
pub mod create;
pub mod get;
pub mod list;
pub mod object;
pub mod objects;
pub mod purge;
pub mod store;
pub mod sweep;
#[cfg(test)]
mod tests;

use proto::id::{ProfileId, SessionId, WorkspaceId};
use serde_json::Value;
use tracing::info;

use crate::{
    app::App,
    audit::{self, Actor, Deed},
    db::Tx,
    error::Error,
    sessions::validate::Object,
};

/// Longest name, in characters.
const NAME_MAX: usize = 128;

/// A profile as the store has it, without its content. Times are Unix microseconds.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns explain themselves; see the migration")]
pub struct ProfileRow {
    pub id: ProfileId,
    pub name: String,
    pub size_bytes: u64,
    pub created_us: i64,
    pub updated_us: i64,
}

/// Who writes a profile's content, and what it comes from.
pub struct Writer<'a> {
    /// Who is to be named for it.
    pub actor: &'a Actor,
    /// The session whose browser had it; `None`: it was sent.
    pub session: Option<SessionId>,
}

/// Takes the name of a profile out of a body; it must be there.
pub(crate) fn name(body: &mut Object<'_, '_>) -> String {
    body.line("name", NAME_MAX)
}

/// Makes a profile.
pub async fn create(
    app: &App,
    workspace: WorkspaceId,
    writer: &Writer<'_>,
    name: &str,
    state: &[u8],
) -> Result<ProfileRow, Error> {
    let id = ProfileId::generate();
    let prepared = content::prepare(app, workspace, id, state).await?;
    let mut tx = app.db.begin().await?;
    let key = prepared.wrap(app)?;
    let row = store::insert(&mut tx, workspace, id, name, &prepared.row(&key)).await?;
    writer.record(&mut tx, workspace, "profile.create", &row).await?;
    // If this fails the row may be there all the same: what to do with the object is for the
    // sweep to say.
    tx.commit().await?;
    info!(profile = %id, size_bytes = state.len(), "made a profile");
    Ok(row)
}

/// Gives a profile another content. `None`: the workspace has no such profile.
pub async fn replace(
    app: &App,
    workspace: WorkspaceId,
    writer: &Writer<'_>,
    id: ProfileId,
    state: &[u8],
) -> Result<Option<ProfileRow>, Error> {
    let prepared = content::prepare(app, workspace, id, state).await?;
    let mut tx = app.db.begin().await?;
    let Some(old) = store::lock(&mut tx, workspace, id).await? else {
        drop(tx);
        prepared.discard(app, id).await;
        return Ok(None);
    };
    let key = prepared.wrap(app)?;
    let row = store::replace(&mut tx, id, &prepared.row(&key)).await?;
    writer.record(&mut tx, workspace, "profile.update", &row).await?;
    tx.commit().await?;
    content::forget(app, id, &old).await;
    info!(profile = %id, size_bytes = state.len(), "replaced a profile");
    Ok(Some(row))
}

impl Writer<'_> {
    async fn record(
        &self,
        tx: &mut Tx,
        workspace: WorkspaceId,
        action: &'static str,
        profile: &ProfileRow,
    ) -> sqlx::Result<()> {
        let id = profile.id.to_string();
        let Some(session) = self.session.map(|session| session.to_string()) else {
            let detail = [("name", Value::from(profile.name.as_str()))];
            let deed = Deed { action, target_kind: "profile", target_id: &id, detail: &detail };
            return audit::record(tx, workspace, self.actor, deed).await;
        };
        let detail = [("profile_id", id.into()), ("name", profile.name.as_str().into())];
        let deed = Deed {
            action: "session.save_profile",
            target_kind: "session",
            target_id: &session,
            detail: &detail,
        };
        audit::record(tx, workspace, self.actor, deed).await
    }
}
