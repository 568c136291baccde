//! The encoders.

use std::io;

use crate::media_type;

/// How layers are compressed. Encoder, level and block size are pinned, so that equal trees have equal digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, which everything reads.
    #[default]
    Gzip,
    /// zstd: smaller and several times faster, but Docker up to 20.10 cannot read it.
    Zstd,
}

const GZIP_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// Names everything the compressed bytes depend on besides the input; belongs into the key of whatever caches
    /// them. A test holds it to the versions in use.
    #[must_use]
    pub const fn identity(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip libdeflater-1.26.1 level-6 members-1MiB",
            Self::Zstd => "zstd zstd-1.5.7 level-3 frames-4MiB",
        }
    }

    /// The media type of layers compressed so.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::LAYER,
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
        }
    }

    /// Bytes of input that are compressed at a time.
    pub(super) const fn block(self) -> usize {
        match self {
            Self::None | Self::Gzip => 1 << 20,
            Self::Zstd => 4 << 20,
        }
    }
}

/// Compresses blocks, one after the other, each on its own.
pub(super) enum Encoder {
    None,
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip => {
                let level = libdeflater::CompressionLvl::new(GZIP_LEVEL).expect("libdeflate has levels up to 12");
                Self::Gzip(libdeflater::Compressor::new(level))
            }
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }

    /// Replaces `output` by the compressed form of `input`.
    pub(super) fn encode(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        output.clear();
        match self {
            Self::None => output.extend_from_slice(input),
            Self::Gzip(compressor) => {
                output.resize(compressor.gzip_compress_bound(input.len()), 0);
                let length = compressor.gzip_compress(input, output).expect("the bound is enough for any input");
                output.truncate(length);
            }
            Self::Zstd(compressor) => {
                output.reserve(zstd::zstd_safe::compress_bound(input.len()));
                compressor.compress_to_buffer(input, output)?;
            }
        }
        Ok(())
    }
}
