//! Numbers as JavaScript prints them, for JSON and for the console.

/// Appends the number as `JSON.stringify` would: the shortest digits that read back as the same
/// number.
pub(super) fn write(out: &mut Vec<u8>, value: f64) {
    use std::io::Write as _;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "the comparison is what tells whether the conversion was exact"
    )]
    if value.abs() < 9e15 && value == (value as i64) as f64 {
        write!(out, "{}", value as i64).expect("a vector takes any bytes");
        return;
    }
    // "d.ddde±x": the digits are right, only their arrangement differs from JavaScript's.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.extend_from_slice(sign.as_bytes());
    let digits: Vec<u8> = mantissa.bytes().filter(|byte| *byte != b'.').collect();
    arrange(out, &digits, exponent);
}

/// Places the point as in ECMAScript's `Number::toString`; `exponent` is that of the first digit.
fn arrange(out: &mut Vec<u8>, digits: &[u8], exponent: i32) {
    use std::io::Write as _;
    let point = exponent + 1;
    match usize::try_from(point) {
        Ok(before) if point <= 21 && before >= digits.len() => {
            out.extend_from_slice(digits);
            out.resize(out.len() + before - digits.len(), b'0');
        }
        Ok(before) if before > 0 && point <= 21 => {
            out.extend_from_slice(&digits[..before]);
            out.push(b'.');
            out.extend_from_slice(&digits[before..]);
        }
        _ if point > -6 && point <= 0 => {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        }
        _ => {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            write!(out, "e{exponent:+}").expect("a vector takes any bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_javascript_prints_them() {
        let cases: [(f64, &str); 17] = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (1.5, "1.5"),
            (-123.456, "-123.456"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (1.5e-9, "1.5e-9"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (4.35, "4.35"),
        ];
        for (value, text) in cases {
            let mut out = Vec::new();
            write(&mut out, value);
            assert_eq!(String::from_utf8_lossy(&out), text, "{value:e}");
        }
    }
}
