//! What can be done with a stack as it stands, and what a failed change leaves to do. It refuses to
//! ask CloudFormation.

use crate::error::{Error, Result};

/// What a stack's status allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none, or only the shell that a change set which was never executed left behind.
    Absent,
    /// It can be updated.
    Settled,
    /// It never came up, and can only be deleted.
    NeverCameUp,
    /// It is being changed.
    Busy,
    /// It is being deleted.
    Leaving,
}

/// What `status` allows; nothing where there is no such stack.
///
/// # Errors
/// Failed where someone has to mend the stack first; the error says how.
pub(super) fn standing(name: &str, status: Option<&str>, reason: Option<&str>) -> Result<Standing> {
    let Some(status) = status else { return Ok(Standing::Absent) };
    match status {
        "REVIEW_IN_PROGRESS" | "DELETE_COMPLETE" => return Ok(Standing::Absent),
        "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => return Ok(Standing::NeverCameUp),
        "DELETE_IN_PROGRESS" => return Ok(Standing::Leaving),
        _ if super::event::in_progress(status) => return Ok(Standing::Busy),
        "DELETE_FAILED" | "UPDATE_ROLLBACK_FAILED" | "IMPORT_ROLLBACK_FAILED" => {}
        // CREATE_FAILED and UPDATE_FAILED too: they are of stacks that keep what came up, for the
        // next update to go on with.
        _ => return Ok(Standing::Settled),
    }
    let error = Error::failed(format!("stack `{name}` cannot be changed ({status})"));
    let error = match reason {
        Some(reason) => error.because(reason.to_owned()),
        None => error,
    };
    Err(match next(name, status) {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// What to do about a stack whose change ended in `status`.
pub(super) fn next(name: &str, status: &str) -> Option<String> {
    Some(match status {
        "ROLLBACK_COMPLETE" => {
            "mend the template and try again: the stack holds nothing and is created anew".to_owned()
        }
        "ROLLBACK_FAILED" => {
            "its roll-back left resources behind: mend what keeps them, then try again: the stack is created anew"
                .to_owned()
        }
        "CREATE_FAILED" | "UPDATE_FAILED" => {
            "mend the template and try again: the update goes on with what came up".to_owned()
        }
        "UPDATE_ROLLBACK_COMPLETE" => "the stack is as it was before: mend the template and try again".to_owned(),
        "UPDATE_ROLLBACK_FAILED" => format!(
            "mend what keeps it from rolling back, then \
             `aws cloudformation continue-update-rollback --stack-name {name}`, and try again when it is done"
        ),
        "DELETE_FAILED" => format!(
            "mend what keeps its resources (a bucket must be empty), then delete it again: \
             `aws cloudformation delete-stack --stack-name {name}`, with `--retain-resources …` for those that may stay"
        ),
        "IMPORT_ROLLBACK_FAILED" => "an import failed and could not be undone: see the stack's events".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_standing() {
        for (status, expected) in [
            (None, Standing::Absent),
            (Some("REVIEW_IN_PROGRESS"), Standing::Absent),
            (Some("DELETE_COMPLETE"), Standing::Absent),
            (Some("ROLLBACK_COMPLETE"), Standing::NeverCameUp),
            (Some("ROLLBACK_FAILED"), Standing::NeverCameUp),
            (Some("CREATE_COMPLETE"), Standing::Settled),
            (Some("UPDATE_COMPLETE"), Standing::Settled),
            (Some("UPDATE_ROLLBACK_COMPLETE"), Standing::Settled),
            (Some("IMPORT_COMPLETE"), Standing::Settled),
            (Some("CREATE_FAILED"), Standing::Settled),
            (Some("UPDATE_FAILED"), Standing::Settled),
            (Some("CREATE_IN_PROGRESS"), Standing::Busy),
            (Some("ROLLBACK_IN_PROGRESS"), Standing::Busy),
            (Some("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), Standing::Busy),
            (Some("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"), Standing::Busy),
            (Some("DELETE_IN_PROGRESS"), Standing::Leaving),
        ] {
            assert_eq!(standing("quakes", status, None).unwrap(), expected, "{status:?}");
        }
    }

    #[test]
    fn a_stack_that_must_be_mended_says_how() {
        for (status, part) in [
            ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name quakes"),
            ("DELETE_FAILED", "delete-stack --stack-name quakes"),
            ("IMPORT_ROLLBACK_FAILED", "the stack's events"),
        ] {
            let error = standing("quakes", Some(status), Some("the role is gone")).unwrap_err();
            let report = error.report();
            assert!(
                report.starts_with(&format!("error: stack `quakes` cannot be changed ({status})")),
                "{report}"
            );
            assert!(
                report.contains("because: the role is gone") && report.contains(part),
                "{report}"
            );
            assert_eq!(error.exit_code(), 1);
        }
    }
}
