//! Another master key in place of the old one, while servers run.
//!
//! ```text
//! new key known to the store ─▶ file: new, old ─▶ all wrapped anew ─▶ old one forgotten ─▶ file: new
//! ```
//!
//! Cut short anywhere, the next run takes up where this one was. A server that still wraps
//! with the old key after the last look cannot write what it wrapped: its row would refer to
//! a key that is forgotten. So nothing is ever left that no key can read.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use tracing::info;

use super::{
    ring::{self, Ring, Source},
    store,
};
use crate::db::{Db, from_row, on};

/// How often all is looked through, while servers go on wrapping with the old key.
const LOOKS: u32 = 20;

/// Something that is wrapped: its rows, and how to give one another wrapping.
struct Kind {
    name: &'static str,
    /// Id, purpose and wrapping of some rows behind one, that another key than the wanted one
    /// wrapped.
    page: &'static str,
    rewrap: &'static str,
}

macro_rules! kind {
    ($name:literal: $table:literal, $id:literal, $wrapped:literal, $purpose:literal) => {
        Kind {
            name: $name,
            page: concat!(
                "SELECT ",
                $id,
                " AS id, ",
                $purpose,
                " AS purpose, ",
                $wrapped,
                " AS wrapped \
                 FROM ",
                $table,
                " WHERE ",
                $id,
                " > $1 AND ",
                $wrapped,
                " IS NOT NULL \
                 AND (key_id IS NULL OR key_id <> $2) ORDER BY ",
                $id,
                " LIMIT 100",
            ),
            // Only what is still as it was read: it may have been written anew meanwhile.
            rewrap: concat!(
                "UPDATE ",
                $table,
                " SET key_id = $2, ",
                $wrapped,
                " = $3 WHERE ",
                $id,
                " = $1 \
                 AND ",
                $wrapped,
                " = $4",
            ),
        }
    };
}

/// All that is wrapped. The purposes are those of the modules that wrap: `signing`,
/// `sessions::inputs`, `profiles::content`, `sessions::captures` and `files::content`.
const KINDS: [Kind; 5] = [
    kind!("signing keys": "signing_keys", "kid", "wrapped_private", "'connect token key'"),
    kind!("session inputs": "session_inputs", "session_id", "wrapped_key",
        "'session inputs ' || session_id"),
    kind!("profiles": "profiles", "id", "wrapped_key",
        "'profile ' || workspace_id || ' ' || id || ' ' || version"),
    kind!("captures": "captures", "id", "wrapped_key", "'capture ' || id"),
    kind!("files": "session_files", "id", "wrapped_key", "'file ' || id"),
];

/// What a rotation has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotated {
    /// Signing keys wrapped anew.
    pub signing_keys: u64,
    /// Sessions' launch inputs wrapped anew.
    pub session_inputs: u64,
    /// Profiles wrapped anew.
    pub profiles: u64,
    /// Captured storage states wrapped anew.
    pub captures: u64,
    /// Files of sessions wrapped anew.
    pub files: u64,
    /// Whether an earlier rotation that was cut short was completed; then no new key was made.
    pub resumed: bool,
    /// Whether the keys come from `VENTUS_MASTER_KEY`: then the operator has to take the old
    /// ones out of it. Nothing needs them any more.
    pub from_environment: bool,
}

/// Puts a new master key in place of the old one and wraps anew all that the old one wrapped.
/// Servers may run. With keys from `VENTUS_MASTER_KEY` the operator gives the new one to every
/// server first, behind the old one, and then, again everywhere, puts it in front.
///
/// # Errors
///
/// When something cannot be decrypted with any key, or servers go on wrapping with the old
/// one. Then no key is dropped, and what was wrapped anew is good.
pub async fn rotate_master(db: &Db, data_dir: &Path) -> anyhow::Result<Rotated> {
    rotate_keys(db, &Source::open(data_dir)?).await
}

