//! An eye on a view that misses nothing.

use crate::support::ids;
use registry_engine::{ServiceState, View};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use tokio::time::Instant;

/// Sees every state that a view publishes, at the very moment: it looks from within the waker.
pub(crate) struct Monitor(Arc<Eye>);

struct Eye {
    seen: Mutex<Vec<(Instant, ServiceState)>>,
    next: Mutex<Option<NextChange>>,
}

type NextChange = Pin<Box<dyn Future<Output = View> + Send>>;

impl Monitor {
    pub(crate) fn of(view: &View) -> Self {
        let eye = Arc::new(Eye { seen: Mutex::default(), next: Mutex::default() });
        eye.see(view);
        *eye.next.lock().unwrap() = Some(next_change(view.clone()));
        eye.clone().wake();
        Self(eye)
    }

    /// The states so far, that at the start first.
    pub(crate) fn seen(&self) -> Vec<(Instant, ServiceState)> {
        self.0.seen.lock().unwrap().clone()
    }

    /// The ids of each state, without repetition.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut shown: Vec<_> = self.seen().iter().map(|(_, p)| ids(p.instances())).collect();
        shown.dedup();
        shown
    }

    /// The smallest number of instances ever shown.
    pub(crate) fn least(&self) -> usize {
        self.seen().iter().map(|(_, state)| state.instances().len()).min().unwrap()
    }
}

impl Eye {
    fn see(&self, view: &View) {
        let seen = (Instant::now(), view.state().clone());
        self.seen.lock().unwrap().push(seen);
    }
}

impl Wake for Eye {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut next = self.next.lock().unwrap();
        while let Some(change) = &mut *next {
            let Poll::Ready(view) = change.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return;
            };
            self.see(&view);
            *next = Some(next_change(view));
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let next = self.0.next.lock().unwrap().take();
        drop(next); // it holds the view, and through its waker the eye
    }
}

fn next_change(mut view: View) -> NextChange {
    Box::pin(async move {
        view.changed().await.unwrap();
        view
    })
}
