//! A zip that someone built before, read as the entries it holds, and checked as what is built here
//! would be. It refuses to know what its `.env` is replaced by.

use std::io::{Cursor, Read as _};
use std::path::Path;

use zip::ZipArchive;
use zip::read::ZipFile;

use super::archive::{Entry, Kind, regular};
use super::{executable, size};
use crate::error::{Error, Result};
use crate::function::Architecture;

/// Reads the zip at `path`, whose `bootstrap` must run on `architecture`.
pub(super) fn read(path: &Path, architecture: Architecture) -> Result<Vec<Entry>> {
    let reading = || format!("reading the bundle {}", path.display());
    let found = path.metadata().map_err(|error| {
        Error::usage(reading())
            .because(error)
            .hint("--bundle names a zip that `streambot-deploy bundle` wrote")
    })?;
    regular(found.file_type())
        .map_err(|kind| Error::usage(format!("{} is {kind}, not a zip", path.display())))?;
    let bytes = std::fs::read(path).map_err(|error| Error::failed(reading()).because(error))?;
    let entries = entries(&bytes, &path.display().to_string(), size::UNZIPPED)?;
    check_bootstrap(&entries, path, architecture)?;
    Ok(entries)
}

/// The entries of a zip called `name`, whose sizes are checked before anything is unpacked.
fn entries(zip: &[u8], name: &str, limit: u64) -> Result<Vec<Entry>> {
    let failed = |error: zip::result::ZipError| {
        Error::failed(format!("reading the bundle {name}"))
            .because(error)
            .hint("build it again: it is no whole zip")
    };
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(failed)?;
    if archive.has_duplicate_names() {
        return Err(Error::failed(format!("the bundle {name} holds a file twice"))
            .hint("each name may be in it once"));
    }
    let mut sizes = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(failed)?;
        sizes.push((file.name().map_err(failed)?.into_owned(), file.size()));
    }
    size::unzipped(sizes.iter().map(|(file, bytes)| (file.as_str(), *bytes)), limit)?;
    (0..archive.len()).map(|index| entry(archive.by_index(index).map_err(failed)?, name)).collect()
}

fn entry(mut file: ZipFile<'_, Cursor<&[u8]>>, bundle: &str) -> Result<Entry> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>, name: &str| {
        Error::failed(format!("reading `{name}` of the bundle {bundle}"))
            .because(error)
            .hint("build it again: it is no whole zip")
    };
    let name = file.name().map_err(|error| failed(error.into(), "a name"))?.into_owned();
    if file.enclosed_name().is_none() || name.starts_with('/') {
        return Err(Error::failed(format!("`{name}` of the bundle {bundle} is outside of it"))
            .hint("a bundle holds paths below the function's folder"));
    }
    let kind = match () {
        () if file.is_dir() => Kind::Folder,
        () if file.is_symlink() => Kind::Link,
        () => Kind::File,
    };
    let permissions = match (file.unix_mode(), kind) {
        (Some(mode), _) => mode & 0o777,
        // Whoever wrote it said nothing.
        (None, Kind::File) => 0o644,
        (None, Kind::Folder | Kind::Link) => 0o755,
    };
    // No more than was said and checked: a zip could say little of much.
    let said = file.size();
    let mut contents = Vec::new();
    file.by_ref()
        .take(said)
        .read_to_end(&mut contents)
        .map_err(|error| failed(error.into(), &name))?;
    if file.read(&mut [0]).map_err(|error| failed(error.into(), &name))? != 0 {
        return Err(failed("it is larger than the zip says".into(), &name));
    }
    if kind == Kind::Link {
        std::str::from_utf8(&contents).map_err(|error| failed(error.into(), &name))?;
    }
    Ok(Entry::new(name, kind, permissions, contents))
}

