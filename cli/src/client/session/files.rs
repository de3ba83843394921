//! `ventus session upload`, `downloads` and `download`

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use proto::id::SessionId;
use serde::Deserialize;

use super::{
    super::{Paging, page, table, when},
    Api, Error, Request, Result, Said, path, show,
};

/// How long a file may take, either way.
const TRANSFER: Duration = Duration::from_secs(20 * 60);

/// Files to put.
#[derive(Debug, Args)]
pub struct Upload {
    /// The session
    id: SessionId,
    /// The files: each goes by its own name
    #[arg(required = true)]
    file: Vec<PathBuf>,
}

/// Which downloads to list.
#[derive(Debug, Args)]
pub struct Downloads {
    /// The session
    id: SessionId,
    #[command(flatten)]
    paging: Paging,
}

/// A file to get.
#[derive(Debug, Args)]
pub struct Download {
    /// The session
    id: SessionId,
    /// The file's name, or what the browser calls it
    name: String,
    /// Where it is to go, in place of what is there; otherwise a new file of its name, here
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct File {
    name: String,
    size_bytes: u64,
    created_at: String,
}

impl Upload {
    pub async fn put(self, api: &Api) -> Said {
        let id = self.id;
        Said::each(self.file, |file| async move {
            let name = name_of(&file)?;
            let request = Request::put_file(of(id, "uploads", &name), file).patience(TRANSFER);
            let put: File = api.send(request).await?.read()?;
            Ok(format!("put uploads/{} ({})", put.name, show::bytes(put.size_bytes)))
        })
        .await
    }
}

impl Downloads {
    pub async fn list(self, api: &Api) -> Result<Said> {
        let request = Request::get(path(self.id, "/downloads"));
        let listed = page::<File, _>(&self.paging, request, |request| api.send(request)).await?;
        Ok(listed.said("downloads", |files| {
            let rows = files
                .into_iter()
                .map(|file| [file.name, show::bytes(file.size_bytes), when(&file.created_at)]);
            table(["NAME", "SIZE", "CREATED"], rows)
        }))
    }
}

impl Download {
    pub async fn get(self, api: &Api) -> Result<Said> {
        let request = Request::get(of(self.id, "downloads", &self.name)).patience(TRANSFER);
        let (to, replace) = match self.output {
            Some(output) => (output, true),
            None => (PathBuf::from(name_of(Path::new(&self.name))?), false),
        };
        let size_bytes = api.fetch(request, &to, replace).await?;
        Ok(Said::done(format!("{} ({})", to.display(), show::bytes(size_bytes))))
    }
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::usage(format!("{} has no name", path.display())))?;
    Ok(name.to_owned())
}

/// The path of a file of a session.
fn of(id: SessionId, kind: &str, name: &str) -> String {
    let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
    path(id, &format!("/{kind}/{name}"))
}
