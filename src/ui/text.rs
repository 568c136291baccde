//! Text for terminals: made harmless, measured and cut in character cells, and numbers as people read them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One line of foreign text with nothing left in it that a terminal would obey.
///
/// Escape sequences are dropped whole, tabs become spaces up to the next multiple of eight, and every other control or
/// direction-changing character shows as U+FFFD.
#[must_use]
pub fn neutralise(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_active) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => rest = skip_escape(rest),
            '\u{9b}' => rest = skip_control_sequence(rest),
            '\t' => {
                let stop = (out.width() / 8 + 1) * 8;
                out.extend(std::iter::repeat_n(' ', stop - out.width()));
            }
            c if is_active(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Several lines of foreign text made harmless; line breaks stay.
#[must_use]
pub fn neutralise_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_active(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.lines().map(neutralise).collect::<Vec<_>>().join("\n"))
}

/// Characters a terminal acts on instead of showing: C0, DEL, C1, and Unicode's direction overrides and separators.
fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows the escape sequence whose ESC was just read (ECMA-48 §5.3 and §5.6; OSC ends at BEL too).
fn skip_escape(mut rest: std::str::Chars<'_>) -> std::str::Chars<'_> {
    match rest.next() {
        Some('[') => skip_control_sequence(rest),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                match c {
                    '\x07' | '\u{9c}' => break,
                    '\x1b' => {
                        rest.next();
                        break;
                    }
                    _ => {}
                }
            }
            rest
        }
        Some(' '..='/') => {
            let _final = rest.find(|c| !matches!(c, ' '..='/'));
            rest
        }
        _ => rest,
    }
}

/// What follows a control sequence: parameters and intermediates up to the final byte.
fn skip_control_sequence(mut rest: std::str::Chars<'_>) -> std::str::Chars<'_> {
    let _final = rest.find(|c| !matches!(c, ' '..='?'));
    rest
}

/// Cells `text` takes on a terminal, colour sequences counting nothing.
#[must_use]
pub fn width(text: &str) -> usize {
    if text.contains('\x1b') { neutralise(text).width() } else { text.width() }
}

/// `text` cut to at most `cells` cells, with `…` where something was cut. `text` must hold no escape sequences.
#[must_use]
pub fn truncate(text: &str, cells: usize) -> Cow<'_, str> {
    if text.width() <= cells {
        return Cow::Borrowed(text);
    }
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        if used + width + 1 > cells {
            break;
        }
        used += width;
        out.push(c);
    }
    if cells > 0 {
        out.push('…');
    }
    Cow::Owned(out)
}

/// A number of bytes, shown in decimal units with three significant digits: `812 B`, `4.2 kB`, `61.3 MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// `count` bytes, to be shown.
#[must_use]
pub const fn bytes(count: u64) -> Bytes {
    Bytes(count)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return f.pad(&format!("{} B", self.0));
        }
        // Tenths of the unit, rounded half up, so that 999 950 becomes 1.0 MB and not 1000.0 kB.
        let mut tenths = (u128::from(self.0) + 50) / 100;
        let mut unit = 0;
        while tenths >= 10_000 {
            tenths = (tenths + 500) / 1000;
            unit += 1;
        }
        f.pad(&format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]))
    }
}

/// A duration in seconds with one decimal, as progress shows it: `0.3s`, `125.0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_millis() / 100;
        f.pad(&format!("{}.{}s", tenths / 10, tenths % 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_is_left() {
        for (line, harmless) in [
            ("plain é 漢", "plain é 漢"),
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07after", "after"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b(Bascii", "ascii"),
            ("\x1bPq#0;2\x1b\\sixel", "sixel"),
            ("\u{9b}2Jcleared", "cleared"),
            ("a\tb", "a       b"),
            ("bell\x07", "bell\u{fffd}"),
            ("\u{202e}gnp.exe", "\u{fffd}gnp.exe"),
            ("unfinished \x1b[31", "unfinished "),
            ("\x1b", ""),
        ] {
            assert_eq!(neutralise(line), harmless, "{line:?}");
        }
        assert_eq!(neutralise_lines("a\n\x1b[2Jb\n"), "a\nb");
    }

    #[test]
    fn cutting_counts_cells() {
        assert_eq!(truncate("hello", 5), "hello");
        assert_eq!(truncate("hello", 4), "hel…");
        assert_eq!(truncate("漢字漢", 4), "漢…");
        assert_eq!(truncate("hello", 0), "");
        assert_eq!(width("\x1b[31m漢字\x1b[0m"), 4);
    }

    #[test]
    fn numbers_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (4_249, "4.2 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (61_300_000, "61.3 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Seconds(Duration::from_millis(12_399)).to_string(), "12.3s");
    }
}
