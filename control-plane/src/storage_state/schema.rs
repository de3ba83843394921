//! How a storage state looks in the OpenAPI document. Nothing else uses these types.
#![expect(dead_code, reason = "only described; the parent module reads and writes it")]

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A browser's storage state, as Playwright's `context.storageState()` writes it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageState {
    cookies: Option<Vec<Cookie>>,
    origins: Option<Vec<Origin>>,
    /// Playwright's own; only an empty list is taken.
    #[schema(max_items = 0)]
    credentials: Option<Vec<Value>>,
}

/// A storage state, with both of its lists. Each entry is as in `StorageState`.
#[derive(Deserialize, ToSchema)]
pub struct SavedState {
    #[schema(value_type = Vec<Object>)]
    cookies: Vec<Value>,
    #[schema(value_type = Vec<Object>)]
    origins: Vec<Value>,
}

/// One cookie.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cookie {
    #[schema(example = "sid")]
    name: String,
    #[schema(example = "8f14e45f")]
    value: String,
    /// With a leading dot it is sent to subdomains too.
    #[schema(min_length = 1, example = ".shop.example")]
    domain: String,
    #[schema(pattern = "^/", example = "/")]
    path: String,
    /// Unix seconds; -1: it ends with the session.
    #[schema(minimum = -1, maximum = 253402300799_i64, default = -1)]
    expires: Option<f64>,
    #[schema(default = false)]
    http_only: Option<bool>,
    #[schema(default = false)]
    secure: Option<bool>,
    same_site: Option<SameSite>,
    /// The top-level site of a partitioned cookie (CHIPS).
    partition_key: Option<String>,
    /// Playwright's own mark of a partitioned cookie.
    #[serde(rename = "_crHasCrossSiteAncestor")]
    cross_site_ancestor: Option<bool>,
}

/// When a cookie is sent across sites: never, with navigations, or always.
#[derive(Deserialize, ToSchema)]
#[schema(default = "Lax")]
pub enum SameSite {
    /// Never.
    Strict,
    /// With navigations.
    Lax,
    /// Always.
    None,
}

/// What one origin has stored.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Origin {
    /// `http://` or `https://`, a host, and a port if it is not the usual one.
    #[schema(format = "origin", example = "https://shop.example")]
    origin: String,
    local_storage: Option<Vec<Item>>,
    #[serde(rename = "indexedDB")]
    indexed_db: Option<Vec<Database>>,
    /// Not supported; only an empty list is taken.
    #[schema(max_items = 0)]
    opfs: Option<Vec<Value>>,
}

/// One item of local storage.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Item {
    #[schema(example = "token")]
    name: String,
    #[schema(example = "8f14e45f")]
    value: String,
}

/// An IndexedDB database.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    #[schema(example = "shop")]
    name: String,
    #[schema(minimum = 1, maximum = 9007199254740991_i64, example = 1)]
    version: u64,
    stores: Vec<ObjectStore>,
}

/// An object store of an IndexedDB database.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ObjectStore {
    /// With one key path, or none.
    OnePath(StoreOfOnePath),
    /// With several.
    Paths(StoreOfPaths),
}

/// An object store with one key path, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StoreOfOnePath {
    #[schema(example = "carts")]
    name: String,
    auto_increment: bool,
    key_path: Option<String>,
    records: Vec<Record>,
    indexes: Vec<Index>,
}

/// An object store with several key paths.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StoreOfPaths {
    #[schema(example = "carts")]
    name: String,
    auto_increment: bool,
    #[schema(example = json!(["owner", "shop"]))]
    key_path_array: Vec<String>,
    records: Vec<Record>,
    indexes: Vec<Index>,
}

/// A record: a key, unless the store's key path finds it, and a value. What JSON cannot say is
/// in `keyEncoded` and `valueEncoded`, in Playwright's encoding.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Record {
    /// JSON can say both.
    Plain(PlainRecord),
    /// JSON can say the value.
    EncodedKey(RecordOfEncodedKey),
    /// JSON can say the key, if there is one.
    EncodedValue(RecordOfEncodedValue),
    /// JSON can say neither.
    Encoded(EncodedRecord),
}

/// A record that JSON can say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlainRecord {
    key: Option<Value>,
    value: Value,
}

/// A record whose key JSON cannot say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecordOfEncodedKey {
    key_encoded: Value,
    value: Value,
}

/// A record whose value JSON cannot say.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RecordOfEncodedValue {
    key: Option<Value>,
    value_encoded: Value,
}

/// A record of which JSON can say nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EncodedRecord {
    key_encoded: Value,
    value_encoded: Value,
}

/// An index of an object store.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Index {
    /// Over one key path, or none.
    OnePath(IndexOfOnePath),
    /// Over several.
    Paths(IndexOfPaths),
}

/// An index over one key path, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IndexOfOnePath {
    #[schema(example = "by owner")]
    name: String,
    key_path: Option<String>,
    multi_entry: bool,
    unique: bool,
}

/// An index over several key paths.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IndexOfPaths {
    #[schema(example = "by owner")]
    name: String,
    #[schema(example = json!(["owner", "shop"]))]
    key_path_array: Vec<String>,
    multi_entry: bool,
    unique: bool,
}
