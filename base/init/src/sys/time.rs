//! Time that only goes forwards.
#![expect(unsafe_code, reason = "system calls that read and write memory")]

use core::time::Duration;

use super::{address, arch, call_with_addresses};

/// A moment, as the time since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    /// This moment.
    pub(crate) fn now() -> Self {
        const CLOCK_MONOTONIC: usize = 1;
        let mut now = [0_i64; 2];
        // SAFETY: the kernel writes one `struct timespec`, which is two numbers.
        unsafe { call_with_addresses(arch::CLOCK_GETTIME, [CLOCK_MONOTONIC, address(&raw mut now)]) }
            .expect("every kernel has this clock");
        let [seconds, nanos] = now.map(|part| u64::try_from(part).expect("this clock starts at zero"));
        Self(Duration::from_secs(seconds) + Duration::from_nanos(nanos))
    }

    /// The moment that is `time` later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// How long it is until this moment; nothing when it is over.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }

    /// How long ago this moment was.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// `struct timespec`.
pub(super) fn timespec(time: Duration) -> [i64; 2] {
    [i64::try_from(time.as_secs()).unwrap_or(i64::MAX), i64::from(time.subsec_nanos())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forwards() {
        let begin = Instant::now();
        let deadline = begin.after(Duration::from_millis(20));
        super::super::wait::pause(deadline.left());
        assert!(begin.elapsed() >= Duration::from_millis(20) && begin.elapsed() < Duration::from_secs(5));
        assert!(deadline.left().is_zero() && begin < deadline);
    }
}
