//! How the body of a create looks in the OpenAPI document. Nothing else uses these types.
#![expect(dead_code, reason = "only described; `validate` and `proxy` read it")]

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    sessions::{Viewport, object::RuntimeKind},
    storage_state::schema::StorageState,
};

/// The session wanted. Every field is optional, and `null` is the same as leaving it out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Where it is to run; the server's default region if not given.
    region: Option<CreateRegion>,
    /// What is to run.
    #[schema(value_type = Option<RuntimeKind>, default = "chromium")]
    runtime_kind: Option<String>,
    /// How long it may live, from its creation.
    #[schema(minimum = 5, maximum = 86400, default = 1800)]
    timeout_seconds: Option<u32>,
    /// How long it outlives its last client. 0 is a reconnect grace of 10 seconds. Before the
    /// first client only `timeout_seconds` counts.
    #[schema(minimum = 0, maximum = 3600, default = 0)]
    keep_alive_seconds: Option<u32>,
    /// The size of its pages; 1280 × 720 if not given.
    viewport: Option<Viewport>,
    /// Instead of the browser's own; visible ASCII.
    #[schema(max_length = 512, min_length = 1, pattern = "^[ -~]*[!-~][ -~]*$")]
    user_agent: Option<String>,
    /// Where the browser's traffic goes instead of straight out.
    proxy: Option<CreateProxy>,
    /// Narrows where the browser may connect to. What the server refuses stays refused.
    egress: Option<CreateEgress>,
    /// A profile whose storage state the browser begins with.
    #[schema(example = "01KAW4D2T7R9V3X5Z8B6C1F4GH")]
    profile_id: Option<String>,
    /// The storage state that the browser begins with, of at most 5 MiB. Together with
    /// `profile_id` it is laid over the profile's: cookies, items and databases that both have
    /// are taken from here.
    storage_state: Option<StorageState>,
    /// Your own marks, at most 32. Keys have at most 63 letters, digits, dots, slashes,
    /// hyphens and underscores and begin with a letter or digit; values have at most 256
    /// characters.
    #[schema(example = json!({"team": "search"}))]
    labels: Option<BTreeMap<String, String>>,
    /// Recordings do not exist yet: `enabled` can only be `false`.
    recording: Option<CreateRecording>,
}

/// Where a session is to run.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CreateRegion {
    /// There, or wherever there is room: `any`, the server's default region first.
    #[schema(example = "local")]
    One(String),
    /// In the first of these that has room; one that comes again does not count.
    Several(RegionList),
}

/// 1 to 16 regions, the best first.
#[derive(Deserialize, ToSchema)]
#[schema(min_items = 1, max_items = 16, example = json!(["eu", "us"]))]
pub struct RegionList(Vec<String>);

/// An upstream proxy. Its credentials are never shown again.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CreateProxy {
    /// All in its URL.
    Url(ProxyUrl),
    /// With its credentials beside the URL.
    WithCredentials(ProxyWithCredentials),
}

/// An upstream proxy as one URL.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyUrl {
    /// `http://`, `https://` or `socks5://`, a host, and a port if it is not 80, 443 or 1080.
    /// It may hold the credentials.
    #[schema(format = "proxy", example = "http://proxy.example:3128")]
    url: String,
}

/// An upstream proxy with its credentials beside the URL.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyWithCredentials {
    /// Without credentials.
    #[schema(format = "proxy-host", example = "http://proxy.example:3128")]
    url: String,
    /// At most 255 bytes, without control characters; colons only for `socks5`.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^:\u0000-\u001f\u007f-\u009f]+$",
        example = "user"
    )]
    username: String,
    /// At most 2,048 bytes, and 255 for `socks5`, without control characters.
    #[schema(min_length = 1, max_length = 2048, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    password: Option<String>,
}

/// Where the browser may connect to. An entry is a host (`example.com`), all hosts below a
/// name (`*.example.com`), an address or a block of them (`192.0.2.7`, `10.0.0.0/8`,
/// `fd00::/8`), each perhaps with a port or ports (`example.com:443`, `10.0.0.0/8:8000-8999`,
/// `[fd00::/8]:443`). Names count as the browser asks for them: to deny a host is not to deny
/// its addresses. Behind a proxy names are the proxy's to resolve, and only names match them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEgress {
    /// Nothing but this, if there is anything in it; at most 100 entries of at most 256 bytes.
    #[schema(max_items = 100, value_type = Option<Vec<EgressEntry>>)]
    allow: Option<Vec<String>>,
    /// Not this, whatever is allowed; likewise.
    #[schema(max_items = 100, value_type = Option<Vec<EgressEntry>>)]
    deny: Option<Vec<String>>,
}

/// Hosts and ports.
#[derive(ToSchema)]
#[schema(value_type = String, format = "egress-rule", example = "*.example.com:443")]
pub struct EgressEntry(String);

/// Whether the session is to be recorded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRecording {
    #[schema(default = false, example = false)]
    enabled: Option<bool>,
}
