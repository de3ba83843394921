//! The keys of connect tokens: Ed25519, kept in the store with their private halves wrapped
//! by the master key, the same for every replica.
//!
//! At most two keys live at once. A rotation adds one and retires all but the one before it.
//! The new key signs only after [`ACTIVATION`]: until then another replica, or an agent that
//! hangs on it, may not have heard of it. Agents verify with every living key.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::Ed25519KeyPair,
};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash},
};
use proto::token::ConnectClaims;
use serde_json::json;
use tracing::info;

use crate::{
    app::App,
    db::{Db, Link, Tx, from_row, on},
    secrets::{self, Secrets},
};

/// How often a replica looks for keys that another one made.
pub const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// How old a key must be to sign, if there is an older one, in microseconds.
const ACTIVATION: i64 = 30_000_000;
/// What private keys are wrapped for.
const PURPOSE: &str = "connect token key";

/// Signs connect tokens.
pub struct Signer {
    keys: RwLock<Arc<Keys>>,
}

/// The living keys, as last read.
struct Keys {
    header: Header,
    signing: EncodingKey,
    jwks: Arc<str>,
}

impl Signer {
    /// Reads the keys; the first start of all makes the first one. Also lets the master key
    /// wrap, now that it is seen to be the one that belongs to this database.
    ///
    /// # Errors
    ///
    /// Also when the keys were wrapped by another master key.
    pub async fn open(db: &Db, secrets: &Secrets) -> anyhow::Result<Self> {
        let mut tx = db.begin().await?;
        lock(&mut tx).await?;
        secrets::store::register(&mut tx, &secrets.key_id()).await?;
        if living(&mut tx).await?.is_empty() {
            insert(&mut tx, secrets).await?;
        }
        let keys = Keys::read(&mut tx, secrets).await?;
        tx.commit().await?;
        Ok(Self { keys: RwLock::new(Arc::new(keys)) })
    }

    /// A signed connect token.
    ///
    /// # Panics
    ///
    /// Never: the claims are plain JSON, and the key was used when it was read.
    pub fn connect_token(&self, claims: &ConnectClaims) -> String {
        let keys = self.keys();
        jsonwebtoken::encode(&keys.header, claims, &keys.signing).expect("a key that signs")
    }

    /// The public halves of the living keys, as a JSON Web Key Set (RFC 7517).
    pub fn jwks(&self) -> Arc<str> {
        self.keys().jwks.clone()
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the keys again; true when the public ones have changed.
    async fn reload(&self, db: &Db, secrets: &Secrets) -> anyhow::Result<bool> {
        let mut tx = db.read().await?;
        let keys = Arc::new(Keys::read(&mut tx, secrets).await?);
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.jwks != keys.jwks;
        *current = keys;
        Ok(changed)
    }
}

/// Adds a key and retires all but the one before it. Replicas that run find it within
/// [`REFRESH_EVERY`], and it signs after [`ACTIVATION`].
///
/// # Errors
///
/// Also when the living keys were wrapped by another master key.
pub async fn rotate(db: &Db, secrets: &Secrets) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    lock(&mut tx).await?;
    // Never a key that only this master key's holder could use.
    Keys::read(&mut tx, secrets).await?;
    let now = tx.now_us().await?;
    for old in living(&mut tx).await?.iter().skip(1) {
        on!(tx, |db| sqlx::query(RETIRE).bind(&old.kid).bind(now).execute(db).await.map(drop))?;
    }
    insert(&mut tx, secrets).await?;
    Ok(tx.commit().await?)
}

/// Takes over what other replicas have done to the keys, puts new keys to use when their time
/// has come, and tells the agents.
pub async fn refresh_once(app: &App) -> anyhow::Result<()> {
    if app.signer.reload(&app.db, &app.secrets).await? {
        info!("the signing keys have changed");
        app.hub.keys_changed(&app.signer.jwks());
    }
    Ok(())
}

impl Keys {
    async fn read(tx: &mut Tx, secrets: &Secrets) -> anyhow::Result<Self> {
        let now = tx.now_us().await?;
        let living = living(tx).await?;
        let signing = living
            .iter()
            .find(|key| key.created_us <= now - ACTIVATION)
            .or(living.last())
            .context("there is no signing key")?;
        let private = secrets.unwrap(PURPOSE, &signing.wrapped_private).context("signing keys")?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(signing.kid.clone());
        let public: Vec<serde_json::Value> = living
            .iter()
            .map(|key| serde_json::from_str(&key.public_jwk))
            .collect::<Result<_, _>>()?;
        let signing = EncodingKey::from_ed_der(&private);
        jsonwebtoken::encode(&header, &json!({}), &signing).context("the key does not sign")?;
        Ok(Self { header, signing, jwks: json!({ "keys": public }).to_string().into() })
    }
}

/// A key as the store has it.
struct KeyRow {
    kid: String,
    public_jwk: String,
    wrapped_private: Vec<u8>,
    created_us: i64,
}

from_row!(KeyRow, |row| Self {
    kid: row.try_get("kid")?,
    public_jwk: row.try_get("public_jwk")?,
    wrapped_private: row.try_get("wrapped_private")?,
    created_us: row.try_get("created_us")?,
});

const LIVING: &str = "SELECT kid, public_jwk, wrapped_private, created_us FROM signing_keys \
     WHERE retired_us IS NULL ORDER BY created_us DESC, kid";
const INSERT: &str = "INSERT INTO signing_keys \
     (kid, public_jwk, wrapped_private, created_us, key_id) VALUES ($1, $2, $3, $4, $5)";
const RETIRE: &str = "UPDATE signing_keys SET retired_us = $2 WHERE kid = $1";
const LOCK: &str = "LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE";

