//! Who owns the first workspace, and how people are sent their links.

use std::fmt;

use clap::Args;
use control_plane::{MailConfig, people::Email};

use crate::control_plane::OWNER_EMAIL;

/// Gives the mail server's password, which then need not be in the URL.
const PASSWORD: &str = "VENTUS_SMTP_PASSWORD";

/// What the control plane knows of people.
#[derive(Args)]
#[group(skip)]
pub struct People {
    /// Who owns the workspace of the first start
    #[arg(
        long,
        env = "VENTUS_OWNER_EMAIL",
        default_value = OWNER_EMAIL,
        value_name = "ADDRESS"
    )]
    pub owner_email: Email,
    /// Mail server, smtp://user@host:587?tls=required or smtps://user@host [default: mails are
    /// kept in the data directory, and their links are printed]
    ///
    /// Its password comes from VENTUS_SMTP_PASSWORD: arguments can be seen by other users of
    /// the machine.
    #[arg(
        long,
        env = "VENTUS_SMTP_URL",
        hide_env_values = true,
        requires = "mail_from",
        value_name = "URL"
    )]
    pub smtp_url: Option<String>,
    /// Whom mails are from, like "Ventus <ventus@example.org>"
    #[arg(long, env = "VENTUS_MAIL_FROM", value_name = "SENDER")]
    pub mail_from: Option<String>,
}

impl fmt::Debug for People {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("People")
            .field("owner_email", &self.owner_email)
            .field("mail_from", &self.mail_from)
            .finish_non_exhaustive()
    }
}

impl People {
    /// How mails are sent, if there is a mail server.
    pub fn mail(&self) -> Option<MailConfig> {
        let (url, from) = self.smtp_url.clone().zip(self.mail_from.clone())?;
        Some(MailConfig { url, password: std::env::var(PASSWORD).ok(), from })
    }
}
