//! The folder a function process runs in: a fresh one that holds what the bundle would hold, by
//! links, and nothing else. A `.env` that lies about is not in it, so it is never read. It refuses
//! to know what runs there.

use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use tempfile::TempDir;

use crate::error::{Error, Result};

/// The folder; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct TaskRoot(TempDir);

impl TaskRoot {
    /// Makes the folder, with a link to each of `included`, files and folders of `package_root`.
    ///
    /// # Errors
    /// Bad usage when an entry is not there or lies outside the package; a failure when the folder
    /// cannot be made.
    pub(crate) fn new(package_root: &Path, included: &[PathBuf]) -> Result<TaskRoot> {
        let making = |error| Error::failed("making the function's task folder").because(error);
        let root = TempDir::with_prefix("streambot-local-").map_err(making)?;
        for entry in included {
            let relative = inside(entry).ok_or_else(|| {
                Error::usage(format!(
                    "`include` names {}, which is no path inside the package",
                    entry.display()
                ))
                .hint("name files and folders below the package's own folder, relative to it")
            })?;
            let target = package_root.join(&relative);
            if !target.exists() {
                return Err(Error::usage(format!(
                    "`include` names {}, which is not there",
                    target.display()
                ))
                .hint("create it, or take it out of `include`"));
            }
            let link = root.path().join(&relative);
            if link.exists() || relative.as_os_str() == ".env" {
                continue;
            }
            let parent = link.parent().unwrap_or(root.path());
            std::fs::create_dir_all(parent)
                .and_then(|()| symlink(&target, &link))
                .map_err(making)?;
        }
        Ok(TaskRoot(root))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The path without `./` and trailing slashes, if it stays below where it starts.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (inside != Path::new("")).then_some(inside)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn package() -> TempDir {
        let package = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(package.path().join("data/models")).unwrap();
        std::fs::write(package.path().join("data/models/one"), "1").unwrap();
        std::fs::write(package.path().join(".env"), "StackName=production").unwrap();
        package
    }

    #[test]
    fn it_holds_what_is_included_and_no_env() {
        let package = package();
        let root =
            TaskRoot::new(package.path(), &["./data/models/".into(), ".env".into()]).unwrap();
        assert_eq!(std::fs::read_to_string(root.path().join("data/models/one")).unwrap(), "1");
        assert!(!root.path().join(".env").exists());
        let path = root.path().to_owned();
        drop(root);
        assert!(!path.exists());
        assert!(package.path().join("data/models/one").exists(), "only the link went");
    }

    #[test]
    fn what_is_missing_or_outside_is_named() {
        let package = package();
        for (entry, expected) in [
            ("nothing", "is not there"),
            ("../data", "no path inside"),
            (".", "no path inside"),
            ("/etc", "no path inside"),
        ] {
            let error = TaskRoot::new(package.path(), &[entry.into()]).unwrap_err().report();
            assert!(error.contains(expected) && error.contains(entry), "{error}");
        }
    }
}
