//! What a control plane is started with.

use std::{fmt, num::NonZeroU32, path::PathBuf};

use proto::region::Region;

use crate::people::Email;

/// Settings of one replica.
#[derive(Clone)]
pub struct Config {
    /// `sqlite:///path` or `postgres://…`.
    pub database_url: String,
    /// Where `master.key` lives, unless `VENTUS_MASTER_KEY` gives the key itself.
    pub data_dir: PathBuf,
    /// Where callers reach this server: scheme and authority, without a trailing slash.
    pub public_url: String,
    /// The region of sessions that name none.
    pub default_region: Region,
    /// What an agent must show to join.
    pub join_token: String,
    /// The data plane of an agent that is served where the API is: callers are told of it as
    /// they reached the API. `None`: there is none.
    pub own_data_plane: Option<String>,
    /// Requests a minute of an API key, where the plan of its workspace sets no other limit.
    pub rate_limit_per_minute: NonZeroU32,
    /// How long a session that is over is kept, in days; 0: for ever.
    pub retain_sessions_days: u32,
    /// How long audit rows are kept, in days; 0: for ever.
    pub retain_audit_days: u32,
    /// Where large profiles and files go instead of the database: `file:///directory`, or
    /// `s3://bucket/prefix` with the usual `AWS_…` variables.
    pub object_store: Option<String>,
    /// Who owns a workspace that nobody owns: the first one, at the first start.
    pub owner_email: Email,
    /// The API key of the first start, `vs_<ULID>.<32 characters>`; `None`: one is made then.
    pub first_key: Option<String>,
    /// How mails are sent; `None`: into the data directory and onto standard output.
    pub mail: Option<MailConfig>,
    /// The cluster whose scale-down is told which agents are idle; `None`: nobody is.
    pub cluster: Option<ClusterConfig>,
}

/// The API of Kubernetes, as it is seen from a pod.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// A host's name or address.
    pub host: String,
    /// Of `https`.
    pub port: u16,
    /// The directory with the service account's `token`, `namespace` and `ca.crt`.
    pub service_account: PathBuf,
}

/// A mail server. Has no `Debug`: it holds a password.
#[derive(Clone)]
pub struct MailConfig {
    /// `smtp://user@host:587?tls=required`, `smtps://user@host`, or `smtp://host` without TLS.
    pub url: String,
    /// The user's password, if the URL has none.
    pub password: Option<String>,
    /// Whom mails are from: `Ventus <ventus@example.org>`.
    pub from: String,
}

impl fmt::Debug for Config {
    /// Without the join token, the first key and the database URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("public_url", &self.public_url)
            .field("default_region", &self.default_region)
            .field("rate_limit_per_minute", &self.rate_limit_per_minute)
            .field("retain_sessions_days", &self.retain_sessions_days)
            .field("retain_audit_days", &self.retain_audit_days)
            .finish_non_exhaustive()
    }
}
