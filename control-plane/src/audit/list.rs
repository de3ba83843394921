//! `GET /v1/dashboard/ws/{slug}/audit`

use axum::{Json, extract::State};
use proto::{id::WorkspaceId, problem::Problem};
use serde::Serialize;
use serde_json::{Map, Value};
use ulid::Ulid;
use utoipa::ToSchema;

use super::store::{self, AuditRow};
use crate::{
    api::{MemberFailure, PersonFailure},
    app::App,
    cursor,
    error::{Error, fault},
    keys::Read,
    people::Member,
    request::Query,
    sessions::{
        list::{refusal, time},
        object::rfc3339,
    },
};

const LIMITS: std::ops::RangeInclusive<i64> = 1..=100;
const DEFAULT_LIMIT: i64 = 50;

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

impl Filters {
    /// One text for each set of filters, to bind a cursor to, and unlike those of other lists.
    fn canonical(&self) -> String {
        format!("audit {}", serde_json::to_string(self).unwrap_or_default())
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
        ("action" = Option<String>, Query, description = "Only this action", example = "api_key.create"),
        ("actor" = Option<String>, Query, description = "Only what was done by the person or key with this id, or by the person with this address"),
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
    let wanted = Wanted::read(query)?;
    Ok(Json(page(&app, member.workspace.id, wanted).await?))
}

async fn page(app: &App, workspace: WorkspaceId, wanted: Wanted) -> Result<AuditPage, Problem> {
    let filters = wanted.filters.canonical();
    let after: Option<Ulid> = match &wanted.cursor {
        None => None,
        Some(cursor) => {
            let after = cursor::decode(&app.secrets, workspace, &filters, cursor);
            let wrong = "is not one of ours, or belongs to other filters";
            Some(after.ok_or_else(|| refusal(vec![fault("?cursor", wrong)]))?)
        }
    };
    let mut tx = app.db.read().await.map_err(Error::from)?;
    // One more than wanted tells whether there is a next page.
    let rows = store::page(&mut tx, workspace, &wanted.filters, after, wanted.limit + 1).await;
    let mut rows = rows.map_err(Error::from)?;
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows
        .last()
        .filter(|_| has_more)
        .map(|last| cursor::encode(&app.secrets, workspace, &filters, last.id));
    Ok(AuditPage { items: rows.into_iter().map(AuditEntry::from).collect(), next_cursor, has_more })
}

/// The query, read.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    limit: i64,
    cursor: Option<String>,
    filters: Filters,
}

impl Wanted {
    /// Finds all that is wrong at once.
    fn read(query: Query) -> Result<Self, Problem> {
        let mut wanted = Self { limit: DEFAULT_LIMIT, cursor: None, filters: Filters::default() };
        let mut faults = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (name, value) in query.0 {
            if !seen.insert(name.clone()) {
                faults.push(fault(format!("?{name}"), "is there more than once"));
            } else if let Err(wrong) = wanted.take(&name, value) {
                faults.push(fault(format!("?{name}"), wrong));
            }
        }
        if faults.is_empty() { Ok(wanted) } else { Err(refusal(faults)) }
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        let filters = &mut self.filters;
        match name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| LIMITS.contains(limit));
                self.limit = limit.ok_or("must be an integer from 1 to 100")?;
            }
            "cursor" => self.cursor = Some(value),
            "action" => filters.action = Some(text(value)?),
            "actor" => filters.actor = Some(text(value)?),
            "after" => filters.after_us = Some(time(&value)?),
            "before" => filters.before_us = Some(time(&value)?),
            _ => return Err("unknown parameter"),
        }
        Ok(())
    }
}

/// Nothing empty, which would choose everything, and no NUL, which PostgreSQL cannot take.
fn text(value: String) -> Result<String, &'static str> {
    if value.is_empty() || value.contains('\0') { Err("must be a text") } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Wanted, Problem> {
        let owned = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Wanted::read(Query(owned.collect()))
    }

    #[test]
    fn every_fault_of_a_query_is_named() {
        assert!(read(&[("limit", "100"), ("action", "a.b"), ("actor", "x@y")]).is_ok());
        for bad in [
            ("limit", "0"),
            ("limit", "101"),
            ("action", ""),
            ("actor", "\0"),
            ("after", "yesterday"),
            ("before", "2026-11-22"),
            ("nope", "1"),
        ] {
            let problem = read(&[bad]).unwrap_err();
            assert_eq!(problem.status(), 400, "{bad:?}");
            assert!(problem.detail().contains(&format!("?{}", bad.0)), "{bad:?}");
        }
        assert_eq!(read(&[("limit", "1"), ("limit", "1")]).unwrap_err().status(), 400);
    }
}
