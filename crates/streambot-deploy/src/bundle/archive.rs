//! A zip whose bytes depend on its entries' names, modes and contents alone: sorted, with one fixed
//! time. It refuses to know what the entries are for.

use std::fs::FileType;
use std::io::{Cursor, Write as _};
use std::path::{Component, Path, PathBuf};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::size;
use crate::error::{Error, Result};

/// What an entry of a zip is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A folder of its own: its files' names make it anyway. Its name ends in `/`.
    Folder,
    /// A symbolic link, whose contents are where it leads.
    Link,
}

/// One file of the zip.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    name: String,
    kind: Kind,
    permissions: u32,
    contents: Vec<u8>,
}

impl Entry {
    pub(super) fn new(name: String, kind: Kind, permissions: u32, contents: Vec<u8>) -> Self {
        Self { name, kind, permissions, contents }
    }

    /// A file anyone may read and run: 0755.
    pub(super) fn executable(name: impl Into<String>, contents: Vec<u8>) -> Self {
        Self::new(name.into(), Kind::File, 0o755, contents)
    }

    /// A file anyone may read, 0644: in the sandbox the function's user is not the file's owner.
    pub(super) fn file(name: impl Into<String>, contents: Vec<u8>) -> Self {
        Self::new(name.into(), Kind::File, 0o644, contents)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn contents(&self) -> &[u8] {
        &self.contents
    }

    /// Whether it is a file that the function's user, who does not own it, may run.
    pub(super) fn is_executable(&self) -> bool {
        self.kind == Kind::File && self.permissions & 0o001 != 0
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
        write(&mut zip, entry)
            .map_err(|error| Error::failed(format!("packing `{}`", entry.name)).because(error))?;
    }
    let packed =
        zip.finish().map_err(|error| Error::failed("packing the bundle").because(error))?;
    Ok(packed.into_inner())
}

fn write(zip: &mut ZipWriter<Cursor<Vec<u8>>>, entry: &Entry) -> zip::result::ZipResult<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(entry.permissions);
    match entry.kind {
        Kind::File => {
            zip.start_file(entry.name.as_str(), options)?;
            zip.write_all(&entry.contents)?;
            Ok(())
        }
        Kind::Folder => zip.add_directory(entry.name.as_str(), options),
        Kind::Link => {
            zip.add_symlink(entry.name.as_str(), String::from_utf8_lossy(&entry.contents), options)
        }
    }
}

/// A file of the package that is to be included.
struct Found {
    /// Its path in the package.
    path: PathBuf,
    name: String,
    bytes: u64,
}

/// Reads the files and folders that `include` names, each under its path in the package. Nothing is
/// read where they are too large for Lambda together.
pub(super) fn included(package_root: &Path, include: &[PathBuf]) -> Result<Vec<Entry>> {
    let found = find_all(package_root, include)?;
    size::unzipped(found.iter().map(|file| (file.name.as_str(), file.bytes)), size::UNZIPPED)?;
    found.into_iter().map(|file| read(package_root, file)).collect()
}

fn find_all(package_root: &Path, include: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in include {
        let inside =
            path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(outside(path, package_root));
        }
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        find(package_root, path, &mut found)?;
    }
    Ok(found)
}

/// Finds one file, or every file of one folder, at `path` in the package.
fn find(package_root: &Path, path: PathBuf, found: &mut Vec<Found>) -> Result<()> {
    let full = package_root.join(&path);
    let failed = |error| not_included(package_root, &path, error);
    let real = full.canonicalize().map_err(|error| match std::fs::read_link(&full) {
        Ok(target) => failed(error)
            .hint(format!("it is a symbolic link to `{}`: mend or remove it", target.display())),
        Err(_) => failed(error),
    })?;
    if !real.starts_with(package_root.canonicalize().map_err(failed)?) {
        return Err(outside(&path, package_root));
    }
    if real.is_dir() {
        // Following it could lead round in a circle.
        if full.is_symlink() {
            return Err(Error::usage(format!(
                "`{}` is a symbolic link to a folder",
                path.display()
            ))
            .hint("include the folder itself"));
        }
        for child in full.read_dir().map_err(failed)? {
            find(package_root, path.join(child.map_err(failed)?.file_name()), found)?;
        }
        return Ok(());
    }
    let name = path.to_str().ok_or_else(|| {
        Error::usage(format!("the name of `{}` is not UTF-8", path.display()))
            .hint("rename it, or do not include it")
    })?;
    let name = name.to_owned();
    let metadata = real.metadata().map_err(failed)?;
    // Reading a pipe would wait for someone to write to it.
    regular(metadata.file_type()).map_err(|kind| {
        Error::usage(format!("`{}` is {kind}, which no bundle can hold", path.display()))
            .hint("do not include it")
    })?;
    found.push(Found { path, name, bytes: metadata.len() });
    Ok(())
}

