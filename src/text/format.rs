//! Sizes, rates, times, counts.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime};

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes in three digits: `999 B`, `1.21 KiB`, `12.3 MiB`, `0.98 GiB`. At most 8
/// columns wide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub u64);

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (number, unit) = scaled(self.0, 3);
        f.pad(&format!("{number} {}", UNITS[unit]))
    }
}

/// Bytes a second, as [`Size`]; at most 10 columns wide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub u64);

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/s", Size(self.0)))
    }
}

/// A number of bytes in as few columns as there are: `999`, `1.2K`, `12M`, `0.9G`, rounded as [`Size`] is. At most 4 wide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short(pub u64);

impl Display for Short {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (number, unit) = scaled(self.0, 2);
        let unit = UNITS[unit].trim_end_matches("iB").trim_end_matches('B');
        f.pad(&format!("{number}{unit}"))
    }
}

/// The number, rounded to so many digits but at least to a whole, and the unit's place in [`UNITS`]. From 1000 on the next unit
/// is taken, so that the number never needs a fourth digit.
fn scaled(bytes: u64, digits: i32) -> (String, usize) {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    // With so many decimals it is still so many digits once it is rounded.
    let fits = |decimals: &i32| value < 10f64.powi(digits - decimals) - 0.5 * 10f64.powi(-decimals);
    let decimals = if unit == 0 { None } else { (0..digits).rev().find(fits) };
    (format!("{value:.*}", decimals.unwrap_or(0) as usize), unit)
}

/// A number of bytes to be freed, rounded up to a tenth, so that to free that much is enough: `0.1 KiB`, `3.1 GiB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoomNeeded(pub u64);

impl Display for RoomNeeded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = (self.0.max(1).ilog2() / 10).max(1) as usize;
        let tenths = (u128::from(self.0) * 10).div_ceil(1 << (10 * unit)).max(1);
        write!(f, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// Seconds since 1970 as `2026-01-31 23:59:59 UTC`; as the number where no calendar is of use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub i64);

impl Display for Moment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // humantime, as RFC 3339, writes years of four digits.
        let seconds = u64::try_from(self.0).ok().filter(|seconds| *seconds < 253_402_300_800);
        match seconds {
            Some(seconds) => {
                let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                let text = humantime::format_rfc3339_seconds(moment).to_string();
                f.write_str(&text.replace('T', " ").replace('Z', " UTC"))
            }
            None => write!(f, "{} seconds after 1970 began", self.0),
        }
    }
}

/// A time in its two largest units: `45s`, `12m 34s`, `3h 5m`, `12d 4h`. At most 7 columns wide
/// below 100 days, and `>99d` from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
        f.pad(&match (days, hours, minutes) {
            (0, 0, 0) => format!("{seconds}s"),
            (0, 0, m) => format!("{m}m {}s", seconds % 60),
            (0, h, m) => format!("{h}h {}m", m % 60),
            (d @ 1..=99, h, _) => format!("{d}d {}h", h % 24),
            _ => ">99d".to_owned(),
        })
    }
}

/// How much of a whole, in percent with one decimal, rounded down: only what is complete is 100.
/// Of nothing, everything is there.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 100.0,
        _ => (u128::from(part.min(whole)) * 1000 / u128::from(whole)) as f64 / 10.0,
    }
}

/// A number with its noun: `1 file`, `3 files`.
pub(crate) fn count(number: impl Into<u64>, noun: &str) -> String {
    match number.into() {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1.00 KiB"),
            (10_239, "10.0 KiB"),
            (1_048_575, "1.00 MiB"),
            (4_402_341_478, "4.10 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Size(bytes).to_string(), text);
        }
        assert_eq!(Rate(1024).to_string(), "1.00 KiB/s");
        assert_eq!(Short(12_900_000).to_string(), "12M");
        let short = [1300, 10_188, 10_240, 12_900, 900_000, 1_048_575].map(|bytes| Short(bytes).to_string());
        assert_eq!(short, ["1.3K", "9.9K", "10K", "13K", "879K", "1.0M"]);
    }

    #[test]
    fn dates_follow_the_calendar() {
        let dates = [0, 951_782_399, 951_782_400, 1_709_210_096, 253_402_300_799, -1];
        let texts = [
            "1970-01-01 00:00:00 UTC",
            "2000-02-28 23:59:59 UTC",
            "2000-02-29 00:00:00 UTC",
            "2024-02-29 12:34:56 UTC",
            "9999-12-31 23:59:59 UTC",
            "-1 seconds after 1970 began",
        ];
        assert_eq!(dates.map(|date| Moment(date).to_string()), texts);
    }

    #[test]
    fn room_is_rounded_up() {
        assert_eq!(RoomNeeded(1).to_string(), "0.1 KiB");
        assert_eq!(RoomNeeded((3 << 30) + 1).to_string(), "3.1 GiB");
        assert_eq!(RoomNeeded(u64::MAX).to_string(), "16.0 EiB");
    }

    #[test]
    fn times_have_two_units() {
        let cases = [(0, "0s"), (61, "1m 1s"), (11_100, "3h 5m"), (90_000, "1d 1h"), (u64::MAX, ">99d")];
        for (seconds, text) in cases {
            assert_eq!(Time(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn only_the_whole_is_a_hundred_percent() {
        assert_eq!(percent(999_999, 1_000_000), 99.9);
        assert_eq!(percent(5, 5), 100.0);
        assert_eq!(percent(0, 0), 100.0);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99.9);
    }

    proptest! {
        #[test]
        fn widths_are_bounded(bytes: u64, seconds: u64) {
            prop_assert!(Size(bytes).to_string().len() <= 8);
            prop_assert!(Rate(bytes).to_string().len() <= 10);
            prop_assert!(Short(bytes).to_string().len() <= 4);
            prop_assert!(Time(Duration::from_secs(seconds)).to_string().len() <= 7);
        }
    }
}
