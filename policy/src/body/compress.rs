//! Compresses bodies.

use std::io::{self, Write};

use brotli::{CompressorWriter, enc::BrotliEncoderParams};
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};

use super::Algorithm;

/// Compresses a body.
pub struct Compressor {
    coding: Option<Coding>,
    /// Something was taken that is not given out.
    held: bool,
}

enum Coding {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Deflate(Box<ZlibEncoder<Vec<u8>>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
}

/// As fast as it is worth: what is compressed as it goes out is compressed once for each caller.
const LEVEL: u32 = 5;
/// A window of 256 KiB: memory of a body is bounded by it.
const BROTLI_WINDOW: i32 = 18;
const BROTLI_QUALITY: i32 = 4;

impl core::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compressor").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Returns one for a body.
    pub fn new(algorithm: Algorithm) -> Self {
        let coding = match algorithm {
            Algorithm::Gzip => Coding::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(LEVEL)))),
            Algorithm::Deflate => Coding::Deflate(Box::new(ZlibEncoder::new(Vec::new(), Compression::new(LEVEL)))),
            Algorithm::Brotli => {
                let params =
                    BrotliEncoderParams { quality: BROTLI_QUALITY, lgwin: BROTLI_WINDOW, ..Default::default() };
                Coding::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), 4_096, &params)))
            }
        };
        Self { coding: Some(coding), held: false }
    }

    /// Takes octets, and appends what is ready.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.held |= !octets.is_empty();
        self.write(out, |coding| coding.write_all(octets));
    }

    /// Appends all that was taken: nothing more comes for a while.
    pub fn pause(&mut self, out: &mut Vec<u8>) {
        if core::mem::take(&mut self.held) {
            self.write(out, |coding| coding.flush());
        }
    }

    /// Ends the body, and appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.held = false;
        match self.coding.take() {
            Some(Coding::Gzip(coding)) => out.extend(coding.finish().unwrap_or_default()),
            Some(Coding::Deflate(coding)) => out.extend(coding.finish().unwrap_or_default()),
            Some(Coding::Brotli(coding)) => out.extend(coding.into_inner()),
            None => {}
        }
    }

    fn write(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let (written, made) = match &mut self.coding {
            Some(Coding::Gzip(coding)) => (write(&mut **coding), coding.get_mut()),
            Some(Coding::Deflate(coding)) => (write(&mut **coding), coding.get_mut()),
            Some(Coding::Brotli(coding)) => (write(&mut **coding), coding.get_mut()),
            None => return,
        };
        debug_assert!(written.is_ok(), "a vector takes everything");
        out.append(made);
    }
}
