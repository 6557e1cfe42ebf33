//! What the handle of a registration asks of the task behind it. One allocation for all of it, since
//! there may be 100,000.

use futures_util::task::AtomicWaker;
use registry_core::{Instance, Result};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::sync::oneshot;

/// Where the outcome of an order goes.
pub(crate) type Answer = oneshot::Sender<Result<()>>;

/// Shared by a handle, which orders, and a task, which carries out.
#[derive(Debug)]
pub(crate) struct Orders {
    book: Mutex<Book>,
    task: AtomicWaker,
}

#[derive(Debug)]
struct Book {
    wanted: Instance,
    /// Who waits for what is wanted to be registered, and has not been heard by the task.
    updates: Vec<Answer>,
    stop: Option<Stop>,
    /// Whether the task has ended, and nothing more is carried out.
    closed: bool,
}

#[derive(Debug)]
enum Stop {
    Asked(Answer),
    Dropped,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Order {
    /// Register what is wanted, and tell these.
    Update(Vec<Answer>),
    /// Withdraw it, and tell this one, if anybody.
    Stop(Option<Answer>),
}

impl Orders {
    pub(crate) fn new(wanted: Instance) -> Self {
        let book = Book { wanted, updates: Vec::new(), stop: None, closed: false };
        Self { book: Mutex::new(book), task: AtomicWaker::new() }
    }

    /// What is to be registered.
    pub(crate) fn wanted(&self) -> Instance {
        self.lock().wanted.clone()
    }

    /// Wants `instance`. An answer that is dropped says that nothing is carried out any more.
    pub(crate) fn update(&self, instance: Instance, answer: Answer) {
        let mut book = self.lock();
        if book.closed {
            return;
        }
        book.wanted = instance;
        book.updates.retain(|answer| !answer.is_closed());
        book.updates.push(answer);
        drop(book);
        self.task.wake();
    }

    /// Goes back from what was `refused`, unless something else is wanted by now.
    pub(crate) fn revert(&self, refused: &Instance, accepted: &Instance) {
        let mut book = self.lock();
        if book.wanted == *refused {
            book.wanted = accepted.clone();
        }
    }

    pub(crate) fn stop(&self, answer: Answer) {
        self.end(Stop::Asked(answer));
    }

    /// The handle is gone. If it asked to stop before, that stands.
    pub(crate) fn abandon(&self) {
        self.end(Stop::Dropped);
    }

    fn end(&self, stop: Stop) {
        let mut book = self.lock();
        if book.closed || book.stop.is_some() {
            return;
        }
        book.stop = Some(stop);
        drop(book);
        self.task.wake();
    }

    /// The task has ended: nobody is to wait for it.
    pub(crate) fn close(&self) {
        let mut book = self.lock();
        book.closed = true;
        let unheard = (std::mem::take(&mut book.updates), book.stop.take());
        drop(book);
        drop(unheard); // it wakes those who wait
    }

    /// The next order, if there is one. To stop comes first.
    pub(crate) fn take(&self) -> Option<Order> {
        let mut book = self.lock();
        match book.stop.take() {
            Some(Stop::Asked(answer)) => return Some(Order::Stop(Some(answer))),
            Some(Stop::Dropped) => return Some(Order::Stop(None)),
            None => {}
        }
        let updates = std::mem::take(&mut book.updates);
        (!updates.is_empty()).then_some(Order::Update(updates))
    }

    /// Waits for the next order. For one task.
    pub(crate) async fn next(&self) -> Order {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            self.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
