//! Durations and sizes as people write them, in the configuration file and in flags.

use std::time::Duration;

/// The longest duration that is accepted anywhere: a year of 365 days. `Instant::now() + LONGEST`
/// cannot overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(8760 * 3600);

/// The largest size that is accepted anywhere: 1 GiB, which is also safe where a pointer has 32
/// bits.
pub(super) const LARGEST: usize = 1 << 30;

const DURATION_UNITS: [(&str, u128); 4] =
    [("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];

const SIZE_UNITS: [(&str, usize); 9] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Why a text is not a duration or a size. The message says what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(&'static str);

const NOT_A_DURATION: UnitError =
    UnitError("write one number and one unit (ms, s, m or h), such as \"90s\"");
const TOO_LONG: UnitError = UnitError("a duration can be at most 8760h (a year)");
const NOT_A_SIZE: UnitError = UnitError(
    "write a size with a unit (B, kB, MB, GB, KiB, MiB or GiB), such as \"10MiB\", or a whole \
        number of bytes",
);
const TOO_LARGE: UnitError = UnitError("a size can be at most 1GiB");

/// Reads a duration such as `60s`, `500ms`, `1.5m` or `1h`: a decimal number of at most nine places
/// and one unit, nothing between them. `0` needs no unit. What is left of a nanosecond is dropped.
///
/// # Errors
///
/// For anything else, and for more than 8760h (a year).
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (number, unit) = split_unit(text);
    let (_, unit) =
        DURATION_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(NOT_A_DURATION)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return Err(NOT_A_DURATION);
    }
    // Digits only: what does not parse is too large. With at most nine places the fraction cannot
    // overflow.
    let whole: u64 = whole.parse().map_err(|_| TOO_LONG)?;
    let places = fraction.len() as u32;
    let fraction: u128 = fraction.parse().map_err(|_| NOT_A_DURATION)?;
    let nanos = u128::from(whole) * unit + fraction * unit / 10_u128.pow(places);
    if nanos > LONGEST.as_nanos() {
        return Err(TOO_LONG);
    }
    Ok(u64::try_from(nanos)
        .map(Duration::from_nanos)
        .expect("a year of nanoseconds fits in 64 bits"))
}

/// Reads a size in bytes such as `10MiB`, `64KiB`, `1MB` or `4096`: a whole number and one unit,
/// nothing between them. `KiB`, `MiB` and `GiB` are powers of 1024; `kB` (or `KB`), `MB` and `GB`
/// are powers of 1000; no unit, or `B`, is bytes.
///
/// # Errors
///
/// For anything else, and for more than 1 GiB.
pub fn parse_size(text: &str) -> Result<usize, UnitError> {
    let (number, unit) = split_unit(text);
    let (_, unit) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(NOT_A_SIZE)?;
    if !is_digits(number) {
        return Err(NOT_A_SIZE);
    }
    let number: usize = number.parse().map_err(|_| TOO_LARGE)?;
    number.checked_mul(unit).filter(|size| *size <= LARGEST).ok_or(TOO_LARGE)
}

/// The shortest text that [`parse_duration`] reads as this many milliseconds.
pub(super) fn format_millis(millis: u64) -> String {
    shortest(millis, &[("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)])
}

/// The shortest text that [`parse_size`] reads as this many bytes.
pub(super) fn format_size(bytes: u64) -> String {
    shortest(bytes, &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)])
}

/// Whether it is one ASCII digit or more: no sign, no space, which `str::parse` would let pass.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

fn shortest(number: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, unit)| number >= *unit && number.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", number / unit),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0", 0)]
    #[case("0s", 0)]
    #[case("1ms", 1_000_000)]
    #[case("500ms", 500_000_000)]
    #[case("60s", 60_000_000_000)]
    #[case("1.5s", 1_500_000_000)]
    #[case("0.25ms", 250_000)]
    #[case("1.1s", 1_100_000_000)]
    #[case("1.000000001s", 1_000_000_001)]
    #[case("0.000000001ms", 0)]
    #[case("5m", 300_000_000_000)]
    #[case("1h", 3_600_000_000_000)]
    #[case("007s", 7_000_000_000)]
    #[case("8760h", 31_536_000_000_000_000)]
    fn durations(#[case] text: &str, #[case] nanos: u64) {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)));
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_unit("60")]
    #[case::fraction_without_unit("0.0")]
    #[case::no_number("s")]
    #[case::no_whole_part(".5s")]
    #[case::no_places("1.s")]
    #[case::two_points("1.2.3s")]
    #[case::too_many_places("1.0000000001s")]
    #[case::negative("-1s")]
    #[case::plus("+1s")]
    #[case::space_between("1 s")]
    #[case::space_before(" 1s")]
    #[case::space_after("1s ")]
    #[case::days("1d")]
    #[case::upper_case("1S")]
    #[case::two_units("1h30m")]
    #[case::exponent("1e3s")]
    #[case::not_ascii("٣s")]
    #[case::emoji("⏰")]
    #[case::nan("NaNs")]
    #[case::nul("1s\0")]
    fn not_durations(#[case] text: &str) {
        assert_eq!(parse_duration(text), Err(NOT_A_DURATION));
    }

    #[rstest]
    #[case("8760.000000001h")]
    #[case("31536001s")]
    #[case("18446744073709551615h")]
    #[case("99999999999999999999999999999999999999999999s")]
    fn too_long(#[case] text: &str) {
        assert_eq!(parse_duration(text), Err(TOO_LONG));
    }

    #[rstest]
    #[case("0", 0)]
    #[case("4096", 4096)]
    #[case("12B", 12)]
    #[case("1kB", 1000)]
    #[case("1KB", 1000)]
    #[case("3MB", 3_000_000)]
    #[case("1GB", 1_000_000_000)]
    #[case("64KiB", 65536)]
    #[case("10MiB", 10_485_760)]
    #[case("1GiB", 1_073_741_824)]
    fn sizes(#[case] text: &str, #[case] bytes: usize) {
        assert_eq!(parse_size(text), Ok(bytes));
    }

    #[rstest]
    #[case::empty("")]
    #[case::no_number("MiB")]
    #[case::fraction("1.5MiB")]
    #[case::point("1.")]
    #[case::negative("-1")]
    #[case::plus("+1")]
    #[case::space_between("10 MiB")]
    #[case::lower_case("10mib")]
    #[case::ambiguous("10M")]
    #[case::bits("10Mb")]
    #[case::not_ascii("１MiB")]
    #[case::newline("1\n")]
    fn not_sizes(#[case] text: &str) {
        assert_eq!(parse_size(text), Err(NOT_A_SIZE));
    }

    #[rstest]
    #[case("1073741825")]
    #[case("2GiB")]
    #[case("18446744073709551615GiB")]
    #[case("99999999999999999999999999999999B")]
    fn too_large(#[case] text: &str) {
        assert_eq!(parse_size(text), Err(TOO_LARGE));
    }

    #[rstest]
    fn what_is_formatted_can_be_read(
        #[values(0, 1, 999, 1_000, 60_000, 90_000, 3_600_000, 31_536_000_000)] millis: u64,
    ) {
        assert_eq!(parse_duration(&format_millis(millis)), Ok(Duration::from_millis(millis)));
    }

    #[rstest]
    fn what_is_formatted_as_size_can_be_read(
        #[values(0, 1, 1023, 1024, 1_000_000, 10 << 20, 1 << 30)] bytes: usize,
    ) {
        assert_eq!(parse_size(&format_size(bytes as u64)), Ok(bytes));
    }

    #[test]
    fn the_limits_are_what_the_messages_say() {
        assert_eq!(parse_duration("8760h"), Ok(LONGEST));
        assert_eq!(parse_size("1GiB"), Ok(LARGEST));
        assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
    }
}
