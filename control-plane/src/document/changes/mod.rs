//! What a change of the document takes away from those who use the API as it was released.
//!
//! Within v1 operations, fields and members may come, but none may go, and no type changes.
//! Requests may be asked less of, answers may hold more; never the other way round.

mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value};

/// Which way a schema's values go.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    /// From clients to us: we must take what we took.
    In,
    /// From us to clients: they must find what they found.
    Out,
}

/// Every change that breaks a client, with its place; none if there is none.
pub fn breaking(released: &Value, current: &Value) -> Vec<String> {
    let mut found = Comparison { released, current, seen: HashSet::new(), changes: Vec::new() };
    for (path, item) in members(&released["paths"]) {
        for (method, operation) in members(item) {
            let place = format!("{} {path}", method.to_uppercase());
            match current["paths"][path].get(method) {
                Some(now) => found.operation(&place, operation, now),
                None => found.changes.push(format!("{place} is gone")),
            }
        }
    }
    found.changes
}

struct Comparison<'a> {
    released: &'a Value,
    current: &'a Value,
    /// Pairs of named schemas that were compared, or are just being compared.
    seen: HashSet<(Way, String, String, String)>,
    changes: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn changed(&mut self, place: &str, what: impl AsRef<str>) {
        self.changes.push(format!("{place}: {}", what.as_ref()));
    }

    fn operation(&mut self, place: &str, was: &'a Value, is: &'a Value) {
        if was["operationId"] != is["operationId"] {
            self.changed(
                place,
                format!("operationId was {}, is {}", was["operationId"], is["operationId"]),
            );
        }
        let (scopes, scopes_now) = (scopes(was), scopes(is));
        if !scopes_now.is_subset(&scopes) {
            self.changed(place, format!("needs {scopes_now:?}, needed {scopes:?}"));
        }
        self.parameters(place, was, is);
        self.body(place, was, is);
        for (status, answer) in members(&was["responses"]) {
            // An error that no longer happens is no loss.
            if status.starts_with('2') {
                let answer = resolve(self.released, answer);
                let place = format!("{place} {status}");
                match is["responses"].get(status) {
                    Some(now) => self.answer(&place, answer, resolve(self.current, now)),
                    None => self.changed(&place, "is gone"),
                }
            }
        }
    }

    fn parameters(&mut self, place: &str, was: &'a Value, is: &'a Value) {
        let by_name = |operation: &'a Value| -> BTreeMap<(String, String), &'a Value> {
            let all = operation["parameters"].as_array().into_iter().flatten();
            let name = |parameter: &Value| (text(&parameter["in"]), text(&parameter["name"]));
            all.map(|parameter| (name(parameter), parameter)).collect()
        };
        let (was, is) = (by_name(was), by_name(is));
        for (name, parameter) in &was {
            let place = format!("{place} parameter {}", name.1);
            match is.get(name) {
                None => self.changed(&place, "is gone"),
                Some(now) => {
                    if now["required"] == true && parameter["required"] != true {
                        self.changed(&place, "became required");
                    }
                    self.schema(Way::In, &place, &parameter["schema"], &now["schema"]);
                }
            }
        }
        for (name, parameter) in is {
            if parameter["required"] == true && !was.contains_key(&name) {
                self.changed(&format!("{place} parameter {}", name.1), "is new and required");
            }
        }
    }

    fn body(&mut self, place: &str, was: &'a Value, is: &'a Value) {
        let (was, is) = (&was["requestBody"], &is["requestBody"]);
        if is["required"] == true && was["required"] != true {
            self.changed(&format!("{place} request"), "became required");
        }
        self.content(Way::In, &format!("{place} request"), was, is);
    }

    fn answer(&mut self, place: &str, was: &'a Value, is: &'a Value) {
        for (name, _) in members(&was["headers"]) {
            if is["headers"].get(name).is_none() {
                self.changed(&format!("{place} header {name}"), "is gone");
            }
        }
        self.content(Way::Out, place, was, is);
    }

    fn content(&mut self, way: Way, place: &str, was: &'a Value, is: &'a Value) {
        for (kind, content) in members(&was["content"]) {
            match is["content"].get(kind) {
                Some(now) => self.schema(way, place, &content["schema"], &now["schema"]),
                None => self.changed(&format!("{place} {kind}"), "is gone"),
            }
        }
    }

    fn schema(&mut self, way: Way, place: &str, was: &'a Value, is: &'a Value) {
        if let (Some(a), Some(b)) = (was["$ref"].as_str(), is["$ref"].as_str())
            && !self.seen.insert((way, place.to_owned(), a.to_owned(), b.to_owned()))
        {
            return;
        }
        let (was_null, was) = without_null(self.released, was);
        let (is_null, is) = without_null(self.current, is);
        if was_null != is_null && is_null == (way == Way::Out) {
            self.changed(place, if is_null { "may be null now" } else { "may no longer be null" });
        }
        self.form(way, place, was, is);
    }

    /// Compares what is left of two schemas without null.
    fn form(&mut self, way: Way, place: &str, was: &'a Value, is: &'a Value) {
        if way == Way::In && was["oneOf"].is_null() && is["oneOf"].is_array() {
            // We may take other forms as well.
            if !self.fits_a_variant(place, was, is) {
                self.changed(place, "fits none of the forms that it has now");
            }
            return;
        }
        let (kinds, kinds_now) = (kinds(was), kinds(is));
        if kinds != kinds_now {
            return self.changed(place, format!("type was {kinds:?}, is {kinds_now:?}"));
        }
        if was["format"] != is["format"] && !was["format"].is_null() {
            self.changed(place, format!("format was {}, is {}", was["format"], is["format"]));
        }
        self.members_of_enum(way, place, was, is);
        if way == Way::In {
            self.limits(place, was, is);
        }
        self.properties(way, place, was, is);
        for part in ["items", "additionalProperties"] {
            if was[part].is_object() && is[part].is_object() {
                self.schema(way, &format!("{place}/*"), &was[part], &is[part]);
            }
        }
        self.variants(way, place, was, is);
    }

    fn members_of_enum(&mut self, way: Way, place: &str, was: &Value, is: &Value) {
        let all = |schema: &Value| schema["enum"].as_array().cloned();
        match (all(was), all(is)) {
            (Some(members), Some(now)) => {
                for gone in members.iter().filter(|member| !now.contains(member)) {
                    self.changed(place, format!("{gone} is gone"));
                }
            }
            (None, Some(_)) if way == Way::In => self.changed(place, "takes fewer values"),
            (Some(_), None) if way == Way::Out => self.changed(place, "may have any value now"),
            _ => (),
        }
    }

    fn limits(&mut self, place: &str, was: &Value, is: &Value) {
        let bounds = [
            ("minimum", 1.0),
            ("minLength", 1.0),
            ("minItems", 1.0),
            ("maximum", -1.0),
            ("maxLength", -1.0),
            ("maxItems", -1.0),
            ("maxProperties", -1.0),
        ];
        for (bound, sign) in bounds {
            let number =
                |schema: &Value| schema[bound].as_f64().map_or(f64::NEG_INFINITY, |n| n * sign);
            if number(is) > number(was) {
                self.changed(place, format!("{bound} was {}, is {}", was[bound], is[bound]));
            }
        }
        for word in ["pattern", "default"] {
            // Without a pattern we take more.
            let takes_more = word == "pattern" && is[word].is_null();
            if !was[word].is_null() && was[word] != is[word] && !takes_more {
                self.changed(place, format!("{word} was {}, is {}", was[word], is[word]));
            }
        }
        if is["additionalProperties"] == false && was["additionalProperties"] != false {
            self.changed(place, "takes no other fields any more");
        }
    }

    fn properties(&mut self, way: Way, place: &str, was: &'a Value, is: &'a Value) {
        for (name, property) in members(&was["properties"]) {
            let place = format!("{place}/{name}");
            match is["properties"].get(name) {
                Some(now) => self.schema(way, &place, property, now),
                None => self.changed(&place, "is gone"),
            }
        }
        let (required, required_now) = (required(was), required(is));
        let (lost, verb) = match way {
            Way::In => (required_now.difference(&required), "became required"),
            Way::Out => (required.difference(&required_now), "may be missing now"),
        };
        for name in lost {
            self.changed(&format!("{place}/{name}"), verb);
        }
    }

    /// Whether what we took as the one form fits one of several.
    fn fits_a_variant(&self, place: &str, was: &'a Value, is: &'a Value) -> bool {
        is["oneOf"].as_array().into_iter().flatten().any(|is| {
            let mut comparison = Comparison { changes: Vec::new(), seen: HashSet::new(), ..*self };
            comparison.form(Way::In, place, was, resolve(self.current, is));
            comparison.changes.is_empty()
        })
    }

    /// What we took must fit a variant that we take, what we give one that we gave.
    fn variants(&mut self, way: Way, place: &str, was: &'a Value, is: &'a Value) {
        let all = |schema: &'a Value| schema["oneOf"].as_array().into_iter().flatten();
        let fits = |was: &'a Value, is: &'a Value| {
            let mut comparison = Comparison { changes: Vec::new(), seen: HashSet::new(), ..*self };
            comparison.schema(way, place, was, is);
            comparison.changes.is_empty()
        };
        let lost = match way {
            Way::In => all(was).filter(|was| !all(is).any(|is| fits(was, is))).count(),
            Way::Out => all(is).filter(|is| !all(was).any(|was| fits(was, is))).count(),
        };
        if lost > 0 {
            self.changed(place, format!("{lost} of its variants fit none of the others"));
        }
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flat_map(Map::iter)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn scopes(operation: &Value) -> BTreeSet<String> {
    let ways = operation["security"].as_array().into_iter().flatten();
    let scopes = ways.flat_map(members).flat_map(|(_, scopes)| scopes.as_array());
    scopes.flatten().map(text).collect()
}

fn required(schema: &Value) -> BTreeSet<String> {
    schema["required"].as_array().into_iter().flatten().map(text).collect()
}

fn kinds(schema: &Value) -> BTreeSet<String> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).filter(|kind| kind != "null").collect(),
        kind => kind.as_str().map(str::to_owned).into_iter().collect(),
    }
}

fn resolve<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let target = part["$ref"].as_str().and_then(|place| document.pointer(place.strip_prefix('#')?));
    target.unwrap_or(part)
}

/// Whether a schema allows null, and the schema of all else that it allows.
fn without_null<'a>(document: &'a Value, schema: &'a Value) -> (bool, &'a Value) {
    let schema = resolve(document, schema);
    if let Some([first, second]) = schema["oneOf"].as_array().map(Vec::as_slice)
        && second["type"] == "null"
    {
        return (true, resolve(document, first));
    }
    let nullable = schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == "null"));
    (nullable, schema)
}
