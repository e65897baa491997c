//! An executable that is there already, for `local` to run. It refuses to know how it is run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The absolute path of an executable that is there already.
///
/// # Errors
/// Bad usage when it is not there or cannot be executed.
pub(crate) fn find(bootstrap: &Path) -> Result<PathBuf> {
    let finding = || Error::usage(format!("running the bootstrap {}", bootstrap.display()));
    let path = bootstrap.canonicalize().map_err(|error| finding().because(error))?;
    let metadata = path.metadata().map_err(|error| finding().because(error))?;
    if !metadata.is_file() {
        return Err(finding().because(std::io::Error::other("it is no file")));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(finding()
            .because(std::io::Error::other("it is not executable"))
            .hint(format!("chmod +x {}", bootstrap.display())));
    }
    Ok(path)
}
