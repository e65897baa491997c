//! The Cargo workspace that a new service is in, and its list of members. It refuses to know what a
//! service is.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use glob::{MatchOptions, Pattern};
use toml_edit::{Array, DocumentMut, TableLike, Value};

use super::dependencies::text;
use crate::error::{Error, Result};

/// The workspace of a folder that does not exist yet.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Its Cargo.toml.
    pub(super) manifest: PathBuf,
    /// The manifest's text with the new member; nothing where a pattern takes it in already.
    edited: Option<String>,
    /// Whether its release profile says that panics unwind.
    unwinds: bool,
}

impl Workspace {
    /// The nearest workspace above `folder`, of those that do not exclude it: the one Cargo would
    /// find.
    ///
    /// # Errors
    /// Failed where a manifest cannot be read; bad usage where it is no TOML or lists its members
    /// otherwise than Cargo reads them.
    pub(super) fn around(folder: &Path) -> Result<Option<Self>> {
        for root in folder.ancestors().skip(1) {
            let manifest = root.join("Cargo.toml");
            let contents = match std::fs::read_to_string(&manifest) {
                Ok(contents) => contents,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(
                        Error::failed(format!("reading {}", manifest.display())).because(error)
                    );
                }
            };
            let member = text(folder.strip_prefix(root).unwrap_or(folder))?;
            if let Some(workspace) = read(manifest, &contents, member)? {
                return Ok(Some(workspace));
            }
        }
        Ok(None)
    }

    /// Adds the member to the manifest, whole or not at all.
    ///
    /// # Errors
    /// Failed where it cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        let Some(edited) = &self.edited else { return Ok(()) };
        let replace = || -> std::io::Result<()> {
            // What a link names is replaced, not the link.
            let manifest = self.manifest.canonicalize()?;
            let mut file = tempfile::NamedTempFile::new_in(manifest.parent().unwrap_or(&manifest))?;
            file.write_all(edited.as_bytes())?;
            file.as_file().set_permissions(manifest.metadata()?.permissions())?;
            file.persist(&manifest)?;
            Ok(())
        };
        replace().map_err(|error| {
            Error::failed(format!("writing {}", self.manifest.display())).because(error)
        })
    }

    /// Whether one of its packages has this name: two of a name are what Cargo refuses.
    ///
    /// # Errors
    /// Bad usage where Cargo cannot read the workspace.
    pub(super) fn has_package(&self, name: &str) -> Result<bool> {
        let metadata = MetadataCommand::new().manifest_path(&self.manifest).no_deps().exec();
        let metadata = metadata.map_err(|error| {
            Error::usage(format!("reading the workspace of {}", self.manifest.display()))
                .because(error)
        })?;
        Ok(metadata.packages.iter().any(|package| package.name.as_str() == name))
    }

    /// What is left to do by hand.
    pub(super) fn note(&self) -> Option<String> {
        let manifest = self.manifest.display();
        (!self.unwinds).then(|| {
            format!(
                "put `panic = \"unwind\"` into [profile.release] of {manifest}: \
                 cargo-lambda would have a handler's panic end the process"
            )
        })
    }
}

/// Reads a manifest; nothing where it has no workspace, or one that excludes the member.
fn read(manifest: PathBuf, contents: &str, member: String) -> Result<Option<Workspace>> {
    let wrong = |why: &str| {
        Error::usage(format!("reading the workspace of {}", manifest.display())).because(why)
    };
    let mut document: DocumentMut =
        contents.parse().map_err(|error: toml_edit::TomlError| wrong(&error.to_string()))?;
    let release = document.get("profile").and_then(|profile| profile.get("release"));
    let unwinds = release.and_then(|release| release.get("panic")?.as_str()) == Some("unwind");

    let Some(workspace) = document.get_mut("workspace") else { return Ok(None) };
    let workspace =
        workspace.as_table_like_mut().ok_or_else(|| wrong("`workspace` is no table"))?;
    let starts_with = |path: &String| Path::new(&member).starts_with(path.trim_start_matches("./"));
    let members = list(workspace, "members").map_err(wrong)?;
    if list(workspace, "exclude").map_err(wrong)?.iter().any(starts_with)
        && !members.iter().any(starts_with)
    {
        return Ok(None);
    }
    let is_member = members.iter().any(|pattern| matches(pattern, &member));
    if !is_member {
        let members = workspace.entry("members").or_insert_with(|| toml_edit::value(Array::new()));
        push(members.as_array_mut().ok_or_else(|| wrong("`members` is no array"))?, &member);
    }
    let edited = (!is_member).then(|| document.to_string());
    Ok(Some(Workspace { manifest, edited, unwinds }))
}

fn list(workspace: &dyn TableLike, key: &str) -> Result<Vec<String>, &'static str> {
    let Some(item) = workspace.get(key) else { return Ok(Vec::new()) };
    let array = item.as_array().ok_or("`members` and `exclude` are arrays")?;
    array
        .iter()
        .map(|value| value.as_str().map(str::to_owned).ok_or("members are strings"))
        .collect()
}

