//! Compressions: what stands between a tar and its bytes.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzReader, XzWriter};

use super::Format;

/// What an xz archive may make us hold: its `-9` takes 64 MiB.
const XZ_MEMORY_KIB: u32 = 192 << 10;
/// As fast as it gets without becoming much larger: 6, which xz(1) takes, is five times as slow here.
const XZ_PRESET: u32 = 3;
const READ_BYTES: usize = 128 << 10;

/// The tar in a stream of this format; a zip is no stream.
pub(super) fn decoder<'r>(
    format: Format,
    reader: impl Read + 'r,
) -> io::Result<Box<dyn Read + 'r>> {
    let reader = BufReader::with_capacity(READ_BYTES, reader);
    Ok(match format {
        Format::Tar | Format::Zip => Box::new(reader),
        Format::TarGz => Box::new(MultiGzDecoder::new(reader)),
        Format::TarZst => Box::new(zstd::stream::read::Decoder::with_buffer(reader)?),
        Format::TarXz => Box::new(XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB)),
    })
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
