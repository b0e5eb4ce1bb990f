//! Text inside a JSON string.

/// Characters judged together. Long runs without a special one are by far the most of most texts,
/// and judging a block without a branch per character lets the compiler use vectors.
const BLOCK: usize = 64;
/// Characters judged and then copied: the copy finds them in the first cache.
const SEGMENT: usize = 1024;

/// Whether the byte stands for itself inside a JSON string, in UTF-8 and in Latin-1.
const fn is_plain(byte: u8) -> bool {
    // No short cut: a branch would keep the block from being judged as one.
    (byte >= 0x20) & (byte < 0x80) & (byte != b'"') & (byte != b'\\')
}

const fn is_plain_unit(unit: u16) -> bool {
    (unit >= 0x20) & (unit < 0x80) & (unit != b'"' as u16) & (unit != b'\\' as u16)
}

/// Whether the bytes as they are stand for a text inside a JSON string.
pub(super) fn is_all_plain(bytes: &[u8]) -> bool {
    plain_run(bytes, is_plain) == bytes.len()
}

/// Appends Latin-1 text as the inside of a JSON string.
pub(super) fn write_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    // Two more for the quotes: else the closing one would make a full vector twice as large.
    out.reserve(bytes.len() + 2);
    let mut rest = bytes;
    while !rest.is_empty() {
        let segment = &rest[..rest.len().min(SEGMENT)];
        let run = plain_run(segment, is_plain);
        out.extend_from_slice(&segment[..run]);
        rest = &rest[run..];
        let Some((byte, after)) = rest.split_first().filter(|_| run < segment.len()) else {
            continue;
        };
        if *byte >= 0x80 {
            out.extend_from_slice(&[0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]);
        } else {
            write_escape(out, u16::from(*byte));
        }
        rest = after;
    }
}

/// Appends UTF-16 text as the inside of a JSON string; a lone surrogate is escaped, as
/// `JSON.stringify` does.
pub(super) fn write_utf16(out: &mut Vec<u8>, units: &[u16]) {
    out.reserve(units.len() + 2);
    let mut rest = units;
    while !rest.is_empty() {
        let run = plain_run(rest, is_plain_unit);
        out.extend(rest[..run].iter().map(|unit| *unit as u8));
        rest = &rest[run..];
        let special = rest.iter().position(|unit| is_plain_unit(*unit)).unwrap_or(rest.len());
        for unit in char::decode_utf16(rest[..special].iter().copied()) {
            match unit {
                Ok(char) if char >= ' ' && char != '"' && char != '\\' => {
                    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Ok(char) => {
                    write_escape(out, u16::try_from(u32::from(char)).expect("these are ASCII"))
                }
                Err(lone) => write_escape(out, lone.unpaired_surrogate()),
            }
        }
        rest = &rest[special..];
    }
}

/// How many plain characters there are before the first other one.
fn plain_run<T: Copy>(text: &[T], plain: impl Fn(T) -> bool) -> usize {
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let all_plain = |block: &&[T; BLOCK]| block.iter().fold(true, |all, unit| all & plain(*unit));
    let judged = blocks.iter().take_while(all_plain).count() * BLOCK;
    let rest = &text[judged..];
    judged + rest.iter().position(|unit| !plain(*unit)).unwrap_or(rest.len())
}

fn write_escape(out: &mut Vec<u8>, unit: u16) {
    use std::io::Write as _;
    let short = match unit {
        0x08 => b'b',
        0x09 => b't',
        0x0A => b'n',
        0x0C => b'f',
        0x0D => b'r',
        0x22 => b'"',
        0x5C => b'\\',
        _ => {
            write!(out, "\\u{unit:04x}").expect("a vector takes any bytes");
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_and_lone_surrogates_survive() {
        let mut out = Vec::new();
        write_latin1(&mut out, b"a\"b\\c\n\x01\xe9");
        assert_eq!(String::from_utf8_lossy(&out), "a\\\"b\\\\c\\n\\u0001é");
        out.clear();
        write_utf16(&mut out, &[0x61, 0xD83D, 0xDE00, 0xD800, 0x22, 0xDC00]);
        assert_eq!(String::from_utf8_lossy(&out), "a😀\\ud800\\\"\\udc00");
    }

    #[test]
    fn a_special_character_is_found_wherever_it_stands_in_a_block() {
        let length = SEGMENT + 2 * BLOCK + 5;
        for special in ['"', '\\', '\n', '\u{7f}', '\u{e9}', 'ß'] {
            for at in (0..2 * BLOCK).chain(SEGMENT - 2..length) {
                let text: String =
                    (0..length).map(|i| if i == at { special } else { 'x' }).collect();
                let wanted = serde_json::to_string(&text).expect("a string is JSON");
                let mut narrow = vec![b'"'];
                let latin1: Vec<u8> = text.chars().map(|char| char as u8).collect();
                write_latin1(&mut narrow, &latin1);
                narrow.push(b'"');
                assert_eq!(String::from_utf8_lossy(&narrow), wanted);
                let mut wide = vec![b'"'];
                write_utf16(&mut wide, &text.encode_utf16().collect::<Vec<_>>());
                wide.push(b'"');
                assert_eq!(String::from_utf8_lossy(&wide), wanted);
            }
        }
    }
}
