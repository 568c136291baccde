//! The compressions Debian uses for indexes and package members.

use std::io::{self, BufRead, Read};

/// A compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// None.
    Plain,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// Memory one decoder may take, in bytes: Debian's largest dictionaries are 64 MiB.
const DECODER_MEMORY: u64 = 80 << 20;
/// The same for Zstandard, as the logarithm of its window.
const ZSTD_WINDOW_LOG: u32 = 26;

impl Compression {
    /// The extension of a file so compressed, with its dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
        }
    }

    /// The compression a file's extension stands for; no extension is none.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        [Self::Plain, Self::Gzip, Self::Xz, Self::Zstd].into_iter().find(|it| it.extension() == extension)
    }

    /// Decompresses `reader`, concatenated streams included, within a bounded amount of memory.
    ///
    /// # Errors
    /// Where the decoder cannot be set up.
    pub fn decoder<'a>(self, reader: impl BufRead + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(reader),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(DECODER_MEMORY, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}
