//! Cookies, between Playwright's shape and Chrome's.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};

use super::StateError;
use crate::cdp::{CommandError, Mux};

/// A cookie to be set.
pub(super) struct Cookie {
    /// Where it stands and how it is called, for errors.
    place: String,
    /// As `Storage.setCookies` takes it.
    params: Value,
    /// Unix seconds; none: with the browser.
    expires: Option<f64>,
}

impl Cookie {
    /// Reads the `n`th cookie.
    pub fn read(n: usize, json: &str) -> Result<Self, StateError> {
        let place = format!("cookies[{n}]");
        let wrong = |place: &str, fault: &str| Err(StateError::invalid(place, fault));
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(json) else {
            return wrong(&place, "has to be an object");
        };
        fields.retain(|_, value| !value.is_null());
        let mut text = |field: &str| match fields.remove(field) {
            Some(Value::String(text)) => Ok(Some(text)),
            None => Ok(None),
            Some(_) => Err(format!("has a {field} that is no text")),
        };
        let (name, domain) = match (text("name"), text("domain")) {
            (Ok(Some(name)), Ok(Some(domain))) if !domain.is_empty() => (name, domain),
            (Ok(Some(_)), _) => return wrong(&place, "has no domain"),
            _ => return wrong(&place, "has no name"),
        };
        let place = format!("{place} ({name} on {domain})");
        let invalid = |fault: String| StateError::invalid(&place, fault);
        let value =
            text("value").map_err(invalid)?.ok_or_else(|| invalid("has no value".into()))?;
        let path = text("path").map_err(invalid)?.filter(|path| path.starts_with('/'));
        let Some(path) = path else { return wrong(&place, "has no path that begins with a slash") };
        let mut params = json!({ "name": name, "value": value, "domain": domain, "path": path });
        if let Some(same_site) = text("sameSite").map_err(invalid)? {
            if !["Strict", "Lax", "None"].contains(&same_site.as_str()) {
                return wrong(&place, "has a sameSite that is not Strict, Lax or None");
            }
            params["sameSite"] = same_site.into();
        }
        if let Some(site) = text("partitionKey").map_err(invalid)? {
            let ancestor = fields.get("_crHasCrossSiteAncestor").is_none_or(|is| *is == true);
            params["partitionKey"] =
                json!({ "topLevelSite": site, "hasCrossSiteAncestor": ancestor });
        }
        for flag in ["httpOnly", "secure"] {
            match fields.get(flag) {
                Some(Value::Bool(is)) => params[flag] = (*is).into(),
                None => {}
                Some(_) => {
                    return wrong(&place, &format!("has a {flag} that is not true or false"));
                }
            }
        }
        let expires = match fields.get("expires") {
            None => None,
            Some(expires) => {
                let Some(seconds) = expires.as_f64() else {
                    return wrong(&place, "has an expires that is no number");
                };
                (seconds >= 0.0).then_some(seconds)
            }
        };
        if let Some(seconds) = expires {
            params["expires"] = seconds.into();
        }
        Ok(Self { place, params, expires })
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
