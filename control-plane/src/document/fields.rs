//! The form of fields and parameters, told by their names: one word means one thing here.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use utoipa::openapi::{
    Components, KnownFormat, Object, OpenApi, RefOr, Schema, SchemaFormat, Type,
    path::{Parameter, ParameterIn},
    schema::{AdditionalProperties, SchemaType},
};

use super::operations;
use crate::files::name;

/// 26 characters of Crockford's base 32, upper case, of which the first holds three bits.
pub const ULID: &str = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$";
const ULID_EXAMPLE: &str = "01KAW3Y0R5M8T2N6Q4P1C7D9EF";
/// Times that we show have milliseconds; those that we take may be any of RFC 3339.
const TIME: &str = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$";
const TIME_EXAMPLE: &str = "2026-11-22T12:00:00.000Z";
const CURSOR: &str = "^[A-Za-z0-9_-]+$";
const CURSOR_EXAMPLE: &str = "MDFLQVczWTBSNU04VDJONlE0UDFDN0Q5RUZ7d0hq";
/// As in a DNS label.
const REGION: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
/// Names for people, unlike those that pages give to their things.
const NAME_MAX: usize = 128;
/// Something visible, and no control characters.
const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$";
/// As in a DNS label too: a workspace may get a host name one day.
const SLUG: &str = REGION;
pub const LABEL_KEY: &str = "[A-Za-z0-9][A-Za-z0-9._/-]{0,62}";
/// PostgreSQL cannot store it.
pub const NO_NUL: &str = r"^[^\u0000]*$";
const LABELS_MAX: usize = 32;
const LABEL_VALUE_MAX: usize = 256;
/// Ids that are not always ULIDs: callers choose request ids, and audit rows tell of anything.
pub const NO_ULIDS: &[&str] = &["request_id", "actor_id", "target_id"];

/// Describes every parameter of a path, every property, and what answers always hold.
pub fn describe(document: &mut OpenApi) {
    for (_, operation) in operations(&mut document.paths) {
        for parameter in operation.parameters.iter_mut().flatten() {
            if let RefOr::T(parameter) = parameter {
                describe_parameter(parameter);
            }
        }
    }
    let answered = answered(document);
    let Some(components) = &mut document.components else { return };
    for (name, schema) in &mut components.schemas {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        let answered = answered.contains(name);
        if answered {
            // What we answer holds every field; one without a value is null.
            object.required = object.properties.keys().cloned().collect();
        }
        for (field, property) in &mut object.properties {
            if let RefOr::T(Schema::Object(property)) = property {
                describe_field(field, property, answered);
            }
        }
    }
}

fn describe_parameter(parameter: &mut Parameter) {
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    // A parameter without a value is left out.
    if let SchemaType::Array(kinds) = &schema.schema_type
        && let [kind, Type::Null] = kinds.as_slice()
    {
        schema.schema_type = SchemaType::Type(kind.clone());
    }
    if parameter.parameter_in != ParameterIn::Header {
        describe_field(&parameter.name, schema, false);
    }
}

fn describe_field(name: &str, field: &mut Object, answered: bool) {
    if is(field, &Type::Object) && name == "labels" {
        return labels(field);
    }
    if !is(field, &Type::String) || field.pattern.is_some() || field.enum_values.is_some() {
        return;
    }
    let is_id = (name == "id" || name.ends_with("_id")) && !NO_ULIDS.contains(&name);
    let is_time = field.format == Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
    let (pattern, example) = match name {
        _ if is_time && !answered => (None, TIME_EXAMPLE),
        _ if is_time => (Some(TIME), TIME_EXAMPLE),
        _ if is_id => (Some(ULID), ULID_EXAMPLE),
        "cursor" | "next_cursor" => (Some(CURSOR), CURSOR_EXAMPLE),
        "region" => (Some(REGION), "local"),
        "slug" => (Some(SLUG), "search-team"),
        "name" if field.max_length == Some(name::NAME_MAX) => (Some(name::PATTERN), "report.pdf"),
        "name" | "label" if field.max_length == Some(NAME_MAX) => (Some(LINE), "a name"),
        _ => return,
    };
    field.pattern = pattern.map(str::to_owned);
    // A field that is mostly null is so in examples too.
    if !is(field, &Type::Null) && field.example.is_none() {
        field.example = Some(example.into());
    }
}

fn labels(field: &mut Object) {
    let mut value = Object::with_type(Type::String);
    value.max_length = Some(LABEL_VALUE_MAX);
    value.pattern = Some(NO_NUL.to_owned());
    let mut key = Object::with_type(Type::String);
    key.pattern = Some(format!("^{LABEL_KEY}$"));
    field.max_properties = Some(LABELS_MAX);
    field.property_names = Some(Box::new(key.into()));
    let value = AdditionalProperties::RefOr(RefOr::T(value.into()));
    field.additional_properties = Some(Box::new(value));
    field.example.get_or_insert(json!({"team": "search"}));
}

/// Whether a schema is of a type, or may be.
fn is(schema: &Object, wanted: &Type) -> bool {
    match &schema.schema_type {
        SchemaType::Type(kind) => kind == wanted,
        SchemaType::Array(kinds) => kinds.contains(wanted),
        SchemaType::AnyValue => false,
    }
}

/// Names of the schemas that successful answers are made of.
fn answered(document: &OpenApi) -> BTreeSet<String> {
    let paths = serde_json::to_value(&document.paths).unwrap_or_default();
    let mut found = BTreeSet::new();
    let operations = paths.as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object());
    for operation in operations.flatten().map(|(_, operation)| operation) {
        let responses = operation["responses"].as_object().into_iter().flatten();
        for (status, response) in responses {
            if status.starts_with('2') {
                follow(response, document.components.as_ref(), &mut found);
            }
        }
    }
    found
}

/// Collects the schemas that a part of the document refers to, and those that they refer to.
fn follow(part: &Value, components: Option<&Components>, found: &mut BTreeSet<String>) {
    match part {
        Value::Array(items) => items.iter().for_each(|item| follow(item, components, found)),
        Value::Object(members) => {
            for (name, member) in members {
                follow(member, components, found);
                let name = (name == "$ref").then(|| member.as_str()?.rsplit('/').next()).flatten();
                if let Some(name) = name
                    && found.insert(name.to_owned())
                {
                    let schema = components.and_then(|all| all.schemas.get(name));
                    follow(&serde_json::to_value(schema).unwrap_or_default(), components, found);
                }
            }
        }
        _ => (),
    }
}
