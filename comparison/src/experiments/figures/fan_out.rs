//! The time and memory to broadcast one change to 10,000 subscribers.

use crate::harness::{
    CountdownLatch, Figure, Figures, Heap, ServiceFixture, as_f64, in_turns, one_thread,
    two_threads,
};
use crate::workloads::spread::subscribe;
use crate::workloads::{Spread, Subscription};
use anyhow::{Result, ensure};
use futures_util::{FutureExt, StreamExt};
use registry_core::Record;
use std::sync::Arc;

const MANY: usize = 10_000;

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let rounds = if quick { 11 } else { 101 };
    for (label, runtime) in
        [("a change, 1 thread", one_thread()?), ("a change, 2 threads", two_threads()?)]
    {
        runtime.block_on(compare(&mut figures, label, rounds))?;
    }
    one_thread()?.block_on(async {
        if Heap::IS_COUNTED {
            copies(&mut figures).await?;
            footprint(&mut figures).await?;
        } else {
            figures.note("bytes are counted with `--features heap`");
        }
        anyhow::Ok(())
    })?;
    figures.note(
        "from before the call of `register`, or before the first send, until the last task has it",
    );
    figures.note("mpsc: a tokio mpsc channel for each task, with an `Arc` per message");
    Ok(figures)
}

/// Measures the time in turns.
async fn compare(figures: &mut Figures, label: &str, rounds: usize) -> Result<()> {
    let arms = [Subscription::Mpsc, Subscription::Updates, Subscription::Changed];
    let mut spreads = Vec::new();
    for arm in arms {
        spreads.push(Spread::new(arm, 100, MANY).await?);
    }
    let samples = in_turns(rounds, async |arm: usize| {
        Ok(spreads[arm % arms.len()].change().await?.as_secs_f64() * 1e3)
    })
    .await?;
    let [mpsc, updates, changed] = arms.map(Subscription::name);
    figures.add_turns(label, [mpsc, updates, changed, mpsc], &samples, "ms", |x| x.at_most(1.3));
    Ok(())
}

/// Counts the allocated bytes of a change: one copy of the snapshot for all readers.
async fn copies(figures: &mut Figures) -> Result<()> {
    for subscription in [Subscription::Updates, Subscription::Changed] {
        let cost = async |instances, subscribers| {
            let mut spread = Spread::new(subscription, instances, subscribers).await?;
            let mut least = f64::INFINITY; // a queue may grow
            for _ in 0..40 {
                let heap = Heap::now();
                spread.change().await?;
                least = least.min(as_f64(heap.allocated()));
            }
            anyhow::Ok(least)
        };
        let few = cost(100, 100).await?;
        let (many, larger) = (cost(100, MANY).await?, cost(1_100, MANY).await?);
        let name = |figure: &str| format!("{}: a change, {figure}", subscription.name());
        figures.add(Figure::counted(name("100 instances, in all"), many, "B"));
        let (each, record) = ((larger - many) / 1_000.0, as_f64(size_of::<Record>()));
        figures.add(Figure::counted(name("for each instance"), each, "B").exactly(record));
        let each = (many - few) / as_f64(MANY as u64 - 100);
        figures.add(Figure::counted(name("for each subscriber"), each, "B").exactly(0.0));
    }
    Ok(())
}

/// Counts the bytes that a subscriber holds.
async fn footprint(figures: &mut Figures) -> Result<()> {
    let each = |grown: f64| grown / as_f64(MANY);
    let fixture = ServiceFixture::new(100).await?;
    let mut streams = Vec::with_capacity(MANY);
    let heap = Heap::now();
    for _ in 0..MANY {
        let mut updates = fixture.view.updates();
        ensure!(updates.next().now_or_never().is_some(), "the first update is the state");
        ensure!(updates.next().now_or_never().is_none(), "an update came without a change");
        streams.push(updates);
    }
    let size = as_f64(size_of_val(&streams[0]) as u64);
    let figure = Figure::counted("updates(): a subscriber", each(heap.grown()) + size, "B");
    figures.add(figure.at_most(1023.0));
    for subscription in [Subscription::Updates, Subscription::Changed] {
        let fixture = ServiceFixture::new(100).await?;
        let latch = Arc::new(CountdownLatch::default());
        let heap = Heap::now();
        let _tasks = subscribe(&fixture.view, subscription, MANY, &latch).await?;
        let figure = format!("{}: a subscriber and its task", subscription.name());
        figures.add(Figure::counted(figure, each(heap.grown()), "B").at_most(1023.0));
    }
    Ok(())
}
