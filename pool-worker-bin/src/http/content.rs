//! A reply's body, decoded: `gzip`, `deflate`, `br` and `zstd`, one around the other if it must be.
//!
//! A coding is undone when the first byte is asked for, so a body that is empty is empty whatever
//! the head says of it: to `HEAD`, with 204 and 304, and where a server says so without sending
//! any.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use ruzstd::decoding::StreamingDecoder;

/// What servers are told.
pub(super) const OFFERED: &str = "gzip, deflate, br, zstd";
/// One around the other. Each takes memory of its own, and no server has a reason for many.
const MOST: usize = 4;
/// What a decoder reads at once.
const BUFFER_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The body as it was before it was coded. What is coded in a way that is not known here stays so.
pub(super) fn decoded<'a>(
    headers: &HeaderMap,
    body: impl Read + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    let values = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(str::trim);
    let names: Vec<_> =
        names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
    if names.len() > MOST {
        return Err(io::Error::other(format!(
            "it is coded {} times, at most {MOST} are undone",
            names.len()
        )));
    }
    let mut body: Box<dyn Read + 'a> = Box::new(body);
    // The last was put on last.
    for coding in names.into_iter().rev().map_while(Coding::named) {
        body = Box::new(Decoder {
            coding,
            state: State::Fresh(BufReader::with_capacity(BUFFER_BYTES, body)),
        });
    }
    Ok(body)
}

type Source<'a> = BufReader<Box<dyn Read + 'a>>;

struct Decoder<'a> {
    coding: Coding,
    state: State<'a>,
}

enum State<'a> {
    /// Nothing was read yet.
    Fresh(Source<'a>),
    /// It runs.
    Running(Box<dyn Read + 'a>),
    /// There is no more.
    Over,
}

impl Read for Decoder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.begin()?;
        match &mut self.state {
            State::Running(decoder) => decoder.read(out),
            State::Fresh(_) | State::Over => Ok(0),
        }
    }
}

impl<'a> Decoder<'a> {
    fn begin(&mut self) -> io::Result<()> {
        let State::Fresh(source) = &mut self.state else { return Ok(()) };
        let Some(first) = source.fill_buf()?.first().copied() else {
            self.state = State::Over;
            return Ok(());
        };
        let State::Fresh(source) = std::mem::replace(&mut self.state, State::Over) else {
            unreachable!("it was fresh just now")
        };
        self.state = State::Running(start(self.coding, first, source)?);
        Ok(())
    }
}

fn start<'a>(coding: Coding, first: u8, source: Source<'a>) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match coding {
        Coding::Gzip => Box::new(Members::<Gzip<'a>>::new(source)?),
        Coding::Zstd => Box::new(Members::<Zstd<'a>>::new(source)?),
        // By the name it is zlib's format; some servers send what that holds.
        Coding::Deflate => Box::new(Inflate::new(source, first & 0x0f == 8)),
        Coding::Brotli => Box::new(brotli_decompressor::Decompressor::new(source, BUFFER_BYTES)),
    })
}

/// `deflate`. The library's own reader takes a stream that is cut short for a whole one.
struct Inflate<'a> {
    source: Source<'a>,
    state: Decompress,
    over: bool,
}

impl<'a> Inflate<'a> {
    fn new(source: Source<'a>, has_head: bool) -> Self {
        Self { source, state: Decompress::new(has_head), over: false }
    }
}

impl Read for Inflate<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.over && !out.is_empty() {
            let input = self.source.fill_buf()?;
            let is_end = input.is_empty();
            let (taken, given) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, out, FlushDecompress::None)
                .map_err(io::Error::other)?;
            let taken = (self.state.total_in() - taken) as usize;
            let given = (self.state.total_out() - given) as usize;
            self.source.consume(taken);
            self.over = status == Status::StreamEnd;
            if given > 0 {
                return Ok(given);
            }
            if !self.over && (is_end || taken == 0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}

/// A format of which a body may hold several, one after the other.
trait Member<'a>: Read + Sized {
    /// With what each begins.
    const MAGIC: u8;
    fn open(source: Source<'a>) -> io::Result<Self>;
    fn close(self) -> Source<'a>;
}

type Gzip<'a> = GzDecoder<Source<'a>>;

impl<'a> Member<'a> for Gzip<'a> {
    const MAGIC: u8 = 0x1f;
    fn open(source: Source<'a>) -> io::Result<Self> {
        Ok(Self::new(source))
    }
    fn close(self) -> Source<'a> {
        self.into_inner()
    }
}

type Zstd<'a> = StreamingDecoder<Source<'a>, ruzstd::decoding::FrameDecoder>;

impl<'a> Member<'a> for Zstd<'a> {
    const MAGIC: u8 = 0x28;
    fn open(source: Source<'a>) -> io::Result<Self> {
        Self::new(source).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))
    }
    fn close(self) -> Source<'a> {
        self.into_inner()
    }
}

