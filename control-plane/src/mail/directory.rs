//! Mails of a server without SMTP: files that its own user alone can read.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ulid::Ulid;

use super::Mail;

/// Below the data directory.
const NAME: &str = "mail";
/// How long a mail is kept: as long as an invitation is good.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A directory of mails, `<ULID>.eml` each.
#[derive(Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// That of a data directory. It is made with the first mail.
    pub fn below(data_dir: &Path) -> Self {
        Self(data_dir.join(NAME))
    }

    /// Writes a mail, all of it or nothing.
    pub async fn write(&self, mail: Vec<u8>) -> io::Result<()> {
        let directory = self.0.clone();
        blocking(move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
            let name = Ulid::generate();
            let draft = directory.join(format!(".{name}"));
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&mail)?;
            fs::rename(draft, directory.join(format!("{name}.eml")))
        })
        .await
    }

    /// Deletes what has been there too long.
    pub async fn forget_old(&self) -> io::Result<()> {
        let directory = self.0.clone();
        blocking(move || {
            let files = match fs::read_dir(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                files => files?,
            };
            for file in files {
                let file = file?;
                let age = SystemTime::now().duration_since(file.metadata()?.modified()?);
                if age.is_ok_and(|age| age > KEPT) {
                    fs::remove_file(file.path())?;
                }
            }
            Ok(())
        })
        .await
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Shows a link to whoever started the server. To standard output, never to the log.
pub fn print(mail: &Mail) {
    let text = format!("\n  {} ({})\n  {}\n\n", mail.subject, mail.to, mail.link);
    // Nobody may be looking.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}
