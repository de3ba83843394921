//! What the operator of a server does to join tokens: from its command line, on its database,
//! while servers run or not.

use std::time::Duration;

use anyhow::Context;
use proto::{id::JoinTokenId, region::Region};

use super::{
    PREFIX,
    store::{self, JoinTokenRow},
};
use crate::{agents, credential, db::Db};

/// Makes a token for a region, which expires if it is said when: its record, and the token
/// itself. That is a secret and cannot be had again.
pub async fn create(
    db: &Db,
    region: &Region,
    label: &str,
    expires_in: Option<Duration>,
) -> anyhow::Result<(JoinTokenRow, String)> {
    let mut tx = db.begin().await?;
    let id = JoinTokenId::generate();
    let token = credential::mint(PREFIX, id)?;
    let now = tx.now_us().await?;
    let lasts_us = expires_in.map(|span| i64::try_from(span.as_micros())).transpose()?;
    let row = JoinTokenRow {
        id,
        region: region.clone(),
        label: label.to_owned(),
        secret_hash: token.hash,
        created_us: now,
        expires_us: lasts_us.map(|span| now.saturating_add(span)),
        revoked_us: None,
        last_used_us: None,
    };
    store::insert(&mut tx, &row).await?;
    tx.commit().await?;
    Ok((row, token.text))
}

/// All tokens, newest first, with the time by which to judge them.
pub async fn list(db: &Db) -> anyhow::Result<(Vec<JoinTokenRow>, i64)> {
    let mut tx = db.read().await?;
    let rows = store::all(&mut tx).await?;
    Ok((rows, tx.now_us().await?))
}

/// Revokes a token. The agents that joined with it get no new session from now on, and lose
/// their streams when they next ask for their lease. Doing it twice is harmless.
pub async fn revoke(db: &Db, id: JoinTokenId) -> anyhow::Result<JoinTokenRow> {
    let mut tx = db.begin().await?;
    if store::revoke(&mut tx, id).await? {
        agents::store::disconnect_all_of(&mut tx, id).await?;
    }
    let row = store::find(&mut tx, id).await?;
    tx.commit().await?;
    row.with_context(|| format!("there is no join token {id}"))
}
