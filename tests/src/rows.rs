//! What a store holds when everything has come to rest, and what must not be in it.

use std::fs;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};

/// Each finds rows that are wrong once no session should be alive; its text says which.
const WRONG: &[(&str, &str)] = &[
    (
        "a session is not over",
        "SELECT id || ' ' || status FROM sessions WHERE status NOT IN ('COMPLETED', 'EXPIRED', 'ERRORED')",
    ),
    ("a session holds a slot", "SELECT id || ' ' || status FROM sessions WHERE slot_held <> 0"),
];

/// Each finds rows that are wrong at any time.
const ALWAYS_WRONG: &[(&str, &str)] = &[
    (
        "a session's last event is not its status",
        "SELECT s.id || ' ' || s.status FROM sessions s WHERE s.status <> COALESCE((SELECT e.status \
         FROM session_events e WHERE e.session_id = s.id ORDER BY e.seq DESC LIMIT 1), '')",
    ),
    (
        "a session's first event is not QUEUED",
        "SELECT s.id FROM sessions s WHERE 'QUEUED' <> COALESCE((SELECT e.status \
         FROM session_events e WHERE e.session_id = s.id ORDER BY e.seq LIMIT 1), '')",
    ),
    (
        "a session has left a final state",
        "SELECT session_id FROM session_events \
         WHERE status IN ('COMPLETED', 'EXPIRED', 'ERRORED') GROUP BY session_id HAVING COUNT(*) > 1",
    ),
    (
        "a session has taken a step that there is not",
        "SELECT session_id || ' ' || step FROM (SELECT session_id, status, LAG(status) OVER \
         (PARTITION BY session_id ORDER BY seq) || '-' || status AS step FROM session_events) AS steps \
         WHERE status IN ('QUEUED', 'PROVISIONING', 'RUNNING') AND step NOT IN \
         ('QUEUED-PROVISIONING', 'PROVISIONING-PROVISIONING', 'PROVISIONING-RUNNING')",
    ),
    (
        "a session is over without a time or a reason, or has one of them while it lives",
        "SELECT id || ' ' || status FROM sessions WHERE \
         (status IN ('COMPLETED', 'EXPIRED', 'ERRORED')) <> (ended_us IS NOT NULL) OR \
         (status IN ('COMPLETED', 'EXPIRED', 'ERRORED')) <> (reason_code IS NOT NULL)",
    ),
    (
        "an agent has more sessions than slots",
        "SELECT a.id FROM agents a WHERE a.capacity < \
         (SELECT COUNT(*) FROM sessions s WHERE s.agent_id = a.id AND s.slot_held <> 0)",
    ),
    (
        "an agent's count of slots is not that of its sessions",
        "SELECT a.id || ' counts ' || a.in_use FROM agents a WHERE a.in_use <> \
         (SELECT COUNT(*) FROM sessions s WHERE s.agent_id = a.id AND s.slot_held <> 0)",
    ),
    (
        "a key stands for a session that could not be launched",
        "SELECT i.key FROM idempotency i JOIN sessions s ON s.id = i.session_id \
         WHERE s.status = 'ERRORED' AND s.started_us IS NULL",
    ),
];

/// What is wrong in a store; with `at_rest`, also what may only be so while sessions live.
///
/// # Panics
///
/// When the store cannot be read.
pub async fn wrong(url: &str, at_rest: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (what, query) in ALWAYS_WRONG.iter().chain(WRONG.iter().filter(|_| at_rest)) {
        let rows = texts(url, query).await;
        found.extend(rows.into_iter().map(|row| format!("{what}: {row}")));
    }
    found
}

/// The first column of a query, which must be text.
///
/// # Panics
///
/// When the store cannot be read.
pub async fn texts(url: &str, query: &'static str) -> Vec<String> {
    let rows = match url.strip_prefix("sqlite://") {
        Some(path) => {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let mut store = SqliteConnection::connect_with(&options).await.expect("the store");
            sqlx::query_scalar(query).fetch_all(&mut store).await
        }
        None => {
            let mut store = PgConnection::connect(url).await.expect("the store");
            sqlx::query_scalar(query).fetch_all(&mut store).await
        }
    };
    rows.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// All that a store holds, as it lies there: the files of SQLite, every row of PostgreSQL.
///
/// # Panics
///
/// When the store cannot be read.
pub async fn everything(url: &str) -> Vec<u8> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        let file = fs::read(path).expect("the store");
        return [file, fs::read(format!("{path}-wal")).unwrap_or_default()].concat();
    }
    let tables = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables \
                  WHERE table_schema = 'public'";
    let mut store = PgConnection::connect(url).await.expect("the store");
    let mut all = Vec::new();
    for table in texts(url, tables).await {
        let rows = format!("SELECT CAST(row_to_json(t) AS TEXT) FROM \"{table}\" t");
        let rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(rows)).fetch_all(&mut store);
        let rows = rows.await.expect("rows");
        all.extend(rows.into_iter().flat_map(String::into_bytes));
    }
    all
}