/// Newest first.
async fn living(tx: &mut Tx) -> sqlx::Result<Vec<KeyRow>> {
    on!(tx, |db| sqlx::query_as(LIVING).fetch_all(db).await)
}

/// Keeps other replicas from changing the keys. SQLite has one writer anyway.
async fn lock(tx: &mut Tx) -> sqlx::Result<()> {
    match tx.link() {
        Link::Sqlite(_) => Ok(()),
        Link::Postgres(db) => sqlx::query(LOCK).execute(db).await.map(drop),
    }
}

async fn insert(tx: &mut Tx, secrets: &Secrets) -> anyhow::Result<()> {
    let pair = Ed25519KeyPair::generate()?;
    let private: Pkcs8V1Der<'_> = pair.as_der()?;
    let key = EncodingKey::from_ed_der(private.as_ref());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA)?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
    jwk.common.key_id = Some(kid.clone());
    jwk.common.key_algorithm = Some(KeyAlgorithm::EdDSA);
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    let public = serde_json::to_string(&jwk)?;
    let wrapped = secrets.wrap(PURPOSE, private.as_ref())?;
    let now = tx.now_us().await?;
    on!(tx, |db| {
        let insert = sqlx::query(INSERT).bind(&kid).bind(&public).bind(&wrapped.bytes).bind(now);
        insert.bind(&wrapped.key_id).execute(db).await.map(drop)
    })?;
    info!(kid, "made a signing key");
    Ok(())
}

/// The SQL of this module, for the test that prepares every text.
#[cfg(test)]
pub(crate) const COMMON: &[&str] = &[LIVING, INSERT, RETIRE];
/// PostgreSQL's alone.
#[cfg(test)]
pub(crate) const POSTGRES_ONLY: &[&str] = &[LOCK];

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
    use proto::{
        id::{AgentId, SessionId, WorkspaceId},
        token::{AUDIENCE, ISSUER, SCOPE_CDP},
    };

    use super::*;
    use crate::testing::{TestApp, on_both_databases};

    fn claims() -> ConnectClaims {
        ConnectClaims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: SessionId::generate(),
            wid: WorkspaceId::generate(),
            agt: AgentId::generate(),
            scp: SCOPE_CDP.to_owned(),
            iat: 1_700_000_000,
            exp: 4_000_000_000,
        }
    }

    fn key_ids(jwks: &str) -> Vec<String> {
        let keys: JwkSet = serde_json::from_str(jwks).unwrap();
        keys.keys.into_iter().map(|key| key.common.key_id.unwrap()).collect()
    }

    fn signed_by(app: &TestApp) -> String {
        let token = app.app.signer.connect_token(&claims());
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    }

    async fn forget_age(app: &TestApp) {
        app.sql("UPDATE signing_keys SET created_us = created_us - 31000000", &[]).await;
    }

    on_both_databases! {
        async fn a_token_can_be_verified_with_the_published_keys(app: TestApp) {
            let claims = claims();
            let token = app.app.signer.connect_token(&claims);
            let jwks = app.app.signer.jwks();
            assert!(!jwks.contains(r#""d":"#), "only the public half is published");
            let keys: JwkSet = serde_json::from_str(&jwks).unwrap();
            let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
            let jwk = keys.find(&kid).unwrap();
            assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), kid, "RFC 7638");
            let key = DecodingKey::from_jwk(jwk).unwrap();
            let mut validation = Validation::new(Algorithm::EdDSA);
            validation.set_audience(&[AUDIENCE]);
            validation.set_issuer(&[ISSUER]);
            let read = jsonwebtoken::decode::<ConnectClaims>(&token, &key, &validation).unwrap();
            assert_eq!(read.claims, claims);
        }

        async fn replicas_share_the_keys(app: TestApp) {
            let other = app.another().await;
            assert_eq!(other.app.signer.jwks(), app.app.signer.jwks());
            assert_eq!(signed_by(&other), signed_by(&app));
            rotate(&other.app.db, &other.app.secrets).await.unwrap();
            refresh_once(&other.app).await.unwrap();
            refresh_once(&app.app).await.unwrap();
            assert_eq!(other.app.signer.jwks(), app.app.signer.jwks());
            other.app.db.close().await;
        }

        async fn two_keys_live_and_the_new_one_signs_when_all_know_it(app: TestApp) {
            let first = signed_by(&app);
            rotate(&app.app.db, &app.app.secrets).await.unwrap();
            refresh_once(&app.app).await.unwrap();
            let both = key_ids(&app.app.signer.jwks());
            assert_eq!(both.len(), 2);
            assert_eq!(signed_by(&app), first, "not everyone knows the new one yet");
            forget_age(&app).await;
            refresh_once(&app.app).await.unwrap();
            let second = signed_by(&app);
            assert_ne!(second, first);
            rotate(&app.app.db, &app.app.secrets).await.unwrap();
            refresh_once(&app.app).await.unwrap();
            let living = key_ids(&app.app.signer.jwks());
            assert_eq!(living.len(), 2);
            assert!(living.contains(&second) && !living.contains(&first));
            assert_eq!(signed_by(&app), second);
        }
    }

    #[tokio::test]
    async fn keys_that_another_master_key_wrapped_are_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/test.db", directory.path().display());
        let db = Db::open(&url).await.unwrap();
        Signer::open(&db, &Secrets::for_tests()).await.unwrap();
        let other = Secrets::open(directory.path()).unwrap();
        assert!(Signer::open(&db, &other).await.is_err());
        assert!(rotate(&db, &other).await.is_err());
        db.close().await;
    }
}
