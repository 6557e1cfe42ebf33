//! One direction of a connection: a reader, a queue, and a writer.

use super::control::{Control, End};
use super::fault::Fault;
use super::frames::FrameFilter;
use super::link::{Link, wait_until_no_blackhole};
use fastrand::Rng;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

/// The maximum size of a read.
const CHUNK: usize = 16 * 1024;

/// The maximum number of chunks in the queue: 4 MiB.
const QUEUE: usize = 256;

/// The number of writes per second of a throttled connection.
const TICKS_PER_SECOND: u32 = 50;

/// The number of pieces of a chunk with a pause after them, and the pause.
const PIECE_SPACING: (usize, Duration) = (32, Duration::from_millis(1));

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Requests,
    Replies,
}

/// The bytes of one read. An empty chunk is the end of the stream.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// When a delayed chunk is to be written, and the injection that delayed it.
    due: Option<(Instant, u64)>,
}

/// Relays one direction until its end of stream was relayed, or a write fails.
pub(super) async fn pass(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    link: &Link,
    direction: Direction,
) -> End {
    let (queue, chunks) = mpsc::channel(QUEUE);
    let mut reading = pin!(Reader::new(from, link, direction).run(queue));
    let mut writing = pin!(Writer::new(to, link, direction).run(chunks));
    tokio::select! {
        end = &mut writing => return end,
        () = &mut reading => {}
    }
    writing.await
}

struct Reader<'a> {
    from: ReadHalf<'a>,
    link: &'a Link,
    control: watch::Receiver<Control>,
    direction: Direction,
    random: Rng,
}

impl<'a> Reader<'a> {
    fn new(from: ReadHalf<'a>, link: &'a Link, direction: Direction) -> Self {
        let random = Rng::with_seed(link.number * 2 + u64::from(direction == Direction::Replies));
        Self { from, link, control: link.control.subscribe(), direction, random }
    }

    async fn run(mut self, queue: mpsc::Sender<Chunk>) {
        let mut buffer = vec![0; CHUNK];
        // Reserve before reading, so that every chunk that was read can be queued.
        while let Ok(place) = queue.reserve().await {
            let n = self.read(&mut buffer).await;
            place.send(Chunk { bytes: buffer[..n].to_vec(), due: self.due(n) });
            if n == 0 {
                return;
            }
        }
    }

    /// Reads the next bytes. Waits while there is a blackhole.
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            if self.control.borrow_and_update().fault == Fault::Blackhole {
                tokio::select! {
                    () = wait_until_no_blackhole(&mut self.control) => {}
                    never = count_held(&mut self.from, self.link) => match never {},
                }
                continue;
            }
            tokio::select! {
                biased;
                _ = self.control.changed() => {}
                n = self.from.read(buffer) => return n.unwrap_or(0), // an error counts as the end
            }
        }
    }

    fn due(&mut self, n: usize) -> Option<(Instant, u64)> {
        let control = self.control.borrow();
        let (each, jitter) = match control.fault {
            Fault::Delay { each, jitter } => (each, jitter),
            Fault::DelayReplies { each } if self.direction == Direction::Replies => {
                (each, Duration::ZERO)
            }
            _ => return None,
        };
        if n > 0 {
            self.link.counter.add(|hits| {
                hits.delayed_chunks += 1;
                hits.delayed_bytes += n as u64;
            });
        }
        let delay = each + jitter.mul_f64(self.random.f64());
        Some((Instant::now() + delay, control.injections))
    }
}

/// Counts the direction as held up once it has bytes to read.
async fn count_held(from: &mut ReadHalf<'_>, link: &Link) -> Infallible {
    if let Ok(1..) = from.peek(&mut [0]).await {
        link.counter.add(|hits| hits.held_directions += 1);
    }
    pending().await
}

struct Writer<'a> {
    to: WriteHalf<'a>,
    link: &'a Link,
    direction: Direction,
    control: watch::Receiver<Control>,
    /// The time at which a throttled connection may write again.
    busy_until: Instant,
    /// An injection, and the number of bytes that it still lets pass.
    remaining: Option<(u64, usize)>,
    frames: FrameFilter,
}

impl<'a> Writer<'a> {
    fn new(to: WriteHalf<'a>, link: &'a Link, direction: Direction) -> Self {
        let control = link.control.subscribe();
        let (busy_until, frames) = (Instant::now(), FrameFilter::default());
        Self { to, link, direction, control, busy_until, remaining: None, frames }
    }