async fn rotate_keys(db: &Db, source: &Source) -> anyhow::Result<Rotated> {
    let _alone = match source {
        Source::Fixed(_) => None,
        Source::File(path) => Some(alone(path)?),
    };
    let mut keys = source.read()?;
    let mut rotated = Rotated { resumed: keys.len() > 1, ..Rotated::default() };
    match source {
        Source::Fixed(_) => {
            ensure!(
                keys.len() > 1,
                "VENTUS_MASTER_KEY holds one key: give every server the old key, a comma and the \
                 new key, then every server the new key, a comma and the old key, and run this \
                 again with the latter"
            );
            (rotated.resumed, rotated.from_environment) = (false, true);
        }
        Source::File(path) if keys.len() == 1 => {
            keys.insert(0, ring::random_key()?);
            // The store first: whoever finds the key in the file may wrap with it.
            register(db, &keys).await?;
            ring::replace(path, &keys).context("could not write the master keys")?;
            info!("made a master key");
        }
        Source::File(_) => (),
    }
    register(db, &keys).await?;
    let ring = Ring::new(&keys);
    rewrap_all(db, &ring, &mut rotated).await?;
    if let Source::File(path) = source {
        ring::replace(path, &keys[..1]).context("could not write the master key")?;
    }
    Ok(rotated)
}

/// Two rotations at once would each make a key.
fn alone(path: &Path) -> anyhow::Result<fs::File> {
    let lock = fs::File::create(path.with_extension("key.lock"))?;
    lock.try_lock().context("another rotation is under way")?;
    Ok(lock)
}

async fn register(db: &Db, keys: &[[u8; 32]]) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    store::register(&mut tx, &Ring::new(&keys[..1]).first().id()).await?;
    Ok(tx.commit().await?)
}

/// Until a look finds nothing more and the store has forgotten the other keys.
async fn rewrap_all(db: &Db, ring: &Ring, rotated: &mut Rotated) -> anyhow::Result<()> {
    for _ in 0..LOOKS {
        for (kind, count) in KINDS.iter().zip([
            &mut rotated.signing_keys,
            &mut rotated.session_inputs,
            &mut rotated.profiles,
            &mut rotated.captures,
            &mut rotated.files,
        ]) {
            *count += rewrap(db, ring, kind).await.with_context(|| kind.name)?;
        }
        let mut tx = db.begin().await?;
        match store::keep_only(&mut tx, &ring.first().id()).await {
            Ok(()) => return Ok(tx.commit().await?),
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => (),
            Err(error) => return Err(error.into()),
        }
    }
    bail!("a server goes on wrapping with the old key: does it have the new one?")
}

/// A row that another key wrapped.
struct Row {
    id: String,
    purpose: String,
    wrapped: Vec<u8>,
}

from_row!(Row, |row| Self {
    id: row.try_get("id")?,
    purpose: row.try_get("purpose")?,
    wrapped: row.try_get("wrapped")?,
});

/// Wraps all of one kind anew, a few rows a transaction.
async fn rewrap(db: &Db, ring: &Ring, kind: &Kind) -> anyhow::Result<u64> {
    let key_id = ring.first().id();
    let (mut behind, mut count, mut unreadable) = (String::new(), 0, 0_u64);
    loop {
        let mut tx = db.read().await?;
        let rows: Vec<Row> = on!(tx, |db| {
            sqlx::query_as(kind.page).bind(&behind).bind(&key_id).fetch_all(db).await
        })?;
        drop(tx);
        let Some(last) = rows.last() else { break };
        behind.clone_from(&last.id);
        let mut tx = db.begin().await?;
        for row in rows {
            let Ok(secret) = ring.unwrap(&row.purpose, &row.wrapped) else {
                unreadable += 1;
                continue;
            };
            let wrapped = ring.first().wrap(&row.purpose, &secret)?;
            count += on!(tx, |db| {
                let rewrap = sqlx::query(kind.rewrap).bind(&row.id).bind(&key_id);
                let rewrap = rewrap.bind(&wrapped).bind(&row.wrapped);
                rewrap.execute(db).await.map(|done| done.rows_affected())
            })?;
        }
        tx.commit().await?;
    }
    ensure!(unreadable == 0, "{unreadable} cannot be decrypted with any of the master keys");
    Ok(count)
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) fn texts() -> Vec<&'static str> {
    KINDS.iter().flat_map(|kind| [kind.page, kind.rewrap]).collect()
}
