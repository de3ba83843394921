//! The object store for contents that are too large for the database: a local directory or a
//! bucket that speaks S3. Profiles' objects are named by profile and version, those of files
//! by the file. All are encrypted before they come here.

use std::{ops::Range, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use axum::body::Bytes;
use futures_util::TryStreamExt;
use object_store::{
    ClientOptions, Error, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore,
};
use proto::id::{FileId, ProfileId};
use url::Url;

/// How long the store may take for one request, and to be connected to.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How often and for how long a request is tried again: someone waits for it.
const RETRIES: usize = 2;
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// The directory of all profiles' objects, and of all files'.
const DIRECTORY: &str = "profiles";
const FILES: &str = "files";

/// Where large contents are, if anywhere. Cheap to clone.
#[derive(Clone, Default)]
pub struct Objects(Option<Arc<dyn ObjectStore>>);

/// The name of a content: its profile and its version.
pub type Name = (ProfileId, String);

impl Objects {
    /// `file:///directory`, or `s3://bucket/prefix` with the usual `AWS_…` variables:
    /// credentials, region, and endpoint for other services than Amazon's.
    pub fn open(
        url: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("the object store must be given as a URL")?;
        let store: Arc<dyn ObjectStore> = match url.scheme() {
            "file" => {
                let directory = url.to_file_path().ok().context("no directory is named")?;
                Arc::new(directory_store(directory)?)
            }
            "s3" => {
                let prefix = Path::from_url_path(url.path())?;
                Arc::new(PrefixStore::new(bucket_store(&url, variables)?, prefix))
            }
            _ => bail!("the object store must be file:///directory or s3://bucket/prefix"),
        };
        Ok(Self(Some(store)))
    }

    /// A store of the test's.
    #[cfg(test)]
    pub fn of(store: impl ObjectStore) -> Self {
        Self(Some(Arc::new(store)))
    }

    /// Whether large contents go here.
    pub fn is_configured(&self) -> bool {
        self.0.is_some()
    }

    /// Writes an object, durably.
    pub async fn put(&self, id: ProfileId, version: &str, content: Vec<u8>) -> Result<(), Error> {
        self.store()?.put(&path(id, version), content.into()).await.map(drop)
    }

    /// Reads an object.
    pub async fn get(&self, id: ProfileId, version: &str) -> Result<Bytes, Error> {
        self.store()?.get(&path(id, version)).await?.bytes().await
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, id: ProfileId, version: &str) -> Result<(), Error> {
        match self.store()?.delete(&path(id, version)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Begins the object of a file. It is there when it is completed.
    pub async fn begin_file(&self, id: FileId) -> Result<Box<dyn MultipartUpload>, Error> {
        self.store()?.put_multipart(&file_path(id)).await
    }

    /// Reads a part of a file's object.
    pub async fn read_file(&self, id: FileId, part: Range<u64>) -> Result<Bytes, Error> {
        self.store()?.get_range(&file_path(id), part).await
    }

    /// Deletes the object of a file, if it is there.
    pub async fn delete_file(&self, id: FileId) -> Result<(), Error> {
        match self.store()?.delete(&file_path(id)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All objects of profiles that were written this long ago or longer.
    pub async fn older_than(&self, age: Duration) -> Result<Vec<Name>, Error> {
        let Some(store) = &self.0 else { return Ok(Vec::new()) };
        let now = std::time::SystemTime::now();
        let old = |object: &ObjectMeta| {
            let written = std::time::SystemTime::from(object.last_modified);
            now.duration_since(written).is_ok_and(|since| since >= age)
        };
        let objects = store.list(Some(&Path::from(DIRECTORY)));
        let named =
            objects.try_filter_map(async |object| Ok(name(&object).filter(|_| old(&object))));
        named.try_collect().await
    }

    fn store(&self) -> Result<&dyn ObjectStore, Error> {
        self.0.as_deref().ok_or_else(|| Error::Generic {
            store: "none",
            source: "a content is in an object store, and none is configured".into(),
        })
    }
}

fn directory_store(directory: PathBuf) -> anyhow::Result<LocalFileSystem> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.with_context(|| format!("could not make {}", directory.display()))?;
    // An empty directory of a profile that is gone goes with it.
    let store = LocalFileSystem::new_with_prefix(directory)?;
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

fn bucket_store(
    url: &Url,
    variables: impl Iterator<Item = (String, String)>,
) -> anyhow::Result<impl ObjectStore> {
    let bucket = url.host_str().context("no bucket is named")?;
    ensure!(
        url.username().is_empty() && url.password().is_none() && url.query().is_none(),
        "the object store's URL is bucket and prefix alone; credentials belong into AWS_… variables"
    );
    let mut builder = AmazonS3Builder::new();
    let mut plain = false;
    for (name, value) in variables.filter(|(name, _)| name.starts_with("AWS_")) {
        plain |= name.starts_with("AWS_ENDPOINT_URL") && value.starts_with("http://");
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let options = ClientOptions::new()
        .with_timeout(REQUEST_LIMIT)
        .with_connect_timeout(CONNECT_LIMIT)
        // Whoever gives an endpoint without TLS has said so.
        .with_allow_http(plain);
    let retry =
        RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_LIMIT, ..RetryConfig::default() };
    let builder = builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry);
    builder.build().context("the object store's settings are not usable")
}

fn path(id: ProfileId, version: &str) -> Path {
    Path::from_iter([DIRECTORY, &id.to_string(), version])
}

fn file_path(id: FileId) -> Path {
    Path::from_iter([FILES, &id.to_string()])
}

fn name(object: &ObjectMeta) -> Option<Name> {
    let mut parts = object.location.parts().skip(1);
    let (id, version) = (parts.next()?, parts.next()?);
    Some((id.as_ref().parse().ok()?, version.as_ref().to_owned()))
}
