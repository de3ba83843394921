//! What a profile holds, and where: encrypted with a data key of its own, in the store when it
//! is small or nothing else is configured, else in the object store.
//!
//! A content never changes; another one has another version, and with it another object. A
//! new object is written before the row names it, an old one deleted when no row does any
//! more. Cut short in between, an object is left that [`super::sweep`] finds.

use anyhow::{Context, anyhow};
use proto::id::{ProfileId, WorkspaceId};
use tracing::warn;
use ulid::Ulid;

use super::store::{self, ContentRow, NewContent};
use crate::{
    app::App,
    error::Error,
    secrets::{DataKey, Wrapped},
};

/// The largest content, in encrypted bytes, that is kept in the store though there is an
/// object store.
const SMALL: usize = 256 << 10;

/// A content that a row can come to name: encrypted, and in the object store if it belongs
/// there.
pub struct Prepared {
    version: String,
    size_bytes: usize,
    key: DataKey,
    /// `None`: it is in the object store.
    content: Option<Vec<u8>>,
    purpose: String,
}

/// What a content is encrypted for. `secrets::rotate` has the same.
fn purpose(workspace: WorkspaceId, id: ProfileId, version: &str) -> String {
    format!("profile {workspace} {id} {version}")
}

/// Encrypts a content and puts it where it belongs. No transaction may be open.
pub async fn prepare(
    app: &App,
    workspace: WorkspaceId,
    id: ProfileId,
    state: &[u8],
) -> Result<Prepared, Error> {
    let version = Ulid::generate().to_string();
    let purpose = purpose(workspace, id, &version);
    let key = DataKey::generate()?;
    let sealed = key.encrypt(&purpose, state)?;
    let content = if app.objects.is_configured() && sealed.len() > SMALL {
        app.objects.put(id, &version, sealed).await?;
        None
    } else {
        Some(sealed)
    };
    Ok(Prepared { version, size_bytes: state.len(), key, content, purpose })
}

impl Prepared {
    /// Wraps its key. Right before the row is written: the master key may change.
    pub fn wrap(&self, app: &App) -> anyhow::Result<Wrapped> {
        app.secrets.wrap(&self.purpose, self.key.as_bytes())
    }

    /// Itself for the store.
    pub fn row<'a>(&'a self, key: &'a Wrapped) -> NewContent<'a> {
        NewContent {
            version: &self.version,
            size_bytes: self.size_bytes,
            key,
            content: self.content.as_deref(),
        }
    }

    /// Nothing came to name it: leaves nothing of it.
    pub async fn discard(&self, app: &App, id: ProfileId) {
        if self.content.is_none() {
            delete_object(app, id, &self.version).await;
        }
    }
}

/// No row names this content any more: leaves nothing of it.
pub async fn forget(app: &App, id: ProfileId, held: &ContentRow) {
    if held.content.is_none() {
        delete_object(app, id, &held.version).await;
    }
}

async fn delete_object(app: &App, id: ProfileId, version: &str) {
    if let Err(error) = app.objects.delete(id, version).await {
        warn!(%id, version, ?error, "could not delete an object; the sweep tries again");
    }
}

/// A profile's content in clear. `None`: the workspace has no such profile.
pub async fn read(
    app: &App,
    workspace: WorkspaceId,
    id: ProfileId,
) -> Result<Option<Vec<u8>>, Error> {
    let mut missing: Option<(String, object_store::Error)> = None;
    loop {
        let mut tx = app.db.read().await?;
        let Some(row) = store::content(&mut tx, workspace, id).await? else { return Ok(None) };
        drop(tx);
        if let Some((version, error)) = missing
            && version == row.version
        {
            return Err(anyhow!(error).context("a profile's object is missing").into());
        }
        let sealed = match row.content {
            Some(sealed) => sealed,
            None => match app.objects.get(id, &row.version).await {
                Ok(sealed) => sealed.into(),
                // It was replaced since the row was read, or it is lost: the row tells.
                Err(error @ object_store::Error::NotFound { .. }) => {
                    missing = Some((row.version, error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            },
        };
        let purpose = purpose(workspace, id, &row.version);
        let opened = app.secrets.unwrap_key(&purpose, &row.wrapped_key);
        let opened = opened.and_then(|key| key.decrypt(&purpose, &sealed));
        return Ok(Some(opened.with_context(|| format!("profile {id}"))?));
    }
}
