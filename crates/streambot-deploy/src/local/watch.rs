//! `--watch`: builds the service again when its sources change, and has new processes run what was
//! built. What is in flight is finished by the old ones, and the shards go on from their
//! checkpoints. It refuses to know what is in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::console::Console;
use super::sandbox::Sandboxes;
use crate::bundle::build;
use crate::error::{Error, Result};
use crate::service::Service;

/// Between two looks at the files. A change counts once a further look sees no other: files are not
/// written in an instant.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What a function is made of.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A package that Cargo builds with this profile.
    Service(Box<Service>, String),
    /// An executable that something else builds.
    Bootstrap,
}

/// When each file was last written, and its length; `None` where there is none.
type State = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

impl Origin {
    /// Watches what `executable` is made of, for as long as the run goes on.
    pub(crate) async fn watch(
        self,
        executable: PathBuf,
        sandboxes: Arc<Sandboxes>,
        console: Arc<Console>,
    ) {
        let mut running = state_of(BTreeSet::from([executable.clone()]));
        let mut seen = state_of(self.files(&executable));
        loop {
            sleep(LOOK_INTERVAL).await;
            let files = || seen.keys().cloned().collect();
            let mut now = state_of(files());
            if now == seen {
                continue;
            }
            loop {
                sleep(LOOK_INTERVAL).await;
                let later = state_of(files());
                if later == now {
                    break;
                }
                now = later;
            }
            let built = self.clone().rebuild(executable.clone(), &console).await;
            seen = now;
            match built {
                Err(error) => {
                    console.note(&format!(
                        "{}\nthe function stays as it was until the next change",
                        error.report()
                    ));
                }
                Ok(()) => {
                    // A source that was not there before may have come in, and a build takes time
                    // to change others in.
                    for file in self.files(&executable) {
                        seen.entry(file.clone()).or_insert_with(|| last_written(&file));
                    }
                    let built = state_of(BTreeSet::from([executable.clone()]));
                    if built != running {
                        running = built;
                        console
                            .note("the function has changed: what is in flight is finished, then new processes run it");
                        sandboxes.replace(&executable).await;
                    }
                }
            }
        }
    }

    /// Builds the executable again, in a thread that nobody has to wait for when the run ends.
    async fn rebuild(self, executable: PathBuf, console: &Console) -> Result<()> {
        let Origin::Service(service, profile) = self else {
            return super::executable::find(&executable).map(drop);
        };
        console.note("a source has changed: building the function again");
        let (send, built) = oneshot::channel();
        let building = || Error::failed("building the function again");
        thread::Builder::new()
            .name("build".to_owned())
            // The run may have ended meanwhile.
            .spawn(move || drop(send.send(build::for_host(&service, &profile))))
            .map_err(|error| building().because(error))?;
        built.await.map_err(|error| building().because(error))?.map(drop)
    }

    /// The files whose change matters: the sources Cargo noted for the executable, those of path
    /// dependencies among them, and the manifests of their packages.
    fn files(&self, executable: &Path) -> BTreeSet<PathBuf> {
        let Origin::Service(service, _) = self else {
            return BTreeSet::from([executable.to_owned()]);
        };
        let noted = std::fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
        let mut files = sources(&noted);
        let manifests: Vec<PathBuf> =
            files.iter().filter_map(|source| manifest_above(source)).collect();
        files.extend(manifests);
        for folder in service.package_root.ancestors() {
            files.extend(
                ["Cargo.toml", "Cargo.lock"]
                    .map(|name| folder.join(name))
                    .into_iter()
                    .filter(|file| file.is_file()),
            );
        }
        files
    }
}

/// The sources in Cargo's dep-info, which is a rule of Make: a target, a colon, and paths whose
/// spaces are escaped.
fn sources(dep_info: &str) -> BTreeSet<PathBuf> {
    const SPACE: &str = "\0";
    let rule = dep_info.lines().next().unwrap_or_default().replace("\\ ", SPACE);
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    sources.split_whitespace().map(|source| PathBuf::from(source.replace(SPACE, " "))).collect()
}

fn manifest_above(source: &Path) -> Option<PathBuf> {
    source
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("Cargo.toml"))
        .find(|manifest| manifest.is_file())
}

fn state_of(files: BTreeSet<PathBuf>) -> State {
    files
        .into_iter()
        .map(|file| {
            let written = last_written(&file);
            (file, written)
        })
        .collect()
}

fn last_written(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_read_from_cargos_dep_info() {
        let dep_info = "/t/debug/quakes: /a/src/main.rs /a/my\\ models/one.rs /dependency/src/lib.rs\n\n/a/src/main.rs:\n";
        let expected =
            ["/a/my models/one.rs", "/a/src/main.rs", "/dependency/src/lib.rs"].map(PathBuf::from);
        assert_eq!(sources(dep_info), BTreeSet::from(expected));
        assert_eq!(sources(""), BTreeSet::new());
    }
}
