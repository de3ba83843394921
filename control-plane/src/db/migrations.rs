//! Brings a database's schema up to date: forward only, one file a change.

use anyhow::Context;
use sqlx::{
    ConnectOptions, Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgPool,
    sqlite::SqliteConnectOptions,
};

/// Version, name, SQLite's text, PostgreSQL's text.
type Change = (i64, &'static str, &'static str, &'static str);

macro_rules! migrations {
    ($($version:literal $name:literal)+) => {
        const ALL: &[Change] = &[$((
            $version,
            $name,
            include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
            include_str!(concat!("../../migrations/postgres/", $name, ".sql")),
        ),)+];
    };
}

migrations! {
    1 "0001_workspaces"
    2 "0002_api_keys"
    3 "0003_agents"
    4 "0004_sessions"
    5 "0005_session_events"
    6 "0006_idempotency"
    7 "0007_signing_keys"
    8 "0008_audit"
    9 "0009_outbox"
    10 "0010_launch_fields"
    11 "0011_master_keys"
    12 "0012_session_inputs"
    13 "0013_profiles"
    14 "0014_captures"
    20 "0020_users"
    21 "0021_memberships"
    22 "0022_workspace_states"
    23 "0023_api_key_makers"
    24 "0024_invitations"
    25 "0025_magic_links"
    26 "0026_sign_ins"
    30 "0030_rate_limits"
    40 "0040_agent_isolation"
    41 "0041_egress"
    50 "0050_session_files"
    51 "0051_file_chunks"
    52 "0052_file_orders"
    60 "0060_join_tokens"
    61 "0061_agent_join_tokens"
    65 "0065_retention"
    66 "0066_session_limits"
    70 "0070_operator_workspace"
    71 "0071_agent_drains"
    72 "0072_agent_peers"
    80 "0080_agent_slots"
    81 "0081_counted_slots"
    82 "0082_agents_gone"
    83 "0083_sessions_of_agents"
    84 "0084_pending_work"
    85 "0085_old_join_tokens"
    86 "0086_captures_of_agents"
    87 "0087_sessions_by_status"
}

fn migrator(text: fn(&Change) -> &'static str) -> Migrator {
    let migration = |change: &Change| {
        let sql = text(change).into_sql_str();
        Migration::new(change.0, change.1.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(ALL.iter().map(migration).collect());
    // An older release may start on a newer schema, as it does while replicas are replaced.
    migrator.set_ignore_missing(true);
    migrator
}

/// The caller holds other processes off: SQLite has no lock that outlives a transaction.
pub async fn run_sqlite(options: &SqliteConnectOptions) -> anyhow::Result<()> {
    let mut connection = options.connect().await?;
    // `run` itself makes futures that rustc cannot see to be Send.
    let migrated = migrator(|change| change.2).run_direct(None, &mut connection, false).await;
    migrated.context("migration failed")?;
    connection.close().await?;
    Ok(())
}

/// The migrator takes an advisory lock, so replicas may start together.
pub async fn run_postgres(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    let migrated = migrator(|change| change.3).run_direct(None, &mut *connection, false).await;
    migrated.context("migration failed")
}
