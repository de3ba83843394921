//! `GET /v1/sessions`

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use proto::{problem::Problem, region::Region, session::SessionStatus};
use serde::Serialize;
use serde_json::json;
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
    document::{LABEL_KEY, NO_NUL},
    error::Error,
    keys::{Caller, Read},
    paging::{self, UNKNOWN, Wanted, time},
    request::{Query, Reached},
};

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

impl paging::Filters for Filters {
    const LIST: &'static str = "sessions";
    const REPEATED: &'static [&'static str] = &["status"];

    fn take(&mut self, name: &str, value: String) -> Result<(), &'static str> {
        match name {
            "status" => self.statuses.push(value.parse().map_err(|_| "is no state")?),
            "region" => self.region = Some(value.parse().map_err(|_| "is not a region's name")?),
            "created_after" => self.created_after_us = Some(time(&value)?),
            "created_before" => self.created_before_us = Some(time(&value)?),
            _ => {
                let key = name.strip_prefix("label.").ok_or(UNKNOWN)?;
                if !is_label_key(key) {
                    return Err("is not a label's key");
                }
                if value.contains('\0') {
                    return Err("must not contain NUL");
                }
                self.labels.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }

    fn settle(&mut self) {
        self.statuses.sort_by_key(|status| status.as_str());
        self.statuses.dedup();
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
    reached: Reached,
    query: Query,
) -> Result<Json<Page>, Problem> {
    let wanted = Wanted::<Filters>::read(query)?;
    let after = wanted.after(&app.secrets, caller.workspace)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let rows = store::page(&mut tx, caller.workspace, &wanted.filters, after, wanted.rows()).await;
    let mut rows = rows.map_err(Error::from)?;
    let now_us = tx.now_us().await.map_err(Error::from)?;
    let next_cursor = wanted.cut(&mut rows, &app.secrets, caller.workspace, |row| row.id);
    let items = rows
        .into_iter()
        .map(|row| Session::of(&app, row, now_us).reached(&app, &reached))
        .collect();
    Ok(Json(Page { items, has_more: next_cursor.is_some(), next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_whatever_its_order() {
        let wanted = paging::read::<Filters>(&[
            ("status", "RUNNING"),
            ("limit", "7"),
            ("status", "ERRORED"),
            ("label.team", "a b"),
            ("status", "RUNNING"),
            ("created_after", "1970-01-01T01:00:00.5+01:00"),
            ("region", "eu"),
        ])
        .unwrap();
        assert_eq!(wanted.rows(), 8);
        let filters = wanted.filters;
        assert_eq!(filters.statuses, [SessionStatus::Errored, SessionStatus::Running]);
        assert_eq!(filters.labels["team"], "a b");
        assert_eq!(filters.created_after_us, Some(500_000));
        let again = paging::read::<Filters>(&[
            ("region", "eu"),
            ("created_after", "1970-01-01T00:00:00.500Z"),
            ("status", "ERRORED"),
            ("status", "RUNNING"),
            ("label.team", "a b"),
        ]);
        assert_eq!(again.unwrap().filters, filters);
    }

    #[test]
    fn every_fault_of_a_query_is_named() {
        for bad in [
            ("status", "running"),
            ("region", "Not A Region"),
            ("created_after", "yesterday"),
            ("created_before", "2026-11-22"),
            ("label.", "x"),
            ("label.-a", "x"),
            ("label.a", "\0"),
            ("nope", "1"),
        ] {
            assert!(paging::refuses::<Filters>(bad), "{bad:?}");
        }
    }
}
