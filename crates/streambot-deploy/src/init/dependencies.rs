//! Where a new service's dependencies on Streambot come from: the registry, or a checkout. It
//! refuses to know what depends on them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where Streambot's crates are taken from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dependencies {
    /// The registry, in this executable's version.
    Registry,
    /// This checkout of Streambot.
    Checkout(PathBuf),
}

impl Dependencies {
    /// Those that were asked for: nothing, a checkout around `here`, or one named.
    ///
    /// # Errors
    /// Bad usage where there is no checkout.
    pub(super) fn find(asked: Option<Option<&Path>>, here: &Path) -> Result<Self> {
        let checkout = match asked {
            None => return Ok(Self::Registry),
            Some(None) => {
                here.ancestors().find(|folder| is_checkout(folder)).map(Path::to_path_buf)
            }
            Some(Some(path)) => path.canonicalize().ok().filter(|folder| is_checkout(folder)),
        };
        checkout.map(Self::Checkout).ok_or_else(|| {
            let place = asked.flatten().unwrap_or(here).display();
            let message = match asked.flatten() {
                Some(_) => format!("{place} is no checkout of Streambot"),
                None => format!("{place} is in no checkout of Streambot"),
            };
            Error::usage(message)
                .hint("give the folder that has Streambot's crates/: --path-dependencies=PATH")
        })
    }

    /// What stands in the Cargo.toml of `folder` for one of Streambot's crates.
    ///
    /// # Errors
    /// Bad usage where the path is no text.
    pub(super) fn requirement(&self, name: &str, folder: &Path) -> Result<String> {
        match self.path(name, folder)? {
            None => Ok(format!(
                "\"{}.{}\"",
                env!("CARGO_PKG_VERSION_MAJOR"),
                env!("CARGO_PKG_VERSION_MINOR")
            )),
            Some(path) => Ok(format!("{{ path = {} }}", quoted(&path))),
        }
    }

    /// How `streambot-deploy` is installed from `folder`.
    ///
    /// # Errors
    /// Bad usage where the path is no text.
    pub(super) fn installation(&self, folder: &Path) -> Result<String> {
        Ok(match self.path("streambot-deploy", folder)? {
            None => "cargo install --locked streambot-deploy".to_owned(),
            Some(path) => {
                let path = shlex::try_quote(&path).map_err(|error| {
                    Error::usage(format!("{path} cannot stand in a shell's command")).because(error)
                })?;
                format!("cargo install --locked --path {path}")
            }
        })
    }

    /// What `streambot-deploy` is called as in the service's folder.
    pub(super) const fn tool(&self) -> &'static str {
        match self {
            Self::Registry => "streambot-deploy",
            Self::Checkout(_) => "cargo streambot",
        }
    }

    fn path(&self, name: &str, folder: &Path) -> Result<Option<String>> {
        match self {
            Self::Registry => Ok(None),
            Self::Checkout(checkout) => {
                text(&relative(folder, &checkout.join("crates").join(name))).map(Some)
            }
        }
    }
}

/// A text as TOML and YAML quote it.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A path as text.
///
/// # Errors
/// Bad usage where it is none.
pub(super) fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!("{} is not UTF-8, which Cargo.toml needs", path.display()))
    })
}

fn is_checkout(folder: &Path) -> bool {
    ["streambot-runtime", "streambot-infra", "streambot-deploy"]
        .iter()
        .all(|name| folder.join("crates").join(name).join("Cargo.toml").is_file())
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common =
        from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(common).map(|_| Path::new(".."));
    up.chain(to.components().skip(common).map(|component| Path::new(component.as_os_str())))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_the_registry_have_this_version() {
        let dependencies = Dependencies::find(None, Path::new("/")).unwrap();
        assert_eq!(
            dependencies.requirement("streambot-runtime", Path::new("/quakes")).unwrap(),
            "\"0.1\""
        );
    }

    #[test]
    fn crates_of_a_checkout_are_named_by_the_way_to_them() {
        let checkout = Dependencies::Checkout("/src/streambot".into());
        for (folder, path) in [
            ("/src/quakes", "../streambot/crates/streambot-infra"),
            ("/src/streambot/services/quakes", "../../crates/streambot-infra"),
            ("/home/me/quakes", "../../../src/streambot/crates/streambot-infra"),
        ] {
            let requirement = checkout.requirement("streambot-infra", Path::new(folder)).unwrap();
            assert_eq!(requirement, format!("{{ path = \"{path}\" }}"));
        }
    }

    #[test]
    fn a_checkout_is_found_around_a_folder_of_it_and_nowhere_else() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let inside = checkout.join("example/src");
        assert_eq!(
            Dependencies::find(Some(None), &inside).unwrap(),
            Dependencies::Checkout(checkout.clone())
        );
        assert_eq!(
            Dependencies::find(Some(Some(&checkout)), Path::new("/")).unwrap(),
            Dependencies::Checkout(checkout)
        );
        for asked in [None, Some(Path::new("/nowhere")), Some(inside.as_path())] {
            assert_eq!(Dependencies::find(Some(asked), Path::new("/")).unwrap_err().exit_code(), 2);
        }
    }
}