/// Whether Lambda would find the executable and start it.
fn check_bootstrap(entries: &[Entry], path: &Path, architecture: Architecture) -> Result<()> {
    let path = path.display();
    let Some(bootstrap) = entries.iter().find(|entry| entry.name() == "bootstrap") else {
        return Err(Error::failed(format!("the bundle {path} has no `bootstrap`")).hint(
            "Lambda starts the executable of that name at the top of the zip; `streambot-deploy bundle` puts it there",
        ));
    };
    if !bootstrap.is_executable() {
        return Err(Error::failed(format!(
            "`bootstrap` of the bundle {path} is no executable file"
        ))
        .hint("`chmod +x bootstrap` before it is zipped, where files have modes"));
    }
    executable::check(
        &format!("`bootstrap` of the bundle {path}"),
        bootstrap.contents(),
        architecture,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::super::archive;
    use super::*;

    fn bootstrap() -> Vec<u8> {
        executable::least(Architecture::X86_64)
    }

    /// A folder with a zip of its own.
    fn written(zip: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.zip");
        std::fs::write(&path, zip).unwrap();
        (folder, path)
    }

    fn refused(zip: &[u8]) -> Error {
        let (_folder, path) = written(zip);
        read(&path, Architecture::X86_64).unwrap_err()
    }

    #[test]
    fn entries_come_back_with_their_kinds_modes_and_contents() {
        let entries = || {
            vec![
                Entry::executable("bootstrap", bootstrap()),
                Entry::new("empty/".into(), Kind::Folder, 0o700, Vec::new()),
                Entry::new("key".into(), Kind::File, 0o600, b"k".to_vec()),
                Entry::new("latest".into(), Kind::Link, 0o777, b"key".to_vec()),
            ]
        };
        let zip = archive::zip(entries()).unwrap();
        let (_folder, path) = written(&zip);
        let read = read(&path, Architecture::X86_64).unwrap();
        assert!(read == entries(), "kinds, modes or contents differ");
        assert!(archive::zip(read).unwrap() == zip, "packed again, it has other bytes");
    }

    #[test]
    fn a_file_written_where_there_are_no_modes_is_one_that_all_may_read() {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("data", SimpleFileOptions::default().system(zip::System::Dos)).unwrap();
        zip.write_all(b"d").unwrap();
        let zip = zip.finish().unwrap().into_inner();
        let expected = Entry::new("data".into(), Kind::File, 0o664, b"d".to_vec());
        assert_eq!(entries(&zip, "app.zip", 10).unwrap(), [expected]);
    }

    #[test]
    fn what_is_no_zip_is_refused() {
        let whole = archive::zip(vec![Entry::executable("bootstrap", bootstrap())]).unwrap();
        for bytes in [&b""[..], b"PK", b"#!/bin/sh\n", &whole[..whole.len() / 2]] {
            let told = refused(bytes).report();
            assert!(told.contains("reading the bundle /") && told.contains("app.zip"), "{told}");
        }
        let mut torn = whole;
        // The first bytes packed come after a header of 30 bytes and the name.
        torn[30 + "bootstrap".len() + 2] ^= 0xff;
        let told = refused(&torn).report();
        assert!(told.contains("reading `bootstrap` of the bundle"), "{told}");
    }

    #[test]
    fn a_zip_that_lambda_could_not_start_is_refused() {
        for (entry, why) in [
            (Entry::executable("bin/bootstrap", bootstrap()), "has no `bootstrap`"),
            (Entry::file("bootstrap", bootstrap()), "is no executable file"),
            (
                Entry::new("bootstrap".into(), Kind::Link, 0o777, b"app".to_vec()),
                "is no executable file",
            ),
            (
                Entry::executable("bootstrap", b"#!/bin/sh\n".to_vec()),
                "is no 64-bit Linux executable",
            ),
        ] {
            let told = refused(&archive::zip(vec![entry]).unwrap()).to_string();
            assert!(told.contains(why) && told.contains("app.zip"), "{told}");
        }
        let (_folder, path) =
            written(&archive::zip(vec![Entry::executable("bootstrap", bootstrap())]).unwrap());
        let told = read(&path, Architecture::Arm64).unwrap_err().to_string();
        assert!(told.contains("app.zip is not for arm64"), "{told}");
    }

    #[test]
    fn paths_that_lead_out_of_the_zip_are_refused() {
        for name in ["../x", "/etc/x", "a/../../x"] {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            let told = entries(&zip.finish().unwrap().into_inner(), "app.zip", 10)
                .unwrap_err()
                .to_string();
            assert!(told.contains("of the bundle app.zip is outside of it"), "{told}");
        }
    }

    #[test]
    fn a_file_that_is_in_the_zip_twice_is_told() {
        let mut zip = archive::zip(vec![
            Entry::executable("bootstrap", b"1".to_vec()),
            Entry::executable("bootstrip", b"2".to_vec()),
        ])
        .unwrap();
        // No writer of this crate does it; others do.
        while let Some(at) = zip.windows(9).position(|name| name == b"bootstrip") {
            zip[at..at + 9].copy_from_slice(b"bootstrap");
        }
        assert_eq!(refused(&zip).to_string().rsplit_once(" holds ").unwrap().1, "a file twice");
    }

    #[test]
    fn files_too_large_together_are_refused_before_they_are_unpacked() {
        let zip = archive::zip(vec![Entry::file("zeros", vec![0; 1_000_000])]).unwrap();
        assert!(zip.len() < 10_000);
        let told = entries(&zip, "app.zip", 1_000_000).unwrap_err().to_string();
        assert!(told.contains("977 kB  zeros"), "{told}");
        assert!(entries(&zip, "app.zip", 1_000_001).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path(), Architecture::X86_64).unwrap_err();
        assert!(error.to_string().contains("is a folder, not a zip"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = read(&folder.path().join("none.zip"), Architecture::X86_64).unwrap_err();
        assert!(error.to_string().ends_with("none.zip"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