    async fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) -> End {
        while let Some(chunk) = chunks.recv().await {
            self.wait_until_due(chunk.due).await;
            if let Err(end) = self.write(&chunk.bytes).await {
                return end;
            }
        }
        End::Over
    }

    async fn wait_until_due(&mut self, due: Option<(Instant, u64)>) {
        if let Some((due, injection)) = due {
            tokio::select! {
                _ = self.control.wait_for(|control| control.injections != injection) => {}
                () = sleep_until(due) => {}
            }
        }
        // `write` waits as well, but it does not write the end of a stream.
        wait_until_no_blackhole(&mut self.control).await;
    }

    /// Writes a chunk under the current fault. Fails if the fault ends the connection.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        if self.direction == Direction::Requests {
            if self.control.borrow().is_marked_by(bytes) {
                self.link.is_marked.store(true, Ordering::Relaxed);
            }
            self.link.control.send_if_modified(|control| control.match_trigger(bytes));
        }
        let passed = (self.direction == Direction::Replies).then(|| self.filter(bytes));
        let bytes = passed.as_deref().unwrap_or(bytes);
        let (mut rest, mut pieces) = (bytes, 0);
        while !rest.is_empty() {
            let now = self.control.borrow_and_update().clone();
            // A connection that is being cut must relay no more replies, even if the fault is healed.
            if self.direction == Direction::Replies
                && (now.drops_replies || now.ends != self.link.ends_at_accept)
            {
                self.link.counter.add(|hits| hits.lost_bytes += rest.len() as u64);
                return Ok(());
            }
            let piece = &rest[..self.piece_len(&now, rest.len())?];
            if !self.wait_to_write(now.fault, piece).await {
                continue;
            }
            if pieces == 0 && matches!(now.fault, Fault::Slice { .. }) && piece.len() < rest.len() {
                self.link.counter.add(|hits| hits.sliced_chunks += 1);
            }
            let n = tokio::select! {
                biased;
                _ = self.control.changed() => continue,
                written = self.to.write(piece) => written.map_err(|_| End::Over)?,
            };
            (rest, pieces) = (&rest[n..], pieces + 1);
            self.after_piece(now.fault, n, pieces).await?;
        }
        Ok(())
    }

    /// Returns the part of the replies that passes while streams are silent.
    fn filter(&mut self, bytes: &[u8]) -> Vec<u8> {
        let is_silent = self.control.borrow().fault == Fault::SilentStreams;
        let (passed, dropped) = self.frames.pass(bytes, is_silent);
        if dropped > 0 {
            self.link.counter.add(|hits| hits.dropped_frames += dropped);
        }
        passed
    }

    /// Returns how many of `rest` bytes to write at once.
    fn piece_len(&mut self, now: &Control, rest: usize) -> Result<usize, End> {
        let max = match now.fault {
            Fault::Throttle { bytes_per_second } => {
                (bytes_per_second / TICKS_PER_SECOND).max(1) as usize
            }
            Fault::Slice { bytes } => bytes.max(1),
            fault => match self.cut_point(fault) {
                Some((bytes, end)) => {
                    let remaining =
                        self.remaining.filter(|(injection, _)| *injection == now.injections);
                    let (_, remaining) =
                        *self.remaining.insert(remaining.unwrap_or((now.injections, bytes)));
                    if remaining == 0 {
                        return Err(end);
                    }
                    remaining
                }
                None => rest,
            },
        };
        Ok(rest.min(max))
    }

    /// Returns the number of bytes after which `fault` cuts this direction, and how that ends the connection.
    fn cut_point(&self, fault: Fault) -> Option<(usize, End)> {
        match (fault, self.direction) {
            (Fault::CutAfter { bytes }, Direction::Replies) => Some((bytes, End::HalfReply)),
            (Fault::CutRequestsAfter { bytes }, Direction::Requests) => {
                Some((bytes, End::HalfRequest))
            }
            _ => None,
        }
    }

    /// Waits until a piece may be written. Returns false if the fault has changed.
    async fn wait_to_write(&mut self, fault: Fault, piece: &[u8]) -> bool {
        match fault {
            Fault::Blackhole => {
                wait_until_no_blackhole(&mut self.control).await;
                false
            }
            Fault::Throttle { bytes_per_second } => {
                let n = u32::try_from(piece.len()).expect("a piece is smaller than a chunk");
                let duration = Duration::from_secs(1) * n / bytes_per_second.max(1);
                let until = self.busy_until.max(Instant::now()) + duration;
                tokio::select! {
                    biased;
                    _ = self.control.changed() => return false,
                    () = sleep_until(until) => {}
                }
                self.busy_until = until;
                self.link.counter.add(|hits| hits.throttled_bytes += u64::from(n));
                true
            }
            _ => true,
        }
    }

    /// Pauses or ends the connection after a written piece of `n` bytes. `pieces` counts those of the chunk so far.
    async fn after_piece(&mut self, fault: Fault, n: usize, pieces: usize) -> Result<(), End> {
        let (spaced, pause) = PIECE_SPACING;
        match fault {
            Fault::Slice { .. } if pieces <= spaced => sleep(pause).await,
            Fault::Slice { .. } => yield_now().await,
            _ => {
                if let (Some((_, end)), Some((_, remaining))) =
                    (self.cut_point(fault), &mut self.remaining)
                {
                    *remaining -= n;
                    if *remaining == 0 {
                        return Err(end);
                    }
                }
            }
        }
        Ok(())
    }
}