/// As Cargo matches members.
fn matches(pattern: &str, member: &str) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(member, options))
}

/// Adds a member as the last one stands: on a line of its own, or on the same.
fn push(members: &mut Array, member: &str) {
    let text = |raw: Option<&toml_edit::RawString>| {
        raw.and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
    };
    let (has_comma, trailing) = (members.trailing_comma(), text(Some(members.trailing())));
    let last = members.len().checked_sub(1).and_then(|last| members.get_mut(last));
    let Some(last) = last else { return members.push(member) };
    let decor = last.decor_mut();
    let before = text(decor.prefix());
    let own_line = before.rfind('\n').map_or(" ", |line| &before[line..]);
    // What follows the last one on its line, such as a comment, stays there.
    let after = if has_comma { trailing } else { text(decor.suffix()) };
    let (same_line, rest) = after.split_at(after.find('\n').unwrap_or(0));
    let mut added = Value::from(member);
    added.decor_mut().set_prefix(format!("{same_line}{own_line}"));
    if has_comma {
        members.set_trailing(rest);
    } else {
        decor.set_suffix("");
        added.decor_mut().set_suffix(rest);
    }
    members.push_formatted(added);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn workspace(contents: &str) -> Option<Workspace> {
        read("/work/Cargo.toml".into(), contents, "services/quakes".to_owned()).unwrap()
    }

    #[test]
    fn a_member_is_added_as_the_others_stand_and_nothing_else_changes() {
        for (before, after) in [
            ("[workspace]\n", "[workspace]\nmembers = [\"services/quakes\"]\n"),
            ("[workspace]\nmembers = []\n", "[workspace]\nmembers = [\"services/quakes\"]\n"),
            (
                "[workspace]\nmembers = [\"a\", \"b\"] # all\nresolver = \"3\"\n",
                "[workspace]\nmembers = [\"a\", \"b\", \"services/quakes\"] # all\nresolver = \"3\"\n",
            ),
            (
                "[workspace]\nmembers = [\n    \"a\",\n    # The second.\n    \"b\",\n]\n",
                "[workspace]\nmembers = [\n    \"a\",\n    # The second.\n    \"b\",\n    \"services/quakes\",\n]\n",
            ),
            (
                "[workspace]\nmembers = [\n  \"a\",\n  \"b\"\n]\n",
                "[workspace]\nmembers = [\n  \"a\",\n  \"b\",\n  \"services/quakes\"\n]\n",
            ),
            (
                "[workspace]\nmembers = [\n  \"a\",\n  \"b\", # the second\n  # no more\n]\n",
                "[workspace]\nmembers = [\n  \"a\",\n  \"b\", # the second\n  \"services/quakes\",\n  # no more\n]\n",
            ),
            (
                "[workspace]\nmembers = [\n  \"b\" # the second\n]\n",
                "[workspace]\nmembers = [\n  \"b\", # the second\n  \"services/quakes\"\n]\n",
            ),
        ] {
            assert_eq!(workspace(before).unwrap().edited.as_deref(), Some(after));
        }
    }

    #[test]
    fn a_pattern_that_takes_it_in_is_enough() {
        for members in ["services/*", "services/quakes", "./services/quakes/", "*/q*", "**"] {
            let workspace =
                workspace(&format!("[workspace]\nmembers = [\"{members}\"]\n")).unwrap();
            assert_eq!(workspace.edited, None, "{members}");
        }
        for members in ["*", "services", "services/quake", "services/*/*"] {
            let workspace =
                workspace(&format!("[workspace]\nmembers = [\"{members}\"]\n")).unwrap();
            assert!(workspace.edited.is_some(), "{members}");
        }
    }

    #[test]
    fn a_package_or_a_workspace_that_excludes_it_is_none_of_its() {
        assert!(workspace("[package]\nname = \"a\"\n").is_none());
        assert!(
            workspace("[workspace]\nmembers = [\"crates/*\"]\nexclude = [\"services\"]\n")
                .is_none()
        );
        assert!(
            workspace("[workspace]\nmembers = [\"services/quakes\"]\nexclude = [\"services\"]\n")
                .is_some()
        );
    }

    #[test]
    fn a_profile_that_unwinds_needs_no_note() {
        let noted = |contents| workspace(contents).unwrap().note().is_some();
        assert!(noted("[workspace]\n"));
        assert!(noted("[workspace]\n[profile.release]\npanic = \"abort\"\n"));
        assert!(!noted("[workspace]\n[profile.release]\npanic = \"unwind\"\n"));
    }

    #[test]
    fn a_manifest_that_cargo_would_not_read_is_bad_usage() {
        for contents in [
            "[workspace",
            "workspace = 1",
            "[workspace]\nmembers = \"a\"",
            "[workspace]\nmembers = [1]",
        ] {
            let error = read("/work/Cargo.toml".into(), contents, "quakes".to_owned()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{contents}");
        }
    }
}
