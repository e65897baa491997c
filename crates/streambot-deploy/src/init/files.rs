//! The files of a new service, as text. It refuses to know how they get to disk.

use std::path::Path;

use super::dependencies::{Dependencies, quoted, text};
use super::workspace::Workspace;
use crate::error::Result;

/// A file of the service.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the service's folder.
    pub(super) path: &'static str,
    pub(super) contents: String,
}

/// All files of the service `name` in `folder`; `next` are the commands its README tells.
///
/// # Errors
/// Bad usage where a path that stands in a file is no text.
pub(super) fn of(
    name: &str,
    folder: &Path,
    dependencies: &Dependencies,
    workspace: Option<&Workspace>,
    next: &[String; 3],
) -> Result<Vec<File>> {
    let file = |path, template: &str, values: &[(&str, &str)]| File { path, contents: filled(template, values) };
    let [local, stack, deploy] = next;
    let tool = match dependencies {
        Dependencies::Registry => "`cargo install --locked streambot-deploy` installs the tool.",
        Dependencies::Checkout(_) => "`cargo streambot` is `streambot-deploy` of a checkout, by `.cargo/config.toml`.",
    };
    let mut files = vec![
        File { path: "Cargo.toml", contents: manifest(name, folder, dependencies, workspace)? },
        file("src/main.rs", include_str!("templates/main.rs"), &[]),
        file("examples/template.rs", include_str!("templates/template.rs"), &[("name", name)]),
        file("records.ndjson", include_str!("templates/records.ndjson"), &[]),
        file(".gitignore", include_str!("templates/gitignore"), &[]),
        file(
            ".github/workflows/deploy.yml",
            include_str!("templates/deploy.yml"),
            &[
                ("name", name),
                ("folder", &quoted(workspace.map_or(".", |workspace| &workspace.member))),
                ("install", &dependencies.installation(folder)?),
            ],
        ),
        file(
            "README.md",
            include_str!("templates/README.md"),
            &[("name", name), ("local", local), ("stack", stack), ("deploy", deploy), ("tool", tool)],
        ),
    ];
    if let Dependencies::Checkout(checkout) = dependencies {
        let manifest = quoted(&text(&checkout.join("Cargo.toml"))?);
        files.push(file(".cargo/config.toml", include_str!("templates/cargo-config.toml"), &[("manifest", &manifest)]));
    }
    Ok(files)
}

/// Cargo reads profiles in a workspace's own manifest only, and a member has none.
fn manifest(name: &str, folder: &Path, dependencies: &Dependencies, workspace: Option<&Workspace>) -> Result<String> {
    let runtime = dependencies.requirement("streambot-runtime", folder)?;
    let infra = dependencies.requirement("streambot-infra", folder)?;
    let values = [("name", name), ("runtime", runtime.as_str()), ("infra", infra.as_str())];
    let manifest = filled(include_str!("templates/manifest.toml"), &values);
    let profile = if workspace.is_none() { include_str!("templates/profile.toml") } else { "" };
    Ok(manifest + profile)
}

fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}
