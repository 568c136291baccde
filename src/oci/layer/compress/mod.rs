//! From tar bytes to a blob and back.
//!
//! Compressed bytes depend on the input and on [`Compression::identity`] alone: the input is cut into blocks of a fixed
//! size, each becomes a gzip member or zstd frame of its own, and they are joined in order, however many threads made
//! them. Spec: RFC 1952 §2.2 (a gzip file is a series of members); RFC 8878 §3 (zstd frames likewise).

mod codec;
mod decompress;
mod hashing;
mod pipeline;
mod write;

pub use codec::Compression;
pub use decompress::Decompressor;
pub(crate) use hashing::HashingReader;
pub use write::{LayerBlob, LayerWriter};

#[cfg(test)]
mod tests;
