//! Many sessions of a lost agent that end alike, in a few statements.

use proto::session::EndReason;
use sqlx::types::Json;

use super::{KIND, news};
use crate::{
    db::{Tx, dialect, on},
    outbox,
    sessions::SessionRow,
};

macro_rules! of_sessions {
    ($text:literal, $rest:literal) => {
        [
            concat!($text, "(SELECT value FROM json_each($1))", $rest),
            concat!($text, "(SELECT jsonb_array_elements_text($1))", $rest),
        ]
    };
}
pub(super) const END_ALL: [&str; 2] = of_sessions!(
    "UPDATE sessions SET status = $2, reason_code = $3, reason_message = $4, ended_us = $5 \
     WHERE id IN ",
    ""
);
pub(super) const APPEND_TO_ALL: [&str; 2] = of_sessions!(
    "INSERT INTO session_events (session_id, seq, status, at_us, reason_code, reason_message) \
     SELECT session_id, MAX(seq) + 1, CAST($2 AS TEXT), CAST($5 AS BIGINT), CAST($3 AS TEXT), \
     CAST($4 AS TEXT) FROM session_events WHERE session_id IN ",
    " GROUP BY session_id"
);

/// Ends sessions that run, for one reason that needs no inputs to be dropped and no key to be
/// freed, as [`super::end`] would. Their rows must be held. Their slots stay held.
pub async fn end_all(tx: &mut Tx, sessions: &[&SessionRow], reason: EndReason) -> sqlx::Result<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let now = tx.now_us().await?;
    let ids: Vec<String> = sessions.iter().map(|session| session.id.to_string()).collect();
    for texts in [END_ALL, APPEND_TO_ALL] {
        let text = dialect!(tx, texts[0], texts[1]);
        on!(tx, |db| {
            sqlx::query(text)
                .bind(Json(&ids))
                .bind(reason.status().as_str())
                .bind(reason.as_str())
                .bind(reason.message())
                .bind(now)
                .execute(db)
                .await
                .map(drop)
        })?;
    }
    let news = news(reason.status(), now, Some((reason, reason.message())));
    let about: Vec<_> =
        sessions.iter().map(|session| (session.workspace_id, session.id.to_string())).collect();
    outbox::add_all(tx, KIND, &about, &news).await
}

pub(super) const FREE_ALL: [&str; 2] =
    of_sessions!("UPDATE sessions SET slot_held = 0 WHERE id IN ", "");

/// The browsers of these sessions are gone. Their rows must be held.
pub async fn free_all(tx: &mut Tx, sessions: &[&SessionRow]) -> sqlx::Result<()> {
    let ids: Vec<String> = sessions.iter().map(|session| session.id.to_string()).collect();
    let free = dialect!(tx, FREE_ALL[0], FREE_ALL[1]);
    on!(tx, |db| sqlx::query(free).bind(Json(&ids)).execute(db).await.map(drop))
}
