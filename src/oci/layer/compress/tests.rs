use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::layer::testing::cases;
use crate::{Digest, media_type};

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn compress(input: &[u8], compression: Compression, count: usize, step: usize) -> (LayerBlob, Vec<u8>) {
    let mut writer = LayerWriter::new(Vec::new(), compression, threads(count));
    for piece in input.chunks(step) {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

fn decompress(blob: &[u8]) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    Decompressor::new(blob)?.read_to_end(&mut output)?;
    Ok(output)
}

/// Bytes that look a little like program text: fixed, no crate's generator behind them.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let back = 16 + (state >> 32) as usize % 5000;
        if state.is_multiple_of(3) && bytes.len() > back {
            let from = bytes.len() - back;
            bytes.extend_from_within(from..from + 4 + (state >> 56) as usize % 12);
        } else {
            bytes.extend_from_slice(&(state as u32 & 0x3f3f_3f3f).to_le_bytes());
        }
    }
    bytes.truncate(length);
    bytes
}

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// Digests change only with an encoder's version, level or block size, and [`Compression::identity`] must change with
/// them: otherwise caches would hand out blobs that no build makes any more.
#[test]
fn blobs_have_the_digests_they_always_had() {
    let input = sample(9_500_000);
    assert_eq!(Digest::of(&input).hex(), "c7f12265d5ad0bd910ee5c74c2579359f0c98c2d24dde3cb7ebe8e2a14c0d4b4");
    for (compression, digest) in [
        (Compression::None, "c7f12265d5ad0bd910ee5c74c2579359f0c98c2d24dde3cb7ebe8e2a14c0d4b4"),
        (Compression::Gzip, "fa0b43ad29eb3fafd0d1df93f7e9f38ab49d725704eb44d4263512daaa4b8777"),
        (Compression::Zstd, "ef55ab89603cc34bd93f7b274ee58c91aa7bb16ee5eb3461b37416d04cb6bcf2"),
    ] {
        let (layer, blob) = compress(&input, compression, 2, 77_777);
        assert_eq!(layer.descriptor.digest.hex(), digest, "{}", compression.identity());
        assert_eq!(layer.descriptor.digest, Digest::of(&blob));
        assert_eq!(layer.descriptor.size, blob.len() as u64);
        assert_eq!(layer.diff_id.0, Digest::of(&input));
        assert_eq!(layer.uncompressed_size, input.len() as u64);
    }
}

#[test]
fn identities_name_the_versions_in_use() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = |name: &str| {
        let at = lock.find(&format!("name = \"{name}\"\n")).unwrap();
        lock[at..].lines().nth(1).unwrap().trim_start_matches("version = ").trim_matches('"').to_owned()
    };
    assert!(Compression::Gzip.identity().contains(&format!("libdeflater-{} ", version("libdeflater"))));
    assert_eq!(version("libdeflater"), version("libdeflate-sys"));
    assert!(Compression::Zstd.identity().contains(&format!("zstd-{} ", zstd::zstd_safe::version_string())));
    assert!(Compression::Gzip.identity().ends_with("members-1MiB") && Compression::Gzip.block() == 1 << 20);
    assert!(Compression::Zstd.identity().ends_with("frames-4MiB") && Compression::Zstd.block() == 4 << 20);
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    // Lengths around the block size, and many blocks.
    for length in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 1, (9 << 20) + 77] {
        let input = sample(length);
        for compression in ALL {
            let one = compress(&input, compression, 1, 1 << 20);
            assert_eq!(decompress(&one.1).unwrap(), input, "{compression:?} of {length}");
            for count in [2, 3, 4, 40] {
                assert!(compress(&input, compression, count, 70_001) == one, "{compression:?} of {length} by {count}");
            }
        }
    }
}

#[test]
fn gzip_members_say_nothing_but_data() {
    let (layer, blob) = compress(&sample(2_000_000), Compression::Gzip, 2, 1 << 16);
    assert_eq!(&blob[..10], b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
    assert_eq!(layer.descriptor.media_type, media_type::LAYER_GZIP);
}

#[test]
fn whatever_others_wrote_is_read() {
    let input = sample(300_000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&input).unwrap();
    let gzip = encoder.finish().unwrap();
    assert_eq!(decompress(&gzip).unwrap(), input);
    let zstd = zstd::encode_all(&input[..], 7).unwrap();
    assert_eq!(decompress(&zstd).unwrap(), input);
    // A skippable frame goes in front of some.
    let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd].concat();
    assert_eq!(decompress(&skipped).unwrap(), input);
    assert_eq!(decompress(b"").unwrap(), b"");
    assert_eq!(decompress(b"abc").unwrap(), b"abc");
    assert!(decompress(&gzip[..gzip.len() - 1]).is_err(), "a cut gzip");
    assert!(decompress(&zstd[..zstd.len() - 1]).is_err(), "a cut zstd");
    let mut decompressor = Decompressor::new(&zstd[..]).unwrap();
    assert_eq!(decompressor.compression(), Compression::Zstd);
    io::copy(&mut decompressor, &mut io::sink()).unwrap();
    assert!(decompressor.into_inner().is_empty());
}

/// A sink that takes so many bytes and then has no room.
struct Small(usize);

impl io::Write for Small {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.0 < buf.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= buf.len();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_sink_is_an_error_not_a_hang() {
    let input = sample(9 << 20);
    for compression in ALL {
        for room in [0, 1 << 20] {
            let mut writer = LayerWriter::new(Small(room), compression, threads(3));
            let result = writer.write_all(&input).and_then(|()| writer.finish().map(drop));
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn what_is_compressed_comes_back(
        input in prop::collection::vec(any::<u8>(), 0..50_000), step in 1..9000_usize, count in 1..5_usize,
    ) {
        for compression in ALL {
            prop_assert_eq!(&decompress(&compress(&input, compression, count, step).1).unwrap(), &input);
        }
    }
}
