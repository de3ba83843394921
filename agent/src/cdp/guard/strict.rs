//! Arguments, read so that they have one meaning only: JSON as RFC 8259 has it, in which no
//! object has a key twice. What is judged is what is sent, so what cannot be read so is
//! refused.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The arguments of a command: an object, or nothing.
pub(super) fn arguments(params: Option<&[u8]>) -> Option<Map<String, Value>> {
    let Some(params) = params else { return Some(Map::new()) };
    match serde_json::from_slice(params) {
        Ok(Strict(Value::Object(arguments))) => Some(arguments),
        _ => None,
    }
}

/// A value without a key that comes twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = members.next_entry::<String, _>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key comes twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_twice_at_any_level_is_no_argument() {
        for (text, read) in [
            (r#"{"url":"a","x":[{"y":1.1}],"z":-5,"n":null,"t":true}"#, true),
            ("{}", true),
            (r#"{"url":"a","url":"b"}"#, false),
            (r#"{"url":"a","\u0075rl":"b"}"#, false),
            (r#"{"data":{"files":[],"files":["x"]}}"#, false),
            (r#"{"a":[[{"x":1,"x":1}]]}"#, false),
            ("[]", false),
            (r#""x""#, false),
            (r#"{"x":1e400}"#, false),
            (r#"{"x":"\ud800"}"#, false),
            ("{\"x\":\"\u{1}\"}", false),
            (r#"{"x":nul"#, false),
        ] {
            assert_eq!(arguments(Some(text.as_bytes())).is_some(), read, "{text}");
        }
        assert_eq!(arguments(None), Some(Map::new()));
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let text = r#"{"a":[1,-2,18446744073709551615,1.1,2.625,0.1,1e+300],"b":"é\u0000\n"}"#;
        let read = arguments(Some(text.as_bytes())).unwrap();
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(written, text);
    }
}
