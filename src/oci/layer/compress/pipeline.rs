//! The threads behind a layer writer.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::codec::{Compression, Encoder};
use crate::{Digest, Hasher};

/// Blocks under way in each lane: one being compressed, one waiting.
const DEPTH: usize = 2;
/// What blocks under way may take in all, input and output.
const MEMORY: usize = 64 << 20;

/// One thread that hashes, and lanes that compress. Block `n` goes to lane `n % lanes` and comes back from there, which
/// keeps the order without any sorting.
pub(super) struct Pipeline {
    hasher: Worker<Arc<Vec<u8>>, Digest>,
    lanes: Vec<Worker<Job, io::Result<Job>>>,
    submitted: usize,
    drained: usize,
    spare: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

struct Job {
    input: Arc<Vec<u8>>,
    output: Vec<u8>,
}

struct Worker<I, O> {
    work: SyncSender<I>,
    done: Receiver<O>,
}

impl Pipeline {
    pub(super) fn start(compression: Compression, threads: NonZeroUsize) -> io::Result<Self> {
        let most = MEMORY / (DEPTH * 2 * compression.block());
        let lanes = match compression {
            Compression::None => 0,
            Compression::Gzip | Compression::Zstd => threads.get().min(most),
        };
        // The hasher is by far the faster side; a short queue evens out what the two cores are doing.
        let hasher = Worker::start("layer-hash", 2 * DEPTH, |blocks: Receiver<Arc<Vec<u8>>>, result| {
            let mut hasher = Hasher::new(io::sink());
            for block in blocks {
                io::Write::write_all(&mut hasher, &block).expect("writing to a sink cannot fail");
            }
            // Nobody listens when the writer was dropped.
            let _ = result.send(hasher.finish().0);
        })?;
        let lanes = (0..lanes).map(|_| {
            let mut encoder = Encoder::new(compression)?;
            Worker::start("layer-compress", DEPTH, move |jobs: Receiver<Job>, results| {
                for mut job in jobs {
                    let result = encoder.encode(&job.input, &mut job.output).map(|()| job);
                    if results.send(result).is_err() {
                        return;
                    }
                }
            })
        });
        let lanes = lanes.collect::<io::Result<_>>()?;
        Ok(Self { hasher, lanes, submitted: 0, drained: 0, spare: Vec::new(), outputs: Vec::new() })
    }

    /// Takes a block; writes whatever is finished and in turn to `sink`. Gives an empty block to fill next.
    pub(super) fn submit(&mut self, block: Vec<u8>, sink: &mut impl io::Write) -> io::Result<Vec<u8>> {
        let capacity = block.capacity();
        let block = Arc::new(block);
        self.hasher.send(Arc::clone(&block))?;
        if self.lanes.is_empty() {
            sink.write_all(&block)?;
            self.recycle(block);
        } else {
            if self.submitted - self.drained == self.lanes.len() * DEPTH {
                self.drain(sink)?;
            }
            let lane = self.submitted % self.lanes.len();
            let output = self.outputs.pop().unwrap_or_default();
            self.lanes[lane].send(Job { input: block, output })?;
            self.submitted += 1;
        }
        Ok(self.spare.pop().unwrap_or_else(|| Vec::with_capacity(capacity)))
    }

    /// Writes out the rest and gives the digest of all input.
    pub(super) fn finish(mut self, sink: &mut impl io::Write) -> io::Result<Digest> {
        while self.drained < self.submitted {
            self.drain(sink)?;
        }
        let Worker { work, done } = self.hasher;
        drop(work);
        done.recv().map_err(|_| gone())
    }

    fn drain(&mut self, sink: &mut impl io::Write) -> io::Result<()> {
        let lane = self.drained % self.lanes.len();
        let Job { input, output } = self.lanes[lane].done.recv().map_err(|_| gone())??;
        sink.write_all(&output)?;
        self.drained += 1;
        self.outputs.push(output);
        self.recycle(input);
        Ok(())
    }

    fn recycle(&mut self, block: Arc<Vec<u8>>) {
        // Where the hasher still reads it, it is left to the hasher.
        if let Ok(mut block) = Arc::try_unwrap(block) {
            block.clear();
            self.spare.push(block);
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Worker<I, O> {
    fn start(
        name: &str,
        depth: usize,
        body: impl FnOnce(Receiver<I>, SyncSender<O>) + Send + 'static,
    ) -> io::Result<Self> {
        let (work, jobs) = sync_channel(depth);
        let (results, done) = sync_channel(depth);
        // It ends when the other side's channels are dropped, so nobody needs to wait for it.
        thread::Builder::new().name(name.to_owned()).spawn(move || body(jobs, results))?;
        Ok(Self { work, done })
    }

    fn send(&self, item: I) -> io::Result<()> {
        self.work.send(item).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("a thread that compresses the layer has died")
}