/// All of them as one. Padding, and whatever else follows the last, is nobody's.
struct Members<M> {
    current: Option<M>,
}

impl<'a, M: Member<'a>> Members<M> {
    fn new(source: Source<'a>) -> io::Result<Self> {
        Ok(Self { current: Some(M::open(source)?) })
    }
}

impl<'a, M: Member<'a>> Read for Members<M> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.current {
            let len = member.read(out)?;
            if len > 0 || out.is_empty() {
                return Ok(len);
            }
            let mut source = self.current.take().expect("it was there just now").close();
            if source.fill_buf()?.first() == Some(&M::MAGIC) {
                self.current = Some(M::open(source)?);
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &[u8] = b"what was sent, what was sent, what was sent";
    /// `TEXT` by other implementations: `brotli` and `zstd`.
    const BROTLI: &[u8] = &[
        0x1b, 0x2a, 0x00, 0xf8, 0x1d, 0x09, 0x36, 0x4e, 0x7c, 0x7d, 0xb8, 0x33, 0x54, 0xbb, 0xcd,
        0xd1, 0xdd, 0x69, 0x10, 0x96, 0x30, 0xba, 0x19, 0x56, 0x86, 0x16, 0x4c, 0x85, 0x00, 0xf9,
        0x97, 0xc9, 0x78, 0x00,
    ];
    const ZSTD: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0xad, 0x00, 0x00, 0x78, 0x77, 0x68, 0x61, 0x74, 0x20,
        0x77, 0x61, 0x73, 0x20, 0x73, 0x65, 0x6e, 0x74, 0x2c, 0x20, 0x01, 0x00, 0xc2, 0xcc, 0x3a,
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib() -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(TEXT).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate() -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(TEXT).unwrap();
        encoder.finish().unwrap()
    }

    fn read(codings: &[&str], body: &[u8]) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(CONTENT_ENCODING, coding.parse().unwrap());
        }
        let mut bytes = Vec::new();
        decoded(&headers, body)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn each_coding_is_undone_whatever_the_case_of_its_name() {
        for (name, body) in [
            ("gzip", gzip(TEXT)),
            ("GZIP", gzip(TEXT)),
            ("x-gzip", gzip(TEXT)),
            ("X-Gzip", gzip(TEXT)),
            ("deflate", zlib()),
            ("Deflate", deflate()),
            ("br", BROTLI.to_vec()),
            ("BR", BROTLI.to_vec()),
            ("zstd", ZSTD.to_vec()),
            ("Zstd", ZSTD.to_vec()),
            ("identity", TEXT.to_vec()),
            ("Identity, gzip", gzip(TEXT)),
            ("", TEXT.to_vec()),
        ] {
            assert_eq!(read(&[name], &body).unwrap(), TEXT, "{name}");
            assert_eq!(read(&[name], b"").unwrap(), b"", "{name}: an empty body");
        }
    }

    #[test]
    fn codings_are_undone_in_the_order_opposite_to_their_own() {
        let twice = gzip(&gzip(TEXT));
        assert_eq!(read(&["gzip, gzip"], &twice).unwrap(), TEXT);
        assert_eq!(read(&["gzip", "gzip"], &twice).unwrap(), TEXT);
        assert_eq!(read(&["br, gzip"], &gzip(BROTLI)).unwrap(), TEXT);
        assert!(read(&["gzip, br"], &gzip(BROTLI)).is_err());
    }

    #[test]
    fn what_is_not_known_is_left_as_it_is() {
        assert_eq!(read(&["compress"], TEXT).unwrap(), TEXT);
        assert_eq!(read(&["compress, gzip"], &gzip(TEXT)).unwrap(), TEXT);
        assert_eq!(read(&["gzip, compress"], TEXT).unwrap(), TEXT);
    }

    #[test]
    fn several_members_are_one_body_and_what_follows_them_is_nothing() {
        for (name, one) in [("gzip", gzip(TEXT)), ("zstd", ZSTD.to_vec())] {
            let body = [&one[..], &one, b"\0\0\0"].concat();
            assert_eq!(read(&[name], &body).unwrap(), [TEXT, TEXT].concat(), "{name}");
        }
    }

    #[test]
    fn what_is_cut_short_or_is_something_else_is_an_error() {
        let bodies = [
            ("gzip", gzip(TEXT)),
            ("deflate", zlib()),
            ("br", BROTLI.to_vec()),
            ("zstd", ZSTD.to_vec()),
        ];
        for (name, body) in bodies {
            assert!(read(&[name], &body[..body.len() / 2]).is_err(), "{name}: cut");
            assert!(read(&[name], b"<html>an error page</html>").is_err(), "{name}: no such thing");
        }
    }

    #[test]
    fn a_body_that_is_coded_ever_so_often_is_refused_before_it_is_read() {
        let many = ["gzip"; 5].join(",");
        assert!(read(&[&many], &gzip(TEXT)).unwrap_err().to_string().contains("5 times"));
    }
}
