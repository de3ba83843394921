//! `GET /v1/sessions`

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use proto::{
    id::WorkspaceId,
    problem::{FieldError, Problem},
    region::Region,
    session::SessionStatus,
};
use serde::Serialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Object, ObjectBuilder, Required, Schema, Type,
        path::{Parameter, ParameterIn, ParameterStyle},
    },
};

use super::{
    object::{Session, Status},
    store,
    validate::is_label_key,
};
use crate::{
    api::Failure,
    app::App,
    cursor,
    document::{LABEL_KEY, NO_NUL},
    error::{Error, fault},
    keys::{Caller, Read},
    request::Query,
};

const LIMITS: std::ops::RangeInclusive<i64> = 1..=100;
const DEFAULT_LIMIT: i64 = 50;

/// One page of sessions, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    items: Vec<Session>,
    /// Give it as `cursor`, with the same filters, for the next page. Null on the last one.
    next_cursor: Option<String>,
    /// Whether there is a next page.
    has_more: bool,
}

/// `label.<key>=<value>`: each is a parameter of the query of its own.
struct LabelFilters;

impl IntoParams for LabelFilters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut key = Object::with_type(Type::String);
        key.pattern = Some(format!(r"^label\.{LABEL_KEY}$"));
        let mut value = Object::with_type(Type::String);
        value.pattern = Some(NO_NUL.to_owned());
        let schema = ObjectBuilder::new()
            .property_names(Some(key))
            .additional_properties(Some(Schema::from(value)))
            .examples([json!({"label.team": "search"})]);
        let description = "Only sessions whose labels have these values: `label.<key>=<value>` \
                           for each of them, for example `label.team=search`";
        let parameter = Parameter::builder()
            .name("label")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .style(Some(ParameterStyle::Form))
            .explode(Some(true))
            .schema(Some(schema));
        vec![parameter.build()]
    }
}

/// Which sessions are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Filters {
    /// Any of these; none: all.
    pub statuses: Vec<SessionStatus>,
    /// Only here.
    pub region: Option<Region>,
    /// With all of these.
    pub labels: BTreeMap<String, String>,
    /// Younger than this, Unix microseconds.
    pub created_after_us: Option<i64>,
    /// Older than this, Unix microseconds.
    pub created_before_us: Option<i64>,
}

impl Filters {
    /// One text for each set of filters, to bind a cursor to.
    fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// List sessions
///
/// Newest first, those that are over included. Pages are stable while sessions come and go:
/// none appears twice and none is missed.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "listSessions",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most items of a page; 50 if not given"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before, with the same filters"),
        ("status" = Option<Vec<Status>>, Query, description = "Only these states; may be repeated"),
        ("region" = Option<String>, Query, description = "Only this region"),
        LabelFilters,
        ("created_after" = Option<String>, Query, format = DateTime, description = "Only younger ones"),
        ("created_before" = Option<String>, Query, format = DateTime, description = "Only older ones"),
    ),
    security(("api_key" = ["sessions:read"])),
    responses((status = 200, description = "A page", body = Page), Failure))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    query: Query,
) -> Result<Json<Page>, Problem> {
    let wanted = Wanted::read(query)?;
    Ok(Json(page(&app, caller.workspace, wanted).await?))
}

async fn page(app: &App, workspace: WorkspaceId, wanted: Wanted) -> Result<Page, Problem> {
    let filters = wanted.filters.canonical();
    let after = match &wanted.cursor {
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
    let now_us = tx.now_us().await.map_err(Error::from)?;
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows
        .last()
        .filter(|_| has_more)
        .map(|last| cursor::encode(&app.secrets, workspace, &filters, last.id));
    let items = rows.into_iter().map(|row| Session::of(app, row, now_us)).collect();
    Ok(Page { items, next_cursor, has_more })
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
            if name != "status" && !seen.insert(name.clone()) {
                faults.push(fault(format!("?{name}"), "is there more than once"));
            } else if let Err(wrong) = wanted.take(&name, value) {
                faults.push(fault(format!("?{name}"), wrong));
            }
        }
        wanted.filters.statuses.sort_by_key(|status| status.as_str());
        wanted.filters.statuses.dedup();
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
            "status" => filters.statuses.push(value.parse().map_err(|_| "is no state")?),
            "region" => {
                filters.region = Some(value.parse().map_err(|_| "is not a region's name")?);
            }
            "created_after" => filters.created_after_us = Some(time(&value)?),
            "created_before" => filters.created_before_us = Some(time(&value)?),
            _ => {
                let key = name.strip_prefix("label.").ok_or("unknown parameter")?;
                if !is_label_key(key) {
                    return Err("is not a label's key");
                }
                if value.contains('\0') {
                    return Err("must not contain NUL");
                }
                filters.labels.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }
}

pub(crate) fn time(text: &str) -> Result<i64, &'static str> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "must be an RFC 3339 time")?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).map_err(|_| "is out of range")
}

pub(crate) fn refusal(errors: Vec<FieldError>) -> Problem {
    let all: Vec<_> =
        errors.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect();
    Problem::malformed(all.join("; ")).with_errors(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Wanted, Problem> {
        let owned = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Wanted::read(Query(owned.collect()))
    }

    #[test]
    fn a_query_is_read_whatever_its_order() {
        let wanted = read(&[
            ("status", "RUNNING"),
            ("limit", "7"),
            ("status", "ERRORED"),
            ("label.team", "a b"),
            ("status", "RUNNING"),
            ("created_after", "1970-01-01T01:00:00.5+01:00"),
            ("region", "eu"),
        ])
        .unwrap();
        assert_eq!(wanted.limit, 7);
        let filters = wanted.filters;
        assert_eq!(filters.statuses, [SessionStatus::Errored, SessionStatus::Running]);
        assert_eq!(filters.labels["team"], "a b");
        assert_eq!(filters.created_after_us, Some(500_000));
        let again = read(&[
            ("region", "eu"),
            ("created_after", "1970-01-01T00:00:00.500Z"),
            ("status", "ERRORED"),
            ("status", "RUNNING"),
            ("label.team", "a b"),
        ]);
        assert_eq!(again.unwrap().filters.canonical(), filters.canonical());
    }

    #[test]
    fn every_fault_of_a_query_is_named() {
        for bad in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "x"),
            ("limit", ""),
            ("status", "running"),
            ("region", "Not A Region"),
            ("created_after", "yesterday"),
            ("created_before", "2026-11-22"),
            ("label.", "x"),
            ("label.-a", "x"),
            ("label.a", "\0"),
            ("nope", "1"),
        ] {
            let problem = read(&[bad]).unwrap_err();
            assert_eq!(problem.status(), 400, "{bad:?}");
            assert!(problem.detail().contains(&format!("?{}", bad.0)), "{bad:?}");
        }
        assert_eq!(read(&[("limit", "1"), ("limit", "1")]).unwrap_err().status(), 400);
        let both = read(&[("limit", "0"), ("nope", "1")]).unwrap_err();
        assert!(both.detail().contains("?limit") && both.detail().contains("?nope"));
    }
}
