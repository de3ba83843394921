//! Finds all that is wrong with a storage state.

use serde_json::Value;
use url::Url;

use crate::sessions::validate::Object;

/// The last second that a cookie may live to, as browsers have it: the year 9999.
const LATEST: f64 = 253_402_300_799.0;

/// The highest version of a database: 2^53 - 1, the last integer that JavaScript counts to.
const VERSION_MAX: f64 = 9_007_199_254_740_991.0;

/// What is left of it is not known.
pub(super) fn check(state: &mut Object<'_, '_>) {
    state.each("cookies", false, check_cookie);
    state.each("origins", false, check_origin);
    // Playwright may write it; what it holds is of no browser but its own.
    state.checked("credentials", false, "is not supported", is_empty_array);
}

fn check_cookie(cookie: &mut Object<'_, '_>) {
    cookie.checked("name", true, TEXT, Value::is_string);
    cookie.checked("value", true, TEXT, Value::is_string);
    cookie.checked("domain", true, "must be a host's name", |domain| {
        domain.as_str().is_some_and(|domain| !domain.trim_matches('.').is_empty())
    });
    cookie.checked("path", true, "must begin with a slash", |path| {
        path.as_str().is_some_and(|path| path.starts_with('/'))
    });
    // Before 0 it is as -1: it ends with the session.
    cookie.checked("expires", false, "must be -1 or Unix seconds up to the year 9999", |expires| {
        expires.as_f64().is_some_and(|at| (-1.0..=LATEST).contains(&at))
    });
    cookie.checked("httpOnly", false, FLAG, Value::is_boolean);
    cookie.checked("secure", false, FLAG, Value::is_boolean);
    cookie.checked("sameSite", false, "must be \"Strict\", \"Lax\" or \"None\"", |site| {
        matches!(site.as_str(), Some("Strict" | "Lax" | "None"))
    });
    cookie.checked("partitionKey", false, TEXT, Value::is_string);
    cookie.checked("_crHasCrossSiteAncestor", false, FLAG, Value::is_boolean);
}

fn check_origin(origin: &mut Object<'_, '_>) {
    origin.checked("origin", true, "must be an http or https origin", |text| {
        text.as_str().is_some_and(is_origin)
    });
    origin.each("localStorage", false, |item| {
        item.checked("name", true, TEXT, Value::is_string);
        item.checked("value", true, TEXT, Value::is_string);
    });
    origin.each("indexedDB", false, check_database);
    origin.checked("opfs", false, "is not supported", is_empty_array);
}

fn check_database(database: &mut Object<'_, '_>) {
    database.checked("name", true, TEXT, Value::is_string);
    database.checked("version", true, "must be an integer from 1 to 9007199254740991", |version| {
        version.as_f64().is_some_and(|n| n.fract() == 0.0 && (1.0..=VERSION_MAX).contains(&n))
    });
    database.each("stores", true, |store| {
        store.checked("name", true, TEXT, Value::is_string);
        store.checked("autoIncrement", true, FLAG, Value::is_boolean);
        check_key_path(store);
        store.each("records", true, check_record);
        store.each("indexes", true, |index| {
            index.checked("name", true, TEXT, Value::is_string);
            check_key_path(index);
            index.checked("multiEntry", true, FLAG, Value::is_boolean);
            index.checked("unique", true, FLAG, Value::is_boolean);
        });
    });
}

fn check_key_path(of: &mut Object<'_, '_>) {
    let path = of.checked("keyPath", false, TEXT, Value::is_string);
    let paths = of.checked("keyPathArray", false, "must be an array of strings", |paths| {
        paths.as_array().is_some_and(|paths| paths.iter().all(Value::is_string))
    });
    if path.is_some() && paths.is_some() {
        of.invalid("keyPathArray", "must not be there beside keyPath");
    }
}

fn check_record(record: &mut Object<'_, '_>) {
    // Here `null` is a value like any other.
    if record.strip("key") && record.strip("keyEncoded") {
        record.invalid("keyEncoded", "must not be there beside key");
    }
    record.strip("keyEncoded");
    let [value, encoded] = ["value", "valueEncoded"].map(|name| record.strip(name));
    if value == encoded {
        record.invalid("value", "exactly one of value and valueEncoded must be there");
    }
}

const TEXT: &str = "must be a string";
const FLAG: &str = "must be true or false";

fn is_empty_array(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn is_origin(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
}
