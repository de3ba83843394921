//! Where a session's browser may connect to: what a caller may say of it, and
//! `GET /v1/sessions/{id}/egress`, what it was refused.

use axum::{
    Json,
    extract::{Path, State},
};
use proto::{
    agent,
    egress::{RULES_MAX, Rule},
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    denials::{self, DenialRow},
    get::named,
    object::rfc3339,
    store,
    validate::Object,
};
use crate::{
    api::{Failure, NoSuchSession},
    app::App,
    error::Error,
    keys::{Caller, Read},
    request::Query,
};

/// Where the browser may connect to, within what the server allows.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Egress {
    /// Nothing but this; empty: all that is not denied.
    #[schema(example = json!(["example.com", "*.example.com:443"]))]
    pub allow: Vec<String>,
    /// Not this, whatever is allowed.
    #[schema(example = json!(["ads.example.com"]))]
    pub deny: Vec<String>,
}

impl From<Egress> for agent::Egress {
    fn from(Egress { allow, deny }: Egress) -> Self {
        Self { allow, deny }
    }
}

/// Takes the member `egress` out of a body.
pub(crate) fn take(body: &mut Object<'_, '_>) -> Option<Egress> {
    let mut given = body.object("egress")?;
    let [allow, deny] = ["allow", "deny"]
        .map(|list| given.texts(list, RULES_MAX, |entry| entry.parse::<Rule>().map(drop)));
    given.close();
    Some(Egress { allow, deny })
}

/// What a session's browser was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Refused {
    /// Connections that were refused in all.
    #[schema(example = 3)]
    denied_count: u64,
    /// Each host, port and rule once, the latest first; at most 100. What was refused beyond
    /// these is only counted.
    denials: Vec<Denied>,
}

/// Connections that were refused alike.
#[derive(Debug, Serialize, ToSchema)]
pub struct Denied {
    /// As the browser asked: a name or an address.
    #[schema(example = "169.254.169.254")]
    host: String,
    #[schema(minimum = 1, maximum = 65535, example = 80)]
    port: u16,
    /// What refused it.
    #[schema(value_type = EgressRule)]
    rule: String,
    /// How often.
    #[schema(minimum = 1, example = 3)]
    count: u64,
    /// For the first time.
    #[schema(format = DateTime)]
    first_at: String,
    /// For the last time.
    #[schema(format = DateTime)]
    last_at: String,
}

/// What refuses connections of browsers.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case", example = "metadata")]
pub enum EgressRule {
    /// The server itself: its own listeners, or another browser's gateway.
    Own,
    /// The server's deny list.
    ServerDeny,
    /// The session's `egress.deny`.
    SessionDeny,
    /// The session's `egress.allow`, which does not have it.
    SessionAllow,
    /// An address of the machine that the browser runs on.
    ThisMachine,
    /// Where cloud machines find their credentials.
    Metadata,
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 0.0.0.0/8 and ::.
    Unspecified,
    /// RFC 1918, fc00::/7 and fec0::/10.
    Private,
    /// 100.64.0.0/10.
    Shared,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 198.18.0.0/15 and 2001:2::/48.
    Benchmarking,
    /// Networks that are only for examples.
    Documentation,
    /// What no host has.
    Reserved,
}

impl From<DenialRow> for Denied {
    fn from(row: DenialRow) -> Self {
        Self {
            host: row.host,
            port: row.port,
            rule: row.rule,
            count: row.times,
            first_at: rfc3339(row.first_us),
            last_at: rfc3339(row.last_us),
        }
    }
}

/// List what a session's browser was refused
///
/// Connections that the browser asked for and policy refused: the server's, which keeps
/// browsers from private networks, loopback addresses and cloud metadata, or the session's own
/// `egress`. The list follows the browser within seconds and stays when the session is over.
#[utoipa::path(get, path = "/v1/sessions/{id}/egress", tag = "sessions",
    operation_id = "getSessionEgress",
    params(("id" = String, Path, description = "The session's id")),
    security(("api_key" = ["sessions:read"])),
    responses(
        (status = 200, description = "What was refused", body = Refused),
        NoSuchSession,
        Failure,
    ))]
pub async fn handler(
    State(app): State<App>,
    caller: Caller<Read>,
    Path(id): Path<String>,
    query: Query,
) -> Result<Json<Refused>, Problem> {
    query.allow_none()?;
    let id = named(&id)?;
    let mut tx = app.db.read().await.map_err(Error::from)?;
    let session = store::get_in(&mut tx, caller.workspace, id).await.map_err(Error::from)?;
    let session = session.ok_or(Error::NoSuchSession)?;
    let rows = denials::of(&mut tx, id).await.map_err(Error::from)?;
    let denials = rows.into_iter().map(Denied::from).collect();
    Ok(Json(Refused { denied_count: session.egress_denied, denials }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sessions::validate::Faults;

    fn taken(egress: &Value) -> Result<Option<Egress>, (u16, Vec<String>, String)> {
        let body = json!({ "egress": egress });
        let mut faults = Faults::default();
        let mut object = Object::read(&body, "", &mut faults);
        let egress = take(&mut object);
        object.close();
        faults.settle(()).map_err(|problem| {
            let pointers = problem.errors().iter().map(|fault| fault.pointer.clone()).collect();
            (problem.status().as_u16(), pointers, problem.errors()[0].detail.clone())
        })?;
        Ok(egress)
    }

    #[test]
    fn both_lists_may_be_left_out() {
        let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        for (egress, allow, deny) in [
            (json!({}), &[][..], &[][..]),
            (json!({"allow": null, "deny": []}), &[], &[]),
            (json!({"allow": ["example.com:443"]}), &["example.com:443"], &[]),
            (
                json!({"allow": ["*.Example.com"], "deny": ["10.0.0.0/8", "[::1]:80-90"]}),
                &["*.Example.com"],
                &["10.0.0.0/8", "[::1]:80-90"],
            ),
        ] {
            let expected = Egress { allow: texts(allow), deny: texts(deny) };
            assert_eq!(taken(&egress).unwrap(), Some(expected), "{egress}");
        }
        assert_eq!(taken(&Value::Null).unwrap(), None);
    }

    #[test]
    fn each_entry_that_is_no_rule_is_named() {
        for (egress, status, pointers, why) in [
            (json!([]), 422, vec!["/egress"], "object"),
            (json!({"allow": "example.com"}), 422, vec!["/egress/allow"], "array"),
            (json!({"allow": [7]}), 422, vec!["/egress/allow/0"], "string"),
            (json!({"deny": ["a.test", ""]}), 422, vec!["/egress/deny/1"], "is empty"),
            (
                json!({"allow": ["10.0.0.1/8"], "deny": ["*"]}),
                422,
                vec!["/egress/allow/0", "/egress/deny/0"],
                "10.0.0.0/8 is meant",
            ),
            (json!({"allow": ["http://a.test"]}), 422, vec!["/egress/allow/0"], "is a URL"),
            (json!({"denied": []}), 400, vec!["/egress/denied"], "unknown"),
        ] {
            let (found, places, detail) = taken(&egress).unwrap_err();
            assert_eq!(
                (found, places),
                (status, pointers.iter().map(|&at| at.to_owned()).collect()),
                "{egress}"
            );
            assert!(detail.contains(why), "{egress}: {detail}");
        }
    }
}
