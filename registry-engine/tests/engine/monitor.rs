//! A monitor that records every state of a view.

use crate::support::ids;
use registry_engine::{ServiceState, View};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use tokio::time::Instant;

/// Records every state that a view publishes. It reads the state inside the waker, so it misses none.
pub(crate) struct Monitor(Arc<Recorder>);

struct Recorder {
    seen: Mutex<Vec<(Instant, ServiceState)>>,
    next: Mutex<Option<NextChange>>,
}

type NextChange = Pin<Box<dyn Future<Output = View> + Send>>;

impl Monitor {
    pub(crate) fn of(view: &View) -> Self {
        let recorder = Arc::new(Recorder { seen: Mutex::default(), next: Mutex::default() });
        recorder.record(view);
        *recorder.next.lock().unwrap() = Some(next_change(view.clone()));
        recorder.clone().wake();
        Self(recorder)
    }

    /// Returns the states so far, beginning with the one at the start.
    pub(crate) fn seen(&self) -> Vec<(Instant, ServiceState)> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Returns the ids of each state, without consecutive repetitions.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut shown: Vec<_> =
            self.seen().iter().map(|(_, state)| ids(state.instances())).collect();
        shown.dedup();
        shown
    }

    /// Returns the smallest number of instances of any state.
    pub(crate) fn fewest_shown(&self) -> usize {
        self.seen().iter().map(|(_, state)| state.instances().len()).min().unwrap()
    }
}

impl Recorder {
    fn record(&self, view: &View) {
        let seen = (Instant::now(), view.state().clone());
        self.seen.lock().unwrap().push(seen);
    }
}

impl Wake for Recorder {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut next = self.next.lock().unwrap();
        while let Some(change) = &mut *next {
            let Poll::Ready(view) = change.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return;
            };
            self.record(&view);
            *next = Some(next_change(view));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let next = self.0.next.lock().unwrap().take();
        drop(next); // breaks a cycle: the future owns the view, which owns the recorder as a waker
    }
}

fn next_change(mut view: View) -> NextChange {
    Box::pin(async move {
        view.changed().await.unwrap();
        view
    })
}
