//! The scheduling lag of a run.

use registry_testkit::lag::Lag;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::time::Instant;

/// The interval between two samples of the lag.
const INTERVAL: Duration = Duration::from_millis(100);

/// A record of the scheduling lag of this process and its servers. It has its own thread, because a starved runtime
/// would not record it.
#[derive(Debug)]
pub struct LagRecord {
    samples: Arc<Mutex<Vec<(Instant, Duration)>>>,
    /// Ends the thread when it is dropped.
    _end: mpsc::Sender<()>,
}

impl LagRecord {
    /// Starts to record.
    pub fn start() -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = mpsc::channel();
        let record = samples.clone();
        thread::spawn(move || {
            let lag = Lag::start(Duration::MAX);
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let sample = (Instant::now(), lag.total());
                record.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Self { samples, _end: end }
    }

    /// Returns the maximum lag within any `window`.
    pub fn worst(&self, window: Duration) -> Duration {
        worst(&self.samples.lock().unwrap_or_else(PoisonError::into_inner), window)
    }

    /// Returns the lag between two times, with the resolution of the samples.
    pub fn between(&self, from: Instant, until: Instant) -> Duration {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let before = samples.iter().rfind(|(at, _)| *at <= from);
        let after = samples.iter().find(|(at, _)| *at >= until).or_else(|| samples.last());
        let lag = |sample: Option<&(Instant, Duration)>| sample.map_or(Duration::ZERO, |one| one.1);
        lag(after).saturating_sub(lag(before))
    }
}

fn worst(samples: &[(Instant, Duration)], window: Duration) -> Duration {
    let mut first = 0;
    let mut worst = Duration::ZERO;
    for (at, lag) in samples {
        while samples[first].0 + window < *at {
            first += 1;
        }
        worst = worst.max(lag.saturating_sub(samples[first].1));
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_window_is_found() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let samples = [(0, 0), (100, 10), (200, 200), (300, 210), (400, 210), (900, 900)];
        let samples = samples.map(|(at, lag)| (start + ms(at), ms(lag)));
        assert_eq!(worst(&samples, ms(100)), ms(190));
        assert_eq!(worst(&samples[..5], ms(200)), ms(200));
        assert_eq!(worst(&[], ms(200)), Duration::ZERO);
    }
}
