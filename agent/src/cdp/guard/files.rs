//! Which files a page may be given, and where it puts what it downloads.
//!
//! Clients name files of their own disk, which is not the browser's. Of a path only the file's
//! name counts, so `report.pdf`, `uploads/report.pdf` and `/home/me/report.pdf` are all the
//! upload of that name: libraries make every path absolute before they send it. What was
//! downloaded is named `downloads/report.pdf`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The directories of one browser that clients have a part in.
#[derive(Debug)]
pub(super) struct Files {
    uploads: PathBuf,
    downloads: PathBuf,
}

impl Files {
    /// Those in a browser's own directory.
    pub fn new(directory: &Path) -> Self {
        Self { uploads: directory.join("uploads"), downloads: directory.join("downloads") }
    }

    /// Where downloads go.
    pub fn downloads(&self) -> &Path {
        &self.downloads
    }

    /// Puts the browser's paths in place of the client's. `false`: one is no file of the
    /// session's.
    pub fn place(&self, files: &mut Value) -> bool {
        let Some(files) = files.as_array_mut() else { return false };
        files.iter_mut().all(|file| {
            let found = file.as_str().and_then(|path| self.find(path));
            found.is_some_and(|path| {
                *file = path.into();
                true
            })
        })
    }

    /// The file that a client means.
    fn find(&self, path: &str) -> Option<String> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") || name.contains(['\0', '\\']) {
            return None;
        }
        let parent = parent.rsplit('/').next().unwrap_or_default();
        let directory = if parent == "downloads" { &self.downloads } else { &self.uploads };
        let file = directory.join(name);
        // A link could lead anywhere; only the browser itself could have put one there.
        fs::symlink_metadata(&file).is_ok_and(|about| about.is_file()).then_some(())?;
        file.into_os_string().into_string().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_known_by_its_name_and_must_be_the_sessions() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path).to_str().unwrap().to_owned();
        for folder in ["uploads", "downloads", "profile", "uploads/folder"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["uploads/report.pdf", "downloads/got.zip", "profile/Cookies"] {
            fs::write(at(file), "").unwrap();
        }
        symlink("/etc/passwd", at("uploads/link")).unwrap();
        let files = Files::new(directory.path());
        for (named, file) in [
            ("report.pdf", Some("uploads/report.pdf")),
            ("uploads/report.pdf", Some("uploads/report.pdf")),
            ("/home/me/report.pdf", Some("uploads/report.pdf")),
            (&at("uploads/report.pdf"), Some("uploads/report.pdf")),
            ("downloads/got.zip", Some("downloads/got.zip")),
            (&at("downloads/got.zip"), Some("downloads/got.zip")),
            ("got.zip", None),
            ("/etc/passwd", None),
            ("uploads/link", None),
            ("uploads/folder", None),
            ("uploads/", None),
            ("uploads/..", None),
            ("..", None),
            ("", None),
            ("uploads/../profile/Cookies", None),
            (&at("profile/Cookies"), None),
            ("uploads/report.pdf\0", None),
            ("uploads\\report.pdf", None),
        ] {
            assert_eq!(files.find(named), file.map(at), "{named:?}");
        }
        let mut several = json!(["report.pdf", "downloads/got.zip"]);
        assert!(files.place(&mut several));
        assert_eq!(several, json!([at("uploads/report.pdf"), at("downloads/got.zip")]));
        assert!(files.place(&mut json!([])));
        for refused in [json!(["report.pdf", "/etc/passwd"]), json!([5]), json!("report.pdf")] {
            assert!(!files.place(&mut refused.clone()), "{refused}");
        }
    }
}
