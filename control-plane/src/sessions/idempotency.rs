//! Idempotency keys: within 24 hours a key of a workspace stands for one session.
//!
//! The row, written in the transaction that records the session, is the truth: over
//! replicas, and after a crash. Within a replica requests with one key also take turns, so
//! that duplicates do not each wait for a slot.

use std::sync::Arc;

use dashmap::DashMap;
use http::HeaderMap;
use proto::{
    id::{SessionId, WorkspaceId},
    problem::{Problem, Slug},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    db::{Tx, from_row, on, parse},
    retention::{Old, old},
};

/// The header that carries the key.
pub const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
const LONGEST: usize = 255;
/// How long a key stands for its session.
const WINDOW_US: i64 = 24 * 60 * 60 * 1_000_000;

/// Takes the key from a request's headers.
pub fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let required = |detail| Problem::new(Slug::IdempotencyKeyRequired, detail);
    let mut given = headers.get_all(HEADER).iter();
    let key = given.next().ok_or_else(|| required("the Idempotency-Key header is missing"))?;
    if given.next().is_some() {
        return Err(required("the Idempotency-Key header is there more than once"));
    }
    let key = key.as_bytes();
    if !(1..=LONGEST).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return Err(required("the Idempotency-Key must be 1 to 255 visible ASCII characters"));
    }
    Ok(String::from_utf8_lossy(key).into_owned())
}

/// What a request asks for, apart from how its JSON is written: the order of members and
/// members that are `null` make no difference.
pub fn fingerprint(body: &Value) -> Vec<u8> {
    let mut text = String::from("POST /v1/sessions ");
    canonical(body, &mut text);
    Sha256::digest(text).to_vec()
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().filter(|(_, value)| !value.is_null()).collect();
            members.sort_by_key(|(name, _)| *name);
            text.push('{');
            for (name, value) in members {
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                canonical(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// Lets requests with one key take turns within this replica.
#[derive(Clone, Default)]
pub struct Turns {
    taken: Arc<DashMap<Name, Arc<Mutex<()>>>>,
}

/// A key is one only within its workspace.
type Name = (WorkspaceId, String);

/// A request's turn, ended when dropped.
pub struct Turn {
    name: Name,
    turn: Option<OwnedMutexGuard<()>>,
    turns: Turns,
}

impl Turns {
    /// Waits for the requests before this one with the same key.
    pub async fn take(&self, workspace: WorkspaceId, key: &str) -> Turn {
        let name = (workspace, key.to_owned());
        let lock = Arc::clone(&self.taken.entry(name.clone()).or_default());
        // The cleaner comes first, so that a request that leaves while it waits cleans up too.
        let mut turn = Turn { name, turn: None, turns: self.clone() };
        turn.turn = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turn = None;
        // Only the map itself has it: nobody holds it or waits for it.
        self.turns.taken.remove_if(&self.name, |_, lock| Arc::strong_count(lock) == 1);
    }
}

/// What a key stands for.
#[derive(Debug)]
pub struct Record {
    /// Of the request that made it.
    pub fingerprint: Vec<u8>,
    /// The session that the request got.
    pub session_id: SessionId,
}

from_row!(Record, |row| Self {
    fingerprint: row.try_get("fingerprint")?,
    session_id: parse(row.try_get("session_id")?)?,
});

const FIND: &str = "SELECT fingerprint, session_id FROM idempotency \
     WHERE workspace_id = $1 AND key = $2 AND expires_us > $3";

/// What a key stands for now.
pub async fn find(tx: &mut Tx, workspace: WorkspaceId, key: &str) -> sqlx::Result<Option<Record>> {
    let now = tx.now_us().await?;
    on!(tx, |db| {
        sqlx::query_as(FIND)
            .bind(workspace.to_string())
            .bind(key)
            .bind(now)
            .fetch_optional(db)
            .await
    })
}

const RECORD: &str = "INSERT INTO idempotency \
     (workspace_id, key, fingerprint, session_id, created_us, expires_us) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workspace_id, key) DO UPDATE SET \
     fingerprint = excluded.fingerprint, session_id = excluded.session_id, \
     created_us = excluded.created_us, expires_us = excluded.expires_us \
     WHERE idempotency.expires_us <= excluded.created_us";

/// Binds a key to a session. `false` when another replica was faster: then the session must
/// not be recorded either.
pub async fn record(
    tx: &mut Tx,
    workspace: WorkspaceId,
    key: &str,
    fingerprint: &[u8],
    session: SessionId,
) -> sqlx::Result<bool> {
    let now = tx.now_us().await?;
    let written = on!(tx, |db| {
        sqlx::query(RECORD)
            .bind(workspace.to_string())
            .bind(key)
            .bind(fingerprint)
            .bind(session.to_string())
            .bind(now)
            .bind(now + WINDOW_US)
            .execute(db)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(written == 1)
}

const FORGET: &str = "DELETE FROM idempotency WHERE session_id = $1";

/// Frees the key of a session whose create failed after all.
pub async fn forget(tx: &mut Tx, session: SessionId) -> sqlx::Result<()> {
    on!(tx, |db| sqlx::query(FORGET).bind(session.to_string()).execute(db).await.map(drop))
}

/// Keys whose time is over.
pub const OLD: Old = Old { texts: old!("idempotency", "expires_us <= $1"), kept_us: 0 };

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[FIND, RECORD, FORGET];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fingerprint_is_of_what_is_asked_and_not_of_how_it_is_written() {
        let of = |text: &str| fingerprint(&serde_json::from_str(text).unwrap());
        let one = of(r#"{"labels":{"a":"1","b":"2"},"timeout_seconds":60}"#);
        assert_eq!(
            one,
            of(r#"{ "timeout_seconds":60,"labels":{"b":"2","a":"1"}, "region":null }"#)
        );
        assert_ne!(one, of(r#"{"labels":{"a":"1","b":"3"},"timeout_seconds":60}"#));
        assert_ne!(fingerprint(&json!({"a": "1"})), fingerprint(&json!({"a": 1})));
        assert_ne!(fingerprint(&json!({"a,b": "1"})), fingerprint(&json!({"a": {"b": "1"}})));
    }

    #[tokio::test]
    async fn turns_are_taken_one_at_a_time_and_leave_nothing() {
        let turns = Turns::default();
        let workspace = WorkspaceId::generate();
        let first = turns.take(workspace, "k").await;
        let other = turns.take(workspace, "other").await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(workspace, "k").await) }
        });
        let leaving = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(workspace, "k").await) }
        });
        tokio::task::yield_now().await;
        leaving.abort();
        assert!(leaving.await.is_err());
        drop((first, other));
        waiting.await.unwrap();
        assert!(turns.taken.is_empty());
    }
}
