//! A zip whose bytes depend on its entries' names, modes and contents alone: sorted, with one fixed time. It refuses to know what the
//! entries are for.

use std::io::{Cursor, Write as _};
use std::path::{Component, Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::{Error, Result};

/// One file of the zip.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    mode: u32,
    contents: Vec<u8>,
}

impl Entry {
    /// A file anyone may read and run: 0755.
    pub(super) fn executable(name: impl Into<String>, contents: Vec<u8>) -> Self {
        Self { name: name.into(), mode: 0o755, contents }
    }

    /// A file anyone may read, 0644: in the sandbox the function's user is not the file's owner.
    pub(super) fn file(name: impl Into<String>, contents: Vec<u8>) -> Self {
        Self { name: name.into(), mode: 0o644, contents }
    }
}

/// Packs the entries.
pub(super) fn zip(mut entries: Vec<Entry>) -> Result<Vec<u8>> {
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(Error::usage(format!("the bundle would hold `{}` twice", pair[0].name)).hint(
            "`bootstrap` and `.env` are Streambot's own: take them out of `include`, and name every other file once",
        ));
    }
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for entry in &entries {
        write(&mut zip, entry).map_err(|error| Error::failed(format!("packing `{}`", entry.name)).because(error))?;
    }
    let packed = zip.finish().map_err(|error| Error::failed("packing the bundle").because(error))?;
    Ok(packed.into_inner())
}

fn write(zip: &mut ZipWriter<Cursor<Vec<u8>>>, entry: &Entry) -> zip::result::ZipResult<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(entry.mode);
    zip.start_file(entry.name.as_str(), options)?;
    zip.write_all(&entry.contents)?;
    Ok(())
}

/// Reads the files and folders that `include` names, each under its path in the package.
pub(super) fn included(package_root: &Path, include: &[PathBuf]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for path in include {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(outside(path, package_root));
        }
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        read(package_root, &path, &mut entries)?;
    }
    Ok(entries)
}

/// Reads one file, or every file of one folder, at `path` in the package.
fn read(package_root: &Path, path: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    let full = package_root.join(path);
    let failed = |error: std::io::Error| {
        Error::failed(format!("including `{}` of {}", path.display(), package_root.display()))
            .because(error)
            .hint("`include` names files and folders of the package that are there and can be read")
    };
    let real = full.canonicalize().map_err(failed)?;
    if !real.starts_with(package_root.canonicalize().map_err(failed)?) {
        return Err(outside(path, package_root));
    }
    if real.is_dir() {
        // Following it could lead round in a circle.
        if full.is_symlink() {
            return Err(Error::usage(format!("`{}` is a symbolic link to a folder", path.display()))
                .hint("include the folder itself"));
        }
        for child in full.read_dir().map_err(failed)? {
            read(package_root, &path.join(child.map_err(failed)?.file_name()), entries)?;
        }
        return Ok(());
    }
    let name = path.to_str().ok_or_else(|| {
        Error::usage(format!("the name of `{}` is not UTF-8", path.display())).hint("rename it, or do not include it")
    })?;
    let contents = std::fs::read(&full).map_err(failed)?;
    entries.push(if is_executable(&full).map_err(failed)? {
        Entry::executable(name, contents)
    } else {
        Entry::file(name, contents)
    });
    Ok(())
}

#[cfg(unix)]
fn is_executable(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(path.metadata()?.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_path: &Path) -> std::io::Result<bool> {
    Ok(false)
}

fn outside(path: &Path, package_root: &Path) -> Error {
    Error::usage(format!("`{}` is outside the package {}", path.display(), package_root.display()))
        .hint("`include` takes paths inside the package, relative to its folder")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn package() -> tempfile::TempDir {
        let package = tempfile::tempdir().unwrap();
        let root = package.path();
        std::fs::create_dir_all(root.join("models/deep")).unwrap();
        std::fs::write(root.join("models/b.bin"), "b").unwrap();
        std::fs::write(root.join("models/deep/a.sh"), "a").unwrap();
        std::fs::set_permissions(root.join("models/deep/a.sh"), std::fs::Permissions::from_mode(0o700)).unwrap();
        package
    }

    #[test]
    fn the_order_of_entries_does_not_change_the_bytes() {
        let entries = || vec![Entry::executable("bootstrap", b"1".to_vec()), Entry::file(".env", b"2".to_vec())];
        let mut reversed = entries();
        reversed.reverse();
        assert_eq!(zip(entries()).unwrap(), zip(reversed).unwrap());
    }

    #[test]
    fn entries_are_sorted_and_keep_modes_and_contents_but_no_time() {
        let package = package();
        let mut entries = included(package.path(), &["./models/".into()]).unwrap();
        entries.push(Entry::executable("bootstrap", b"code".to_vec()));
        let mut archive = zip::ZipArchive::new(Cursor::new(zip(entries).unwrap())).unwrap();
        let mut found = Vec::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            let mut contents = String::new();
            file.read_to_string(&mut contents).unwrap();
            assert_eq!(file.last_modified().unwrap().year(), 1980);
            found.push((file.name().unwrap().into_owned(), file.unix_mode().unwrap() & 0o7777, contents));
        }
        let expected = [("bootstrap", 0o755, "code"), ("models/b.bin", 0o644, "b"), ("models/deep/a.sh", 0o755, "a")];
        assert_eq!(found, expected.map(|(name, mode, text)| (name.to_owned(), mode, text.to_owned())));
    }

    #[test]
    fn a_missing_file_is_named() {
        let package = package();
        let error = included(package.path(), &["models/none".into()]).unwrap_err();
        assert!(error.to_string().contains("including `models/none`"), "{error}");
    }

    #[test]
    fn what_is_outside_the_package_is_refused_however_it_is_reached() {
        let package = package();
        symlink("/etc/hostname", package.path().join("link")).unwrap();
        for path in ["/etc/hostname", "../x", "models/../../x", "link"] {
            let error = included(package.path(), &[path.into()]).unwrap_err();
            assert!(error.to_string().contains("is outside the package"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn a_link_to_a_file_inside_is_followed_and_one_to_a_folder_is_refused() {
        let package = package();
        symlink("models/b.bin", package.path().join("link")).unwrap();
        let entries = included(package.path(), &["link".into()]).unwrap();
        assert_eq!(entries, [Entry::file("link", b"b".to_vec())]);

        symlink(".", package.path().join("models/circle")).unwrap();
        let error = included(package.path(), &["models".into()]).unwrap_err();
        assert!(error.to_string().contains("symbolic link to a folder"), "{error}");
    }

    #[test]
    fn a_second_bootstrap_is_refused() {
        let package = package();
        std::fs::write(package.path().join("bootstrap"), "x").unwrap();
        let mut entries = included(package.path(), &["bootstrap".into()]).unwrap();
        entries.push(Entry::executable("bootstrap", Vec::new()));
        let error = zip(entries).unwrap_err();
        assert_eq!(error.to_string(), "the bundle would hold `bootstrap` twice");
    }
}
