//! Reading layers, however they are compressed.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::Compression;

/// Reads the tar inside a blob: gzip of one or many members, zstd of one or many frames, or no compression, told by the
/// first bytes.
pub struct Decompressor<R: Read> {
    form: Form<BufReader<io::Chain<Cursor<Vec<u8>>, R>>>,
}

#[expect(clippy::large_enum_variant, reason = "there is one of them for a whole layer")]
enum Form<B: BufRead> {
    None(B),
    Gzip(MultiGzDecoder<B>),
    Zstd(zstd::Decoder<'static, B>),
}

const INPUT_BUFFER: usize = 128 * 1024;

impl<R: Read> Decompressor<R> {
    /// Looks at the first bytes of `source`.
    ///
    /// # Errors
    /// Those of the source.
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut magic)?;
        let compression = detect(&magic);
        let source = BufReader::with_capacity(INPUT_BUFFER, Cursor::new(magic).chain(source));
        let form = match compression {
            Compression::None => Form::None(source),
            Compression::Gzip => Form::Gzip(MultiGzDecoder::new(source)),
            Compression::Zstd => Form::Zstd(zstd::Decoder::with_buffer(source)?),
        };
        Ok(Self { form })
    }

    /// What was found.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        match self.form {
            Form::None(_) => Compression::None,
            Form::Gzip(_) => Compression::Gzip,
            Form::Zstd(_) => Compression::Zstd,
        }
    }

    /// The source back, wherever it stands.
    pub fn into_inner(self) -> R {
        let source = match self.form {
            Form::None(source) => source,
            Form::Gzip(decoder) => decoder.into_inner(),
            Form::Zstd(decoder) => decoder.finish(),
        };
        source.into_inner().into_inner().1
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.form {
            Form::None(source) => source.read(buf),
            Form::Gzip(decoder) => decoder.read(buf),
            Form::Zstd(decoder) => decoder.read(buf),
        }
    }
}

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").field("compression", &self.compression()).finish_non_exhaustive()
    }
}

fn detect(magic: &[u8]) -> Compression {
    match magic {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A frame, or one of the sixteen kinds of frames to skip.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        _ => Compression::None,
    }
}
