//! The layer writer.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::num::NonZeroUsize;

use super::codec::{Compression, Encoder};
use super::pipeline::Pipeline;
use crate::{Descriptor, DiffId, Digest, Hasher};

/// A layer that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// The blob: media type, digest and length as stored.
    pub descriptor: Descriptor,
    /// The digest of the tar inside.
    pub diff_id: DiffId,
    /// The length of the tar inside, bytes.
    pub uncompressed_size: u64,
}

/// Takes a layer's tar bytes and writes its blob to a sink, in one pass: the diff ID is hashed on one thread, blocks are
/// compressed on others, and the thread that writes does the blob's digest and the sink.
///
/// A layer of less than one block is done without any threads. Memory stays below 70 MB for any number of threads.
/// Dropped without [`LayerWriter::finish`], what it wrote is not a whole blob.
pub struct LayerWriter<W> {
    sink: Hasher<W>,
    compression: Compression,
    threads: NonZeroUsize,
    block: Vec<u8>,
    length: u64,
    /// Started with the first full block.
    pipeline: Option<Pipeline>,
}

impl<W: Write> LayerWriter<W> {
    /// Writes the blob to `sink`, in large pieces, compressing on `threads` threads.
    pub fn new(sink: W, compression: Compression, threads: NonZeroUsize) -> Self {
        Self { sink: Hasher::new(sink), compression, threads, block: Vec::new(), length: 0, pipeline: None }
    }

    /// Ends the layer; gives back the sink, not flushed.
    ///
    /// # Errors
    /// Those of the sink, and of the system when it gives no more threads.
    pub fn finish(mut self) -> io::Result<(LayerBlob, W)> {
        let diff_id = match self.pipeline.take() {
            Some(mut pipeline) => {
                if !self.block.is_empty() {
                    pipeline.submit(self.block, &mut self.sink)?;
                }
                pipeline.finish(&mut self.sink)?
            }
            None => {
                let mut output = Vec::new();
                Encoder::new(self.compression)?.encode(&self.block, &mut output)?;
                self.sink.write_all(&output)?;
                Digest::of(&self.block)
            }
        };
        let (sink, digest, size) = self.sink.into_parts();
        let descriptor = Descriptor::new(self.compression.media_type(), digest, size);
        Ok((LayerBlob { descriptor, diff_id: DiffId(diff_id), uncompressed_size: self.length }, sink))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let size = self.compression.block();
        if self.block.len() == size {
            // Only now is it known that more follows.
            let pipeline = match &mut self.pipeline {
                Some(pipeline) => pipeline,
                none => none.insert(Pipeline::start(self.compression, self.threads)?),
            };
            self.block = pipeline.submit(mem::take(&mut self.block), &mut self.sink)?;
        }
        let count = buf.len().min(size - self.block.len());
        self.block.extend_from_slice(&buf[..count]);
        self.length += count as u64;
        Ok(count)
    }

    /// Does nothing: blocks have a fixed size, so none can be cut short.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W> fmt::Debug for LayerWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerWriter")
            .field("compression", &self.compression)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
