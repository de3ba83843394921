//! Who owns the first workspace, and how people are sent their links.

use std::{env, fmt, path::Path};

use clap::Args;
use control_plane::{MailConfig, mail::Mailer, people::Email};

use crate::{control_plane::OWNER_EMAIL, unrepeated::Unrepeated, usage};

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
        value_name = "URL",
        value_parser = Unrepeated(smtp_url)
    )]
    pub smtp_url: Option<String>,
    /// Whom mails are from, like "Ventus <ventus@example.org>"
    #[arg(long, env = "VENTUS_MAIL_FROM", requires = "smtp_url", value_name = "SENDER")]
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
    ///
    /// # Errors
    ///
    /// When they could not be, as configured.
    pub fn mail(&self, data_dir: &Path) -> anyhow::Result<Option<MailConfig>> {
        let mail = self.smtp_url.clone().zip(self.mail_from.clone());
        let mail = mail.map(|(url, from)| {
            let password = env::var(PASSWORD).ok();
            MailConfig { url, password, from }
        });
        Mailer::open(mail.as_ref(), data_dir).map_err(|error| usage(format!("{error:#}")))?;
        Ok(mail)
    }
}

fn smtp_url(text: &str) -> Result<(), &'static str> {
    let at = |scheme| text.strip_prefix(scheme).is_some_and(|rest: &str| !rest.is_empty());
    let good = at("smtp://") || at("smtps://");
    good.then_some(())
        .ok_or("not a URL like smtp://user@host:587?tls=required or smtps://user@host")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        people: People,
    }

    fn parse(line: &[&str]) -> Result<People, clap::Error> {
        Ok(Line::try_parse_from([&["x"], line].concat())?.people)
    }

    #[test]
    fn mails_stay_here_unless_a_server_is_named() {
        let people = parse(&[]).unwrap();
        assert_eq!(people.owner_email.as_str(), "owner@localhost");
        assert!(people.mail(Path::new("/x")).unwrap().is_none());
        let url = ["--smtp-url", "smtps://u:hunter2@h", "--mail-from", "V <v@x>"];
        let people = parse(&url).unwrap();
        assert!(people.mail(Path::new("/x")).unwrap().is_some());
        assert!(!format!("{people:?}").contains("hunter2"));
    }

    #[test]
    fn what_could_not_send_is_refused_and_not_repeated() {
        for bad in [
            &["--smtp-url", "smtp://u:hunter2@h"][..],
            &["--mail-from", "v@x"],
            &["--smtp-url", "u:hunter2@h", "--mail-from", "v@x"],
            &["--owner-email", "nobody"],
        ] {
            let told = parse(bad).unwrap_err().to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
        for (url, from) in [("smtp://u:hunter2@h", "nobody"), ("smtp://u:hunter2@", "v@x")] {
            let people = parse(&["--smtp-url", url, "--mail-from", from]).unwrap();
            let error = people.mail(Path::new("/x")).err().unwrap();
            assert!(
                error.is::<crate::Usage>() && !error.to_string().contains("hunter2"),
                "{error}"
            );
        }
    }
}