fn read(package_root: &Path, file: Found) -> Result<Entry> {
    let full = package_root.join(&file.path);
    let failed = |error| not_included(package_root, &file.path, error);
    let contents = std::fs::read(&full).map_err(failed)?;
    Ok(if is_executable(&full).map_err(failed)? {
        Entry::executable(file.name, contents)
    } else {
        Entry::file(file.name, contents)
    })
}

fn not_included(package_root: &Path, path: &Path, error: std::io::Error) -> Error {
    Error::failed(format!("including `{}` of {}", path.display(), package_root.display()))
        .because(error)
        .hint("`include` names files and folders of the package that are there and can be read")
}

/// Whether something is a file that can be read to its end; what it is where it is not.
pub(super) fn regular(kind: FileType) -> Result<(), &'static str> {
    match kind {
        _ if kind.is_file() => Ok(()),
        _ if kind.is_dir() => Err("a folder"),
        _ => Err(special(kind)),
    }
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    match kind {
        _ if kind.is_fifo() => "a named pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn special(_kind: FileType) -> &'static str {
    "no file"
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
        std::fs::set_permissions(
            root.join("models/deep/a.sh"),
            std::fs::Permissions::from_mode(0o700),
        )
        .unwrap();
        package
    }

    #[test]
    fn the_order_of_entries_does_not_change_the_bytes() {
        let entries = || {
            vec![Entry::executable("bootstrap", b"1".to_vec()), Entry::file(".env", b"2".to_vec())]
        };
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
            found.push((
                file.name().unwrap().into_owned(),
                file.unix_mode().unwrap() & 0o7777,
                contents,
            ));
        }
        let expected = [
            ("bootstrap", 0o755, "code"),
            ("models/b.bin", 0o644, "b"),
            ("models/deep/a.sh", 0o755, "a"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, mode, text)| (name.to_owned(), mode, text.to_owned()))
        );
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
    fn files_too_large_together_are_refused_before_they_are_read() {
        let package = package();
        // A file with a hole has its length and takes no room.
        let hole = std::fs::File::create(package.path().join("models/hole")).unwrap();
        hole.set_len(1 << 40).unwrap();
        let told = included(package.path(), &["models".into()]).unwrap_err().to_string();
        assert!(told.contains("1048576.0 MB  models/hole\n     1 byte  models/b.bin"), "{told}");
    }

    #[test]
    fn a_link_that_leads_nowhere_or_round_in_a_circle_is_told_with_where_it_leads() {
        let package = package();
        let root = package.path();
        symlink("nowhere", root.join("models/dangling")).unwrap();
        let told = included(root, &["models".into()]).unwrap_err().report();
        assert!(told.contains("including `models/dangling`"), "{told}");
        assert!(told.contains("next: it is a symbolic link to `nowhere`"), "{told}");

        symlink("two", root.join("one")).unwrap();
        symlink("one", root.join("two")).unwrap();
        let told = included(root, &["one".into()]).unwrap_err().report();
        assert!(
            told.contains("including `one`") && told.contains("a symbolic link to `two`"),
            "{told}"
        );
    }

    #[test]
    fn a_link_to_a_folder_outside_is_refused_as_outside() {
        let package = package();
        symlink("/etc", package.path().join("models/etc")).unwrap();
        let error = included(package.path(), &["models".into()]).unwrap_err();
        assert!(error.to_string().starts_with("`models/etc` is outside the package"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_kind_and_not_waited_for() {
        let package = package();
        let root = package.path();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let made =
            std::process::Command::new("mkfifo").arg(root.join("models/pipe")).status().unwrap();
        assert!(made.success());
        for (path, told) in [
            ("models", "`models/pipe` is a named pipe, which no bundle can hold"),
            ("socket", "`socket` is a socket, which no bundle can hold"),
        ] {
            let error = included(root, &[path.into()]).unwrap_err();
            assert_eq!(error.to_string(), told);
            assert_eq!(error.exit_code(), 2);
        }
        assert_eq!(
            regular(Path::new("/dev/null").metadata().unwrap().file_type()),
            Err("a device")
        );
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
