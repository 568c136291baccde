//! Trying again.

use std::time::Duration;

use crate::progress::Meter;

/// How often and how fast failed requests are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one included.
    pub tries: u32,
    /// The pause before the second try; it doubles from try to try.
    pub pause: Duration,
    /// No pause of our own is longer.
    pub longest_pause: Duration,
    /// The longest `Retry-After` that is waited for. A server that asks for more fails at once.
    pub longest_retry_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_millis(400),
            longest_pause: Duration::from_secs(10),
            longest_retry_after: Duration::from_secs(120),
        }
    }
}

/// What a failure means for another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another try would fail the same way.
    Final,
    /// One more try is worth it: the failure is usually lasting.
    Once,
    /// It may pass. The server may have said when.
    Again {
        /// The server's `Retry-After`.
        after: Option<Duration>,
    },
}

/// An error that knows whether another try is worth it.
pub(crate) trait Retryable: std::error::Error {
    fn verdict(&self) -> Verdict;
}

/// Counts the tries of one operation and spaces them out.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// How long to wait before the next try, or `None` when there should be none.
    pub(crate) fn next_pause(&mut self, verdict: Verdict) -> Option<Duration> {
        self.failures += 1;
        let tries = match verdict {
            Verdict::Final => 1,
            Verdict::Once => self.policy.tries.min(2),
            Verdict::Again { .. } => self.policy.tries,
        };
        if self.failures >= tries {
            return None;
        }
        let doubled = self.policy.pause.saturating_mul(1 << (self.failures - 1).min(16));
        // Full pauses would make many clients that failed together come back together.
        let jittered = doubled.min(self.policy.longest_pause).mul_f64(0.5 + fastrand::f64() / 2.0);
        match verdict {
            Verdict::Again { after: Some(after) } if after > self.policy.longest_retry_after => None,
            Verdict::Again { after: Some(after) } => Some(after.max(jittered)),
            Verdict::Again { after: None } | Verdict::Once | Verdict::Final => Some(jittered),
        }
    }

    /// Waits before the next try. `false`: there should be none, and the error stands.
    pub(crate) async fn wait(&mut self, error: &impl Retryable, meter: &Meter<'_>) -> bool {
        match self.next_pause(error.verdict()) {
            Some(pause) => {
                meter.retrying(error, pause);
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }
}

/// Reads `Retry-After`: seconds, or a date, which is taken relative to the answer's own `Date`, so that no clock here
/// needs to be right. Spec: RFC 9110 §10.2.3.
pub(crate) fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
    let now = date(headers.get(reqwest::header::DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(date(text)?.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        tries: 4,
        pause: Duration::from_millis(100),
        longest_pause: Duration::from_millis(250),
        longest_retry_after: Duration::from_secs(5),
    };

    #[test]
    fn pauses_double_with_jitter_up_to_a_bound_and_end() {
        let mut backoff = Backoff::new(POLICY);
        for (low, high) in [(50, 100), (100, 200), (125, 250)] {
            let pause = backoff.next_pause(Verdict::Again { after: None }).expect("another try").as_millis();
            assert!((low..=high).contains(&pause), "{pause}");
        }
        assert_eq!(backoff.next_pause(Verdict::Again { after: None }), None);
        assert_eq!(Backoff::new(POLICY).next_pause(Verdict::Final), None);
        let mut once = Backoff::new(POLICY);
        assert!(once.next_pause(Verdict::Once).is_some());
        assert_eq!(once.next_pause(Verdict::Once), None);
    }

    #[test]
    fn the_server_s_wish_is_honoured_unless_it_is_too_long() {
        let after = |seconds| Verdict::Again { after: Some(Duration::from_secs(seconds)) };
        assert_eq!(Backoff::new(POLICY).next_pause(after(3)), Some(Duration::from_secs(3)));
        assert_eq!(Backoff::new(POLICY).next_pause(after(6)), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let mut headers = reqwest::header::HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().expect("value"));
            }
            headers
        };
        assert_eq!(retry_after(&headers(&[("retry-after", "7")])), Some(Duration::from_secs(7)));
        let dated =
            headers(&[("retry-after", "Fri, 20 Nov 2026 10:00:30 GMT"), ("date", "Fri, 20 Nov 2026 10:00:00 GMT")]);
        assert_eq!(retry_after(&dated), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
