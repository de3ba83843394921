//! `GET /v1/dashboard/ws/{slug}/audit`

use axum::{Json, extract::State};
use proto::problem::Problem;
use serde::Serialize;
use serde_json::{Map, Value};
use ulid::Ulid;
use utoipa::ToSchema;

use super::store::{self, AuditRow};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    error::Error,
    keys::Read,
    paging::{self, UNKNOWN, Wanted, time},
    people::Member,
    request::Query,
    sessions::object::rfc3339,
};

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// A ULID.
    #[schema(example = "01KAW45B1F6X8C2R7N4Q9V3TZD")]
    id: String,
    #[schema(format = DateTime, example = "2026-11-22T12:00:00.000Z")]
    at: String,
    /// `user`, `api_key`, or `system`: the server itself or whoever runs it.
    #[schema(value_type = ActorKind, example = "user")]
    actor_kind: String,
    /// The id of the person or of the key.
    #[schema(example = "01KAW40Q2V8D6M3T7B9N5R1XKE")]
    actor_id: String,
    /// The address of a person.
    #[schema(example = "ada@example.org")]
    actor_email: Option<String>,
    /// What was done.
    #[schema(example = "api_key.create")]
    action: String,
    /// What kind of thing it was done to.
    #[schema(example = "api_key")]
    target_kind: String,
    /// Which one.
    #[schema(example = "01KAW3ZJ8E5T7M1V9C4X2N6R0S")]
    target_id: String,
    /// More of it; never a secret.
    #[schema(value_type = Object, example = json!({"label": "ci"}))]
    detail: Map<String, Value>,
    /// Where the request came from.
    #[schema(example = "192.0.2.7")]
    ip: Option<String>,
    /// The first 512 characters of the request's `User-Agent`.
    #[schema(example = "curl/8.5.0")]
    user_agent: Option<String>,
}

/// What kind of actor did it.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only described, for the OpenAPI document")]
enum ActorKind {
    User,
    ApiKey,
    System,
}

impl From<AuditRow> for AuditEntry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id.to_string(),
            at: rfc3339(row.at_us),
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_email: row.actor_email,
            action: row.action,
            target_kind: row.target_kind,
            target_id: row.target_id,
            detail: row.detail,
            ip: row.ip,
            user_agent: row.user_agent,
        }
    }
}

/// One page of what was done, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    items: Vec<AuditEntry>,
    /// Give it as `cursor`, with the same filters, for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// What is wanted of it.
#[derive(PartialEq, Eq, Debug, Default, Serialize)]
pub struct Filters {
    /// Only this action.
    pub action: Option<String>,
    /// Only by whoever has this id or address.
    pub actor: Option<String>,
    /// Only later than this, Unix microseconds.
    pub after_us: Option<i64>,
    /// Only earlier than this, Unix microseconds.
    pub before_us: Option<i64>,
}

impl paging::Filters for Filters {
    const LIST: &'static str = "audit";

    fn take(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        match name {
            "action" => self.action = Some(text(value)?),
            "actor" => self.actor = Some(text(value)?),
            "after" => self.after_us = Some(time(&value)?),
            "before" => self.before_us = Some(time(&value)?),
            _ => return Err(UNKNOWN),
        }
        Ok(())
    }
}

/// List what was done
///
/// Every change in the workspace, by people, keys and the server itself, newest first. Entries
/// are only ever added. Pages are stable while they are.
#[utoipa::path(get, path = "/v1/dashboard/ws/{slug}/audit", tag = "workspaces",
    operation_id = "listAudit",
    params(
        ("slug" = String, Path, description = "The workspace's slug", example = "search-team"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, with the same filters"),
        ("action" = Option<String>, Query, min_length = 1, pattern = r"^[^\u0000]*$", description = "Only this action", example = "api_key.create"),
        ("actor" = Option<String>, Query, min_length = 1, pattern = r"^[^\u0000]*$", description = "Only what was done by the person or key with this id, or by the person with this address"),
        ("after" = Option<String>, Query, format = DateTime, description = "Only what is younger"),
        ("before" = Option<String>, Query, format = DateTime, description = "Only what is older"),
    ),
    security(("access_token" = ["sessions:read"]), ("access_cookie" = ["sessions:read"])),
    responses(
        (status = 200, description = "A page", body = AuditPage),
        MemberFailure,
        PersonFailure,
    ))]
pub async fn handler(
    State(app): State<App>,
    member: Member<Read>,
    query: Query,
) -> Result<Json<AuditPage>, Problem> {
    let wanted = Wanted::<Filters>::read(query)?;
    let workspace = member.workspace.id;
    let after: Option<Ulid> = wanted.after(&app.secrets, workspace)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let rows = store::page(&mut tx, workspace, &wanted.filters, after, wanted.rows()).await;
    let mut rows = rows.map_err(Error::from)?;
    let next_cursor = wanted.cut(&mut rows, &app.secrets, workspace, |row| row.id);
    Ok(Json(AuditPage {
        items: rows.into_iter().map(AuditEntry::from).collect(),
        has_more: next_cursor.is_some(),
        next_cursor,
    }))
}

/// Nothing empty, which would choose everything, and no NUL, which PostgreSQL cannot take.
fn text(value: String) -> Result<String, &'static str> {
    if value.is_empty() || value.contains('\0') { Err("must be a text") } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_query_is_named() {
        assert!(paging::read::<Filters>(&[("action", "a.b"), ("actor", "x@y")]).is_ok());
        for bad in
            [("action", ""), ("actor", "\0"), ("after", "yesterday"), ("before", "2026-11-22")]
        {
            assert!(paging::refuses::<Filters>(bad), "{bad:?}");
        }
    }
}
