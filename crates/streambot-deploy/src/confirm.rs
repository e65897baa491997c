//! The question before something is destroyed. It refuses to know what that is; whoever asks says
//! it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::error::{Error, Result};

/// Asks `question` on the terminal, unless `yes` was given as a flag. Only `y` and `yes` are a yes.
///
/// # Errors
/// Unconfirmed where the answer is no, or where there is nobody to ask.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::unconfirmed(format!("not confirmed: {question}"))
            .hint("say yes with --yes; nothing was changed"));
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::failed("reading the answer").because(error))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => {
            Err(Error::unconfirmed(format!("not confirmed: {question}"))
                .hint("nothing was changed"))
        }
    }
}
