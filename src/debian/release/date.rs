//! Dates as release files write them: `Sat, 12 Sep 2026 07:55:41 UTC`.

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parses an RFC 2822 date into seconds since 1970. The zone is `UTC`, `GMT`, `Z` or a numeric offset.
pub(super) fn parse(text: &str) -> Option<i64> {
    let rest = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = rest.split_ascii_whitespace();
    let day: i64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute) = (clock.next()??, clock.next()??);
    let second = clock.next().unwrap_or(Some(0))?;
    let offset = match words.next()? {
        "UTC" | "GMT" | "Z" => 0,
        zone => {
            let (sign, digits) =
                if let Some(digits) = zone.strip_prefix('-') { (-1, digits) } else { (1, zone.strip_prefix('+')?) };
            let number: i64 = if digits.len() == 4 { digits.parse().ok()? } else { return None };
            sign * (number / 100 * 3600 + number % 100 * 60)
        }
    };
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range || words.next().is_some() || clock.next().is_some() {
        return None;
    }
    Some(
        days_since_1970(year, i64::try_from(month).ok()? + 1, day) * 86_400 + hour * 3600 + minute * 60 + second
            - offset,
    )
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar. Years are counted from March, so that the leap
/// day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_dates() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(parse("Sat, 12 Sep 2026 07:55:41 UTC"), Some(1_789_199_741));
        assert_eq!(parse("Sat, 12 Sep 2026 09:55:41 +0200"), Some(1_789_199_741));
        assert_eq!(parse("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for bad in [
            "",
            "Sat, 12 Sep 2026",
            "Sat, 12 Zzz 2026 07:55:41 UTC",
            "12 Sep 2026 27:00:00 UTC",
            "12 Sep 2026 07:00:00 PST",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
