//! Compressions: what stands between a tar and its bytes.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzReader, XzWriter};

use super::Format;

/// What an archive may make us hold in any case: `xz -9` takes 64 MiB, and zstd 128 MiB unless told otherwise.
const LEAST_MEMORY_BYTES: u64 = 128 << 20;
/// The windows of zstd that are larger than others (`zstd --long`), as powers of two.
const LARGE_WINDOWS: std::ops::RangeInclusive<u32> = 27..=31;
/// Preset 6, which xz(1) takes, is five times as slow here and makes archives hardly smaller.
const XZ_PRESET: u32 = 3;
const READ_BYTES: usize = 128 << 10;

/// The tar in a stream of this format; a zip is no stream. An archive that needs more than `memory_bytes` to be read
/// [is refused](is_short_of_memory), unless that is no more than archives commonly need.
pub(super) fn decoder<'r>(
    format: Format,
    reader: impl Read + 'r,
    memory_bytes: u64,
) -> io::Result<Box<dyn Read + 'r>> {
    let memory_bytes = memory_bytes.max(LEAST_MEMORY_BYTES);
    let reader = BufReader::with_capacity(READ_BYTES, reader);
    Ok(match format {
        Format::Tar | Format::Zip => Box::new(reader),
        Format::TarGz => Box::new(MultiGzDecoder::new(reader)),
        Format::TarZst => {
            let (least, most) = LARGE_WINDOWS.into_inner();
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(memory_bytes.ilog2().clamp(least, most))?;
            Box::new(decoder)
        }
        Format::TarXz => {
            let kib = u32::try_from(memory_bytes >> 10).unwrap_or(u32::MAX);
            Box::new(XzReader::new_mem_limit(reader, true, kib))
        }
    })
}

/// Whether a decoder has refused for want of memory. That of zstd tells in words only (its error_private.c).
pub(super) fn is_short_of_memory(error: &io::Error) -> bool {
    let by_zstd = [
        "Frame requires too much memory for decoding",
        "Allocation error : not enough memory",
    ];
    error.kind() == io::ErrorKind::OutOfMemory || by_zstd.contains(&&*error.to_string())
}

/// Takes a tar and writes it compressed. Must be [finished](Self::finish).
pub(super) enum Encoder<W: Write> {
    Plain(W),
    Gz(GzEncoder<W>),
    Zst(zstd::stream::write::Encoder<'static, W>),
    Xz(Box<XzWriter<W>>),
}

impl<W: Write> Encoder<W> {
    pub(super) fn new(format: Format, writer: W) -> io::Result<Self> {
        Ok(match format {
            Format::Tar | Format::Zip => Self::Plain(writer),
            Format::TarGz => Self::Gz(GzEncoder::new(writer, Compression::default())),
            Format::TarZst => Self::Zst(zstd::stream::write::Encoder::new(
                writer,
                zstd::DEFAULT_COMPRESSION_LEVEL,
            )?),
            Format::TarXz => Self::Xz(Box::new(XzWriter::new(
                writer,
                XzOptions::with_preset(XZ_PRESET),
            )?)),
        })
    }

    /// Writes what is left and gives the writer back.
    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(writer) => Ok(writer),
            Self::Gz(encoder) => encoder.finish(),
            Self::Zst(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(bytes),
            Self::Gz(encoder) => encoder.write(bytes),
            Self::Zst(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.flush(),
            Self::Gz(encoder) => encoder.flush(),
            Self::Zst(encoder) => encoder.flush(),
            Self::Xz(encoder) => encoder.flush(),
        }
    }
}
