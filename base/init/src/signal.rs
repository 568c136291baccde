//! Signals by name and number.

use core::fmt;

/// One signal of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(i32);

/// The standard signals, by number from 1. The numbers are those of x86, Arm and RISC-V.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// The first and last real-time signal a program may use; the C library keeps 32 and 33 to itself.
const REAL_TIME: core::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    /// Interrupt, as from the keyboard.
    #[cfg(test)]
    pub(crate) const INT: Self = Self(2);
    /// Ends a process that cannot object.
    pub(crate) const KILL: Self = Self(9);
    /// A write to a pipe that nobody reads.
    pub(crate) const PIPE: Self = Self(13);
    /// The polite request to end.
    pub(crate) const TERM: Self = Self(15);
    /// A child has ended or stopped.
    pub(crate) const CHLD: Self = Self(17);
    /// Go on after a stop.
    pub(crate) const CONT: Self = Self(18);
    /// Terminal read from the background.
    pub(crate) const TTIN: Self = Self(21);
    /// Terminal write from the background.
    pub(crate) const TTOU: Self = Self(22);

    /// The signals the processor raises for a fault in the running program: TRAP, ILL, ABRT, BUS, FPE, SEGV and SYS.
    pub(crate) const FAULTS: [Self; 7] = [Self(4), Self(5), Self(6), Self(7), Self(8), Self(11), Self(31)];

    /// The number the kernel knows it by.
    pub(crate) const fn number(self) -> i32 {
        self.0
    }

    /// The signal with that number, if programs may send it.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        let standard = usize::try_from(number).is_ok_and(|number| (1..=NAMES.len()).contains(&number));
        (standard || REAL_TIME.contains(&number)).then_some(Self(number))
    }

    /// A signal as people write it: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let offset: i32 = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
            return REAL_TIME.start().checked_add(offset).filter(|number| REAL_TIME.contains(number)).map(Self);
        }
        let index = NAMES.iter().position(|known| *known == name)?;
        i32::try_from(index + 1).ok().map(Self)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0 - 1).ok().and_then(|index| NAMES.get(index)) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "SIGRTMIN+{}", self.0 - REAL_TIME.start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_found_by_every_spelling() {
        for text in ["SIGTERM", "TERM", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM), "{text}");
        }
        assert_eq!(Signal::parse("SIGRTMIN+3"), Some(Signal(37)));
        assert_eq!(Signal::parse("RTMIN"), Some(Signal(34)));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "SIG", "SIGFOO", "0", "-1", "32", "65", "RTMIN+31", "RTMIN+-1", "RTMINX", "term"] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_signal_is_written_as_it_is_read() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
        }
    }
}
