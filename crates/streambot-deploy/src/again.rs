//! Looking at something again and again, until Ctrl-C or until nobody reads what is seen. It
//! refuses to know what is looked at.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::progress;

/// Looks again and again, with a pause between, until a look breaks. Where a later look fails that
/// is told, and the next one may do better; where what was there is gone, it ends.
///
/// # Errors
/// That of the first look; missing from any.
pub(crate) async fn again(
    pause: Duration,
    look: impl AsyncFnMut() -> Result<ControlFlow<()>>,
) -> Result<()> {
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Error::failed("watching for Ctrl-C").because(error))
        }
        ended = looks(pause, look) => ended,
    }
}

async fn looks(
    pause: Duration,
    mut look: impl AsyncFnMut() -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut looked = look().await?;
    while looked.is_continue() {
        tokio::time::sleep(pause).await;
        looked = match look().await {
            Err(error) if !error.is_missing() => {
                progress::warn(format!("{}; looking again", error.in_one_line()));
                ControlFlow::Continue(())
            }
            looked => looked?,
        };
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Looks, with these results one after the other; the last one is to end it.
    async fn looked(results: Vec<Result<ControlFlow<()>>>) -> (Result<()>, usize) {
        let mut results = results.into_iter();
        let ended = looks(Duration::ZERO, async || results.next().unwrap()).await;
        (ended, results.len())
    }

    #[tokio::test]
    async fn it_goes_on_until_nobody_reads_and_over_failures_of_later_looks() {
        let failed = || Err(Error::failed("x"));
        let (ended, left) = looked(vec![
            Ok(ControlFlow::Continue(())),
            failed(),
            Ok(ControlFlow::Continue(())),
            Ok(ControlFlow::Break(())),
        ])
        .await;
        assert!(ended.is_ok() && left == 0);
        assert_eq!(looked(vec![failed()]).await.0.unwrap_err().exit_code(), 1);
    }

    #[tokio::test]
    async fn it_ends_where_what_was_there_is_gone() {
        let gone = Err(Error::missing("x"));
        assert_eq!(
            looked(vec![Ok(ControlFlow::Continue(())), gone]).await.0.unwrap_err().exit_code(),
            3
        );
    }
}
