//! The files of a new service, as text. It refuses to know how they get to disk.

use super::Place;
use super::dependencies::{Dependencies, quoted, text};
use crate::error::Result;

/// A file of the service.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the service's folder.
    pub(super) path: &'static str,
    pub(super) contents: String,
}

/// All files of the service `name`; `next` are the commands its README tells.
///
/// # Errors
/// Bad usage where a path that stands in a file is no text.
pub(super) fn of(
    name: &str,
    place: &Place<'_>,
    dependencies: &Dependencies,
    next: &[String; 3],
) -> Result<Vec<File>> {
    let file = |path, template: &str, values: &[(&str, &str)]| File {
        path,
        contents: filled(template, values),
    };
    let [local, stack, deploy] = next;
    let tool = match dependencies {
        Dependencies::Registry => "`cargo install --locked streambot-deploy` installs the tool.",
        Dependencies::Checkout(_) => {
            "`cargo streambot` is `streambot-deploy` of a checkout, by `.cargo/config.toml`."
        }
    };
    let example = place.example(name);
    let in_repository =
        match text(place.folder.strip_prefix(place.repository).unwrap_or(place.folder))?.as_str() {
            "" => ".".to_owned(),
            path => path.to_owned(),
        };
    let ignored = match dependencies {
        Dependencies::Registry => "",
        Dependencies::Checkout(_) => "/.cargo/config.toml\n",
    };
    let mut files = vec![
        File { path: "Cargo.toml", contents: manifest(name, place, dependencies)? },
        file("src/main.rs", include_str!("templates/main.rs"), &[]),
        file(
            "examples/template.rs",
            include_str!("templates/template.rs"),
            &[("name", name), ("example", &example)],
        ),
        file("records.ndjson", include_str!("templates/records.ndjson"), &[]),
        File {
            path: ".gitignore",
            contents: include_str!("templates/gitignore").to_owned() + ignored,
        },
        file(
            ".github/workflows/deploy.yml",
            include_str!("templates/deploy.yml"),
            &[
                ("name", name),
                ("example", &example),
                ("folder", &quoted(&in_repository)),
                ("install", &dependencies.installation(place.folder)?),
            ],
        ),
        file(
            "README.md",
            include_str!("templates/README.md"),
            &[
                ("name", name),
                ("local", local),
                ("stack", stack),
                ("deploy", deploy),
                ("tool", tool),
            ],
        ),
    ];
    if let Dependencies::Checkout(checkout) = dependencies {
        let manifest = quoted(&text(&checkout.join("Cargo.toml"))?);
        files.push(file(
            ".cargo/config.toml",
            include_str!("templates/cargo-config.toml"),
            &[("manifest", &manifest)],
        ));
    }
    Ok(files)
}

/// Cargo reads profiles in a workspace's own manifest only, and a member has none; the members'
/// examples are built into one folder.
fn manifest(name: &str, place: &Place<'_>, dependencies: &Dependencies) -> Result<String> {
    let runtime = dependencies.requirement("streambot-runtime", place.folder)?;
    let infra = dependencies.requirement("streambot-infra", place.folder)?;
    let example = place.example(name);
    let values = [
        ("name", name),
        ("runtime", runtime.as_str()),
        ("infra", infra.as_str()),
        ("example", example.as_str()),
    ];
    let rest = match place.workspace {
        None => include_str!("templates/profile.toml"),
        Some(_) => include_str!("templates/example.toml"),
    };
    Ok(filled(&[include_str!("templates/manifest.toml"), rest].concat(), &values))
}

fn filled(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value))
}
