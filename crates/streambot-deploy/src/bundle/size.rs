//! How large a bundle may be for Lambda, and how its size is told. It refuses to know what is in it
//! and how it is sent.
//!
//! The limits are those of
//! <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>, to the byte as
//! Lambda's own errors tell them: "Zipped size must be smaller than 52428800 bytes", "Unzipped size
//! must be smaller than 262144000 bytes". The zip is measured before base64 makes it a third
//! longer: the request's own limit, 70,167,211 bytes, is that of such a zip in base64 and 256 kB
//! for the rest.

use std::fmt::Write as _;

use crate::error::{Error, Result};

const KB: u64 = 1024;
const MB: u64 = 1024 * KB;

/// Bytes a zip must be smaller than to be sent in the request itself.
pub(super) const DIRECT: u64 = 50 * MB;

/// Bytes that all files of a bundle, and of the function's layers, must be smaller than.
pub(super) const UNZIPPED: u64 = 250 * MB;

/// How many files are named when they are too large together.
const NAMED: usize = 10;

/// Bytes as AWS counts them: a kB is 1024 bytes, a MB is 1024 kB.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..KB => format!("{bytes} bytes"),
        // What would be rounded to 1024 kB is a MB.
        KB..1_048_064 => format!("{} kB", (bytes + KB / 2) / KB),
        _ => {
            let tenths = (u128::from(bytes) * 10 + u128::from(MB / 2)) / u128::from(MB);
            format!("{}.{} MB", tenths / 10, tenths % 10)
        }
    }
}

/// A size of `now` bytes, and how it differs from the `before` of `last`: "4.4 MB, +12 kB since the
/// last deploy".
pub(crate) fn size_change(before: u64, now: u64, last: &str) -> String {
    let (sign, change) = if now >= before { ('+', now - before) } else { ('-', before - now) };
    match change {
        0 => format!("{}, as at {last}", size(now)),
        _ => format!("{}, {sign}{} since {last}", size(now), size(change)),
    }
}

/// Adds up the sizes of a bundle's files.
///
/// # Errors
/// Failed, naming the largest, where they are not smaller than `limit` together.
pub(super) fn unzipped<'a>(
    files: impl IntoIterator<Item = (&'a str, u64)>,
    limit: u64,
) -> Result<u64> {
    let mut files: Vec<_> = files.into_iter().collect();
    let total = files.iter().fold(0u64, |total, (_, bytes)| total.saturating_add(*bytes));
    if total < limit {
        return Ok(total);
    }
    files.sort_by(|(one, bytes), (other, others)| others.cmp(bytes).then(one.cmp(other)));
    let mut message = format!(
        "the bundle has {} ({total} bytes) unzipped, and Lambda takes less than {} ({limit} bytes), layers included; \
         its largest files:",
        size(total),
        size(limit)
    );
    for (name, bytes) in files.iter().take(NAMED) {
        let _ = write!(message, "\n  {:>9}  {name}", size(*bytes));
    }
    Err(Error::failed(message)
        .hint("include less; the function can read what is large from S3 when it starts"))
}

/// Whether a zip of so many bytes is sent in the request itself, or through the bucket that is
/// given then.
///
/// # Errors
/// Usage where it is not smaller than `limit`, and no bucket is given.
pub(super) fn way(bytes: u64, limit: u64, bucket: Option<&str>) -> Result<Option<&str>> {
    match bucket {
        _ if bytes < limit => Ok(None),
        Some(bucket) => Ok(Some(bucket)),
        None => Err(Error::usage(format!(
            "the bundle has {} ({bytes} bytes) zipped, and Lambda takes less than {} ({limit} bytes) in a request",
            size(bytes),
            size(limit)
        ))
        .hint("name an S3 bucket of the function's region with --bucket, and it goes through there; or include less")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_as_aws_does() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1023, "1023 bytes"),
            (1024, "1 kB"),
            (12 * KB + 511, "12 kB"),
            (12 * KB + 512, "13 kB"),
            (MB - 513, "1023 kB"),
            (MB - 512, "1.0 MB"),
            (4_613_734, "4.4 MB"),
            (DIRECT, "50.0 MB"),
            (UNZIPPED, "250.0 MB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(size(u64::MAX), "17592186044416.0 MB");
    }

    #[test]
    fn a_change_is_told_with_its_sign() {
        let now = 4_613_734;
        assert_eq!(
            size_change(now - 12 * KB, now, "the last deploy"),
            "4.4 MB, +12 kB since the last deploy"
        );
        assert_eq!(
            size_change(now + 3 * MB, now, "the last deploy"),
            "4.4 MB, -3.0 MB since the last deploy"
        );
        assert_eq!(size_change(now, now, "the last bundle"), "4.4 MB, as at the last bundle");
        assert_eq!(size_change(u64::MAX, 0, "x"), "0 bytes, -17592186044416.0 MB since x");
    }

    #[test]
    fn files_too_large_together_are_told_with_the_ten_largest() {
        let names: Vec<_> = (0..12).map(|number| format!("models/{number:02}")).collect();
        let files = || names.iter().zip(1..).map(|(name, number)| (name.as_str(), number * KB));
        assert_eq!(unzipped(files(), 78 * KB + 1).unwrap(), 78 * KB);
        let error = unzipped(files(), 78 * KB).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let told = error.to_string();
        let lines: Vec<_> = told.lines().collect();
        assert!(lines[0].starts_with("the bundle has 78 kB (79872 bytes) unzipped"), "{told}");
        assert_eq!(lines.len(), 11);
        assert_eq!((lines[1], lines[10]), ("      12 kB  models/11", "       3 kB  models/02"));
    }

    #[test]
    fn sizes_that_no_disk_has_do_not_overflow() {
        assert!(unzipped([("a", u64::MAX), ("b", u64::MAX)], UNZIPPED).is_err());
    }

    #[test]
    fn a_bundle_at_lambdas_limit_needs_a_bucket_and_a_smaller_one_does_not_use_it() {
        assert_eq!(way(DIRECT - 1, DIRECT, None).unwrap(), None);
        assert_eq!(way(DIRECT - 1, DIRECT, Some("bucket")).unwrap(), None);
        assert_eq!(way(DIRECT, DIRECT, Some("bucket")).unwrap(), Some("bucket"));
        let error = way(DIRECT + 3 * MB, DIRECT, None).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let told = error.report();
        for part in
            ["53.0 MB (55574528 bytes) zipped", "less than 50.0 MB (52428800 bytes)", "--bucket"]
        {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_zip_under_the_limit_fits_lambdas_limit_of_a_request_in_base64() {
        let in_base64 = (DIRECT - 1).div_ceil(3) * 4;
        assert!(70_167_211 - in_base64 >= 256 * KB - 1);
    }
}
