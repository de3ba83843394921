//! Cookies, between Playwright's shape and Chrome's.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::StateError;
use crate::cdp::{CommandError, Mux};

/// How much of a name an error repeats, in characters.
const SHOWN_MAX: usize = 80;

/// A cookie to be set.
pub(super) struct Cookie {
    /// Where it stands and how it is called, for errors.
    place: String,
    /// As `Storage.setCookies` takes it.
    params: Value,
    /// Unix seconds; none: with the browser.
    expires: Option<f64>,
}

/// The fields of a cookie, and where it stands.
struct Fields {
    place: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn wrong(&self, fault: impl Into<String>) -> StateError {
        StateError::invalid(&self.place, fault)
    }

    /// What a field holds; `null` is as good as nothing.
    fn get<T>(
        &self,
        field: &str,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let found = read(value);
                found.map(Some).ok_or_else(|| self.wrong(format!("has a {field} that is {kind}")))
            }
        }
    }

    fn text(&self, field: &str) -> Result<Option<String>, StateError> {
        self.get(field, "no text", |value| value.as_str().map(str::to_owned))
    }

    fn needed(&self, field: &str) -> Result<String, StateError> {
        self.text(field)?.ok_or_else(|| self.wrong(format!("has no {field}")))
    }
}

impl Cookie {
    /// Reads the `n`th cookie.
    pub fn read(n: usize, json: &str) -> Result<Self, StateError> {
        let place = format!("cookies[{n}]");
        let Ok(fields) = serde_json::from_str(json) else {
            return Err(StateError::invalid(place, "has to be an object"));
        };
        let mut fields = Fields { place, fields };
        let (name, domain) = (fields.needed("name")?, fields.needed("domain")?);
        if domain.is_empty() {
            return Err(fields.wrong("has no domain"));
        }
        let shown = |text: &str| text.chars().take(SHOWN_MAX).collect::<String>();
        fields.place = format!("{} ({} on {})", fields.place, shown(&name), shown(&domain));
        let (value, path) = (fields.needed("value")?, fields.needed("path")?);
        if !path.starts_with('/') {
            return Err(fields.wrong("has a path that does not begin with a slash"));
        }
        let mut params = json!({ "name": name, "value": value, "domain": domain, "path": path });
        for flag in ["httpOnly", "secure"] {
            let is = fields.get(flag, "neither true nor false", Value::as_bool)?;
            params[flag] = is.unwrap_or(false).into();
        }
        if let Some(same_site) = fields.text("sameSite")? {
            if !["Strict", "Lax", "None"].contains(&same_site.as_str()) {
                return Err(fields.wrong("has a sameSite that is not Strict, Lax or None"));
            }
            params["sameSite"] = same_site.into();
        }
        if let Some(site) = fields.text("partitionKey")? {
            let ancestor = "_crHasCrossSiteAncestor";
            let ancestor = fields.get(ancestor, "neither true nor false", Value::as_bool)?;
            params["partitionKey"] =
                json!({ "topLevelSite": site, "hasCrossSiteAncestor": ancestor.unwrap_or(true) });
        }
        let expires = fields.get("expires", "no number", Value::as_f64)?;
        let expires = expires.filter(|seconds| *seconds >= 0.0);
        if let Some(seconds) = expires {
            params["expires"] = seconds.into();
        }
        Ok(Self { place: fields.place, params, expires })
    }
}

/// Sets cookies in the default context; those that have expired are left out.
pub(super) async fn set(mux: &Arc<Mux>, mut cookies: Vec<Cookie>) -> Result<(), StateError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    cookies.retain(|cookie| cookie.expires.is_none_or(|expires| expires > now));
    if cookies.is_empty() {
        return Ok(());
    }
    let all: Vec<_> = cookies.iter().map(|cookie| &cookie.params).collect();
    match mux.command("Storage.setCookies", json!({ "cookies": all })).await {
        Err(CommandError::Refused { .. }) => {}
        set => return Ok(set.map(drop)?),
    }
    // Chrome does not say which one it refuses.
    for cookie in &cookies {
        match mux.command("Storage.setCookies", json!({ "cookies": [cookie.params] })).await {
            Err(CommandError::Refused { message, .. }) => {
                return Err(StateError::invalid(
                    &cookie.place,
                    format!("is refused by the browser: {message}"),
                ));
            }
            set => drop(set?),
        }
    }
    Ok(())
}

/// The cookies of the default context in Playwright's shape.
pub(super) async fn get(mux: &Arc<Mux>) -> Result<Vec<Value>, StateError> {
    let answer = mux.command("Storage.getCookies", json!({})).await?;
    let cookies = answer["cookies"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(cookies.iter().filter_map(captured).collect())
}

/// `None` for a cookie whose partition has no name: no one could set it again.
fn captured(cookie: &Value) -> Option<Value> {
    if cookie["partitionKeyOpaque"] == true {
        return None;
    }
    let field = |name: &str| cookie[name].clone();
    let mut captured = json!({
        "name": field("name"),
        "value": field("value"),
        "domain": field("domain"),
        "path": field("path"),
        "expires": field("expires"),
        "httpOnly": field("httpOnly"),
        "secure": field("secure"),
        // What Chrome takes a cookie for that does not say.
        "sameSite": cookie["sameSite"].as_str().unwrap_or("Lax"),
    });
    if let Some(partition) = cookie["partitionKey"].as_object() {
        captured["partitionKey"] = partition["topLevelSite"].clone();
        captured["_crHasCrossSiteAncestor"] = partition["hasCrossSiteAncestor"].clone();
    }
    Some(captured)
}
