//! Text inside a JSON string.

/// Appends Latin-1 text as the inside of a JSON string.
pub(super) fn write_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |byte: u8| (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
    let mut rest = bytes;
    while let Some(stop) = rest.iter().position(|byte| !plain(*byte)) {
        out.extend_from_slice(&rest[..stop]);
        let byte = rest[stop];
        if byte >= 0x80 {
            out.extend_from_slice(&[0xC0 | (byte >> 6), 0x80 | (byte & 0x3F)]);
        } else {
            write_escape(out, u16::from(byte));
        }
        rest = &rest[stop + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends UTF-16 text as the inside of a JSON string; a lone surrogate is escaped, as `JSON.stringify` does.
pub(super) fn write_utf16(out: &mut Vec<u8>, units: &[u16]) {
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(char) if char >= ' ' && char != '"' && char != '\\' => {
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            Ok(char) => write_escape(out, u16::try_from(u32::from(char)).expect("these are ASCII")),
            Err(lone) => write_escape(out, lone.unpaired_surrogate()),
        }
    }
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
}
