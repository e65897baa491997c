//! Times as RFC 3339 text in UTC, with milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// `2026-11-24T17:00:00.123Z`. A time before 1970 is written as the first moment of 1970.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
    let second_of_day = seconds % SECONDS_PER_DAY;
    let mut text = String::with_capacity("2026-11-24T17:00:00.123Z".len());
    digits(&mut text, year, 4);
    let parts = [
        ('-', month, 2),
        ('-', day, 2),
        ('T', second_of_day / 3600, 2),
        (':', second_of_day / 60 % 60, 2),
        (':', second_of_day % 60, 2),
        ('.', since_epoch.subsec_millis().into(), 3),
    ];
    for (separator, number, width) in parts {
        text.push(separator);
        digits(&mut text, number, width);
    }
    text.push('Z');
    text
}

fn digits(text: &mut String, number: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = number / 10u64.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

/// Year, month and day of a day since 1970-01-01, by Howard Hinnant's `civil_from_days`:
/// <https://howardhinnant.github.io/date_algorithms.html>
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn writes_times_as_the_calendar_has_them() {
        // Expected values are those of `date --utc --date=@… +%FT%T.%3NZ`.
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_545_084_650_987, "2018-12-17T22:10:50.987Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_798_761_599_100, "2026-12-31T23:59:59.100Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_follows_the_day_before_it() {
        let mut expected = (1970, 1, 1);
        for days in 0..80_000 {
            assert_eq!(civil_from_days(days), expected, "day {days}");
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
                [month as usize - 1];
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (month, day) if day == last => (year, month + 1, 1),
                (month, day) => (year, month, day + 1),
            };
        }
    }
}
