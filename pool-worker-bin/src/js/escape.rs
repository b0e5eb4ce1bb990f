//! Text inside a JSON string.

/// Characters looked at together. Long runs without a special one are by far the most of most texts, and judging a block
/// without a branch per character lets the compiler use vectors.
const BLOCK: usize = 32;

/// Whether the character stands for itself inside a JSON string and is one byte of UTF-8.
const fn is_plain(unit: u16) -> bool {
    unit >= 0x20 && unit < 0x80 && unit != b'"' as u16 && unit != b'\\' as u16
}

/// Appends Latin-1 text as the inside of a JSON string.
pub(super) fn write_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    // Two more for the quotes: else the closing one would make a full vector twice as large.
    out.reserve(bytes.len() + 2);
    let plain = |byte: &u8| is_plain(u16::from(*byte));
    let mut rest = bytes;
    while !rest.is_empty() {
        let run = plain_run(rest, plain);
        out.extend_from_slice(&rest[..run]);
        let Some(byte) = rest.get(run) else { return };
        if *byte >= 0x80 {
            out.extend_from_slice(&[0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]);
        } else {
            write_escape(out, u16::from(*byte));
        }
        rest = &rest[run + 1..];
    }
}

/// Appends UTF-16 text as the inside of a JSON string; a lone surrogate is escaped, as `JSON.stringify` does.
pub(super) fn write_utf16(out: &mut Vec<u8>, units: &[u16]) {
    out.reserve(units.len() + 2);
    let plain = |unit: &u16| is_plain(*unit);
    let mut rest = units;
    while !rest.is_empty() {
        let run = plain_run(rest, plain);
        out.extend(rest[..run].iter().map(|unit| *unit as u8));
        rest = &rest[run..];
        let special = rest.iter().position(plain).unwrap_or(rest.len());
        for unit in char::decode_utf16(rest[..special].iter().copied()) {
            match unit {
                Ok(char) if char >= ' ' && char != '"' && char != '\\' => {
                    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Ok(char) => write_escape(out, u16::try_from(u32::from(char)).expect("these are ASCII")),
                Err(lone) => write_escape(out, lone.unpaired_surrogate()),
            }
        }
        rest = &rest[special..];
    }
}

/// How many plain characters there are before the first other one.
fn plain_run<T>(text: &[T], plain: impl Fn(&T) -> bool) -> usize {
    let blocks = text.chunks_exact(BLOCK).take_while(|block| block.iter().fold(true, |all, unit| all & plain(unit)));
    let judged = blocks.count() * BLOCK;
    let rest = &text[judged..];
    judged + rest.iter().position(|unit| !plain(unit)).unwrap_or(rest.len())
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
        let length = 3 * BLOCK + 5;
        for special in ['"', '\\', '\n', '\u{7f}', '\u{e9}', 'ß'] {
            for at in 0..length {
                let text: String = (0..length).map(|i| if i == at { special } else { 'x' }).collect();
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
