//! Reading what a request says: its query and its JSON body.

use std::{convert::Infallible, fmt};

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Query as Pairs, Request},
};
use http::{HeaderMap, header, request::Parts};
use http_body_util::LengthLimitError;
use proto::{
    problem::{Problem, Slug},
    reached::ReachedAt,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::error::fault;

/// The largest body of a create, in bytes: it may carry a storage state of 5 MiB.
pub const CREATE_LIMIT: usize = 6 << 20;
/// The largest body of everything else, in bytes.
const LIMIT: usize = 64 << 10;

/// The parameters of a query, in their order.
pub struct Query(pub Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Pairs(pairs) = Pairs::try_from_uri(&parts.uri)
            .map_err(|_| Problem::malformed("the query cannot be read"))?;
        Ok(Self(pairs))
    }
}

impl Query {
    /// For routes without parameters: whoever sends one expects something to happen.
    pub fn allow_none(self) -> Result<(), Problem> {
        let unknown = |(name, _)| fault(format!("?{name}"), "unknown parameter");
        let errors: Vec<_> = self.0.into_iter().map(unknown).collect();
        match errors.first() {
            None => Ok(()),
            Some(first) => {
                let detail = format!("{}: {}", first.pointer, first.detail);
                Err(Problem::malformed(detail).with_errors(errors))
            }
        }
    }
}

/// Where a request was sent, if whoever serves us is sure of it.
pub struct Reached(Option<ReachedAt>);

impl<S: Sync> FromRequestParts<S> for Reached {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(ReachedAt::of(&parts.extensions).cloned()))
    }
}

impl Reached {
    /// Leads a URL of our own data plane to where the request was sent.
    pub fn redirect(&self, own: Option<&str>, url: &mut String) {
        let path = own.and_then(|own| url.strip_prefix(own)).filter(|path| path.starts_with('/'));
        if let (Some(at), Some(path)) = (&self.0, path) {
            *url = format!("{}{path}", at.data_plane_url());
        }
    }
}

/// A JSON body of at most `MAX` bytes. No body at all is an empty object.
pub struct Body<const MAX: usize = LIMIT>(pub Value);

impl<S: Sync, const MAX: usize> FromRequest<S> for Body<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        WrittenBody::<MAX>::from_request(request, state).await.map(|body| Self(body.value))
    }
}

/// A [`Body`], and how it was written: parts of it may have to be passed on as they are.
pub struct WrittenBody<const MAX: usize> {
    /// What it says.
    pub value: Value,
    /// The JSON itself.
    pub text: Bytes,
}

impl<S: Sync, const MAX: usize> FromRequest<S> for WrittenBody<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let too_large =
            || Problem::new(Slug::PayloadTooLarge, format!("the body is larger than {MAX} bytes"));
        // Refused before it is read, if it says how long it is.
        if announced_length(&parts.headers).is_some_and(|length| length > MAX as u64) {
            return Err(too_large());
        }
        let is_json = is_json(&parts.headers);
        if is_json == Some(false) {
            return Err(not_json());
        }
        let bytes = to_bytes(body, MAX).await.map_err(|error| {
            if error.into_inner().is::<LengthLimitError>() {
                too_large()
            } else {
                Problem::malformed("the body could not be read to its end")
            }
        })?;
        match is_json {
            None if bytes.is_empty() => {
                Ok(Self { value: Value::Object(Map::new()), text: Bytes::from_static(b"{}") })
            }
            None => Err(not_json()),
            Some(_) => match serde_json::from_slice(&bytes) {
                Ok(Strict(value)) => Ok(Self { value, text: bytes }),
                Err(error) => {
                    let detail = format!("the body is not valid JSON: {error}");
                    Err(Problem::malformed(&*detail).with_errors(vec![fault("", detail)]))
                }
            },
        }
    }
}

fn not_json() -> Problem {
    Problem::new(Slug::UnsupportedMediaType, "the body must be application/json")
}

/// How many bytes a body is to have, if it says so.
pub fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What the content type says; `None` without one.
fn is_json(headers: &HeaderMap) -> Option<bool> {
    let given = headers.get(header::CONTENT_TYPE)?;
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    Some(essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Any JSON whose objects name each member once. Of a member named twice, others might take
/// the first where we take the last.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the member {name:?} is there twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is_and_no_member_twice() {
        for good in [r#"{"a":[1,-2,0.5,"x\n",true,null,{}],"b":{"a":1}}"#, "7", "null", "\"\""] {
            let Strict(read) = serde_json::from_str(good).unwrap();
            assert_eq!(read, serde_json::from_str::<Value>(good).unwrap());
        }
        for bad in
            [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":1,"a":2}}]"#, "", "{"]
        {
            assert!(serde_json::from_str::<Strict>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Strict>(&"[".repeat(100_000)).is_err());
    }
}
