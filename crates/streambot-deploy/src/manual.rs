//! The verb `man`: the help of a command as manual pages. It refuses to know which command.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::error::{Error, Result};
use crate::verb::write_out;

/// What `man --help` says at its end.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streambot-deploy man ~/.local/share/man/man1      Then: man streambot-deploy-local
  streambot-deploy man | man -l -                   Read the main page

Exit codes:
  0  done
  1  failed
  2  bad usage";

/// Where the manual goes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Folder to write to, made where there is none [default: none, the main page goes to standard
    /// output]
    folder: Option<PathBuf>,
}

/// Writes the pages of `command` and its verbs to a folder, and tells their names; without a
/// folder, prints the main page.
///
/// # Errors
/// Failed where a file or standard output cannot be written.
pub(crate) fn run(arguments: &Arguments, command: Command) -> Result<()> {
    // It has no page: each verb has one, and --help.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match &arguments.folder {
        None => write_out(&text(&page(&command))?),
        Some(folder) => write_out(&write(folder, &command)?),
    }
}

fn write(folder: &Path, command: &Command) -> Result<String> {
    std::fs::create_dir_all(folder).map_err(|error| {
        Error::failed(format!("making the folder {}", folder.display())).because(error)
    })?;
    let mut told = String::new();
    for command in std::iter::once(command).chain(command.get_subcommands()) {
        let page = page(command);
        let path = folder.join(page.get_filename());
        std::fs::write(&path, text(&page)?)
            .map_err(|error| Error::failed(format!("writing {}", path.display())).because(error))?;
        told += &format!("wrote: {}\n", path.display());
    }
    Ok(told)
}

fn page(command: &Command) -> Man {
    Man::new(command.clone()).source(concat!("streambot-deploy ", env!("CARGO_PKG_VERSION")))
}

fn text(page: &Man) -> Result<String> {
    let mut text = Vec::new();
    page.render(&mut text)
        .map_err(|error| Error::failed("writing a manual page").because(error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
