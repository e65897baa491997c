//! The verb `completions`: what makes a shell complete a command line. It refuses to know which
//! command.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::Result;
use crate::verb::write_out;

/// What `completions --help` says at its end.
pub(crate) const AFTER_HELP: &str = "\
Examples:
  streambot-deploy completions bash > ~/.local/share/bash-completion/completions/streambot-deploy
  streambot-deploy completions zsh > ~/.zfunc/_streambot-deploy      (with ~/.zfunc in $fpath)
  streambot-deploy completions fish > ~/.config/fish/completions/streambot-deploy.fish
  streambot-deploy completions powershell | Out-String | Invoke-Expression      (in $PROFILE)

Exit codes:
  0  done
  1  failed
  2  bad usage";

/// What completions are for.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the completions of `command`.
///
/// # Errors
/// Failed where standard output cannot be written.
pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    write_out(&String::from_utf8_lossy(&script))
}
