//! Mails: links to sign in with, by SMTP or, where none is configured, into a directory that
//! only the server's own user can read, and onto its standard output.
//!
//! A mail is sent in the background, so that no answer tells by its time whether there was
//! one, and tried again a few times. It is not durable: whoever misses it asks again.

mod directory;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Body, Mailbox,
        header::{ContentTransferEncoding, ContentType},
    },
    transport::smtp,
};
use tokio::{sync::Semaphore, time::sleep};
use tracing::{info, warn};
use url::Url;

use crate::{app::App, config::MailConfig, people::Email};
use directory::Directory;

/// Who mails are from when nothing is configured.
const DEFAULT_FROM: &str = "Ventus <ventus@localhost>";
/// How long a mail waits before each of its attempts, in seconds.
const ATTEMPTS: [u64; 5] = [0, 2, 10, 60, 300];
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections to the mail server at once.
const CONNECTIONS: usize = 4;

/// A mail about a link. Has no `Debug`: the link is a secret.
#[derive(Clone)]
pub struct Mail {
    /// Whom it is for.
    pub to: Email,
    /// Its subject.
    pub subject: String,
    /// What comes before the link.
    pub before: String,
    /// The link.
    pub link: String,
    /// What comes after it.
    pub after: String,
}

/// Sends mails.
#[derive(Clone)]
pub struct Mailer {
    from: Mailbox,
    way: Way,
    connections: Arc<Semaphore>,
}

#[derive(Clone)]
enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Directory(Directory),
    #[cfg(test)]
    Memory(Arc<std::sync::Mutex<Vec<Mail>>>),
}

/// Why an attempt failed.
enum Failure {
    /// Trying again makes no sense.
    ForGood(String),
    ForNow(String),
}

impl Mailer {
    /// Prepares to send as configured; says what is wrong with the configuration.
    pub fn open(config: Option<&MailConfig>, data_dir: &std::path::Path) -> anyhow::Result<Self> {
        let from = config.map_or(DEFAULT_FROM, |config| &config.from);
        let from =
            from.parse().with_context(|| format!("{from:?} cannot be whom mails are from"))?;
        let way = match config {
            Some(config) => Way::Smtp(smtp(config)?),
            None => Way::Directory(Directory::below(data_dir)),
        };
        Ok(Self { from, way, connections: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    /// Sends a mail in the background.
    pub fn send(&self, app: &App, mail: Mail) {
        let (mailer, stop) = (self.clone(), app.stop.clone());
        app.tasks.spawn(async move {
            tokio::select! {
                () = mailer.attempts(&mail) => (),
                () = stop.cancelled() => (),
            }
        });
    }

    async fn attempts(&self, mail: &Mail) {
        for (n, wait) in (1..).zip(ATTEMPTS) {
            sleep(Duration::from_secs(wait)).await;
            match self.attempt(mail).await {
                Ok(()) => return info!(subject = mail.subject, "a mail was sent"),
                Err(Failure::ForGood(why)) => {
                    return warn!(subject = mail.subject, why, "a mail was refused");
                }
                Err(Failure::ForNow(why)) => {
                    warn!(
                        subject = mail.subject,
                        why,
                        attempt = n,
                        of = ATTEMPTS.len(),
                        "a mail could not be sent"
                    );
                }
            }
        }
    }

    async fn attempt(&self, mail: &Mail) -> Result<(), Failure> {
        let message = self.message(mail).map_err(|error| Failure::ForGood(error.to_string()))?;
        match &self.way {
            Way::Smtp(smtp) => {
                let _one = self.connections.acquire().await;
                let sent = tokio::time::timeout(PATIENCE, smtp.send(message)).await;
                let sent = sent.map_err(|_| Failure::ForNow("it took too long".to_owned()))?;
                sent.map(drop).map_err(|error| failure(&error))
            }
            Way::Directory(directory) => {
                let written = directory.write(message.formatted()).await;
                written.map_err(|error| Failure::ForNow(error.to_string()))?;
                directory::print(mail);
                Ok(())
            }
            #[cfg(test)]
            Way::Memory(mails) => {
                mails.lock().unwrap().push(mail.clone());
                Ok(())
            }
        }
    }

    fn message(&self, mail: &Mail) -> anyhow::Result<Message> {
        let text = format!("{}\n\n{}\n\n{}\n", mail.before, mail.link, mail.after);
        Ok(Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, mail.to.as_str().parse()?))
            .subject(&mail.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(body(text))?)
    }

    /// Deletes mails in the directory whose links are long dead.
    pub async fn forget_old(&self) {
        if let Way::Directory(directory) = &self.way
            && let Err(error) = directory.forget_old().await
        {
            warn!(%error, "could not delete old mails");
        }
    }

    /// Keeps mails for a test to look at.
    #[cfg(test)]
    pub fn memory() -> Self {
        let from = DEFAULT_FROM.parse().unwrap();
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Self { from, way: Way::Memory(Arc::default()), connections }
    }

    /// What a test was sent.
    #[cfg(test)]
    pub fn sent(&self) -> Vec<Mail> {
        let Way::Memory(mails) = &self.way else { panic!("these mails went elsewhere") };
        mails.lock().unwrap().clone()
    }
}

/// Longest line of a mail, in bytes (RFC 5322, section 2.1.1).
const LINE_MAX: usize = 998;

/// The text as it is wherever that is allowed: the library would fold a link in two, which
/// mail programs mend, but not everybody who looks into the file.
fn body(text: String) -> Body {
    if text.is_ascii() && text.lines().all(|line| line.len() <= LINE_MAX) {
        let lines = text.replace('\n', "\r\n");
        Body::dangerous_pre_encoded(lines.into_bytes(), ContentTransferEncoding::SevenBit)
    } else {
        Body::new(text)
    }
}

/// The transport that the URL describes. Its faults are told without the URL, which may hold
/// a password.
fn smtp(config: &MailConfig) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let malformed =
        "the SMTP URL must look like smtp://user@host:587?tls=required or smtps://user@host";
    let mut url = Url::parse(&config.url).ok().context(malformed)?;
    if let Some(password) = &config.password {
        url.set_password(Some(password)).ok().context(malformed)?;
    }
    let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str());
    Ok(builder.ok().context(malformed)?.timeout(Some(PATIENCE)).build())
}

/// What to tell of a failure. The server's own words stay out of it: it may repeat what it
/// was sent.
fn failure(error: &smtp::Error) -> Failure {
    let status = error.status().map(|code| format!(" ({code})")).unwrap_or_default();
    if error.is_permanent() {
        Failure::ForGood(format!("the mail server refused it{status}"))
    } else if error.is_transient() {
        Failure::ForNow(format!("the mail server cannot take it now{status}"))
    } else if error.is_tls() {
        Failure::ForNow("no TLS connection to the mail server".to_owned())
    } else if error.is_timeout() {
        Failure::ForNow("the mail server does not answer".to_owned())
    } else {
        Failure::ForNow("no connection to the mail server".to_owned())
    }
}
