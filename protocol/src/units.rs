//! Times and sizes as people write them: `30000` or `"30s"`, `1048576` or `"64MiB"`.

use crate::limits::MAX_DURATION_MS;

/// A text or number that is no time or size; completes "failed to read …".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnitError {
    /// Not a number with a known unit.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What was written.
        text: String,
        /// What is understood, with an example.
        expected: &'static str,
    },
    /// Over the bound.
    #[error("{text:?} is more than {max}")]
    TooLarge {
        /// What was written.
        text: String,
        /// The bound.
        max: &'static str,
    },
}

const DURATION: &str = "a time: milliseconds as a number, or a text such \
    as \"250ms\", \"30s\", \"5m\", \"1h\", \"2d\"";
const SIZE: &str =
    "a size: bytes as a number, or a text such as \"64KiB\", \"512MiB\", \"1GiB\", \"10MB\"";

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

/// Reads a time in milliseconds. A plain number is milliseconds.
///
/// # Errors
/// [`UnitError`] when it is malformed, negative, or over 30 days.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let malformed = || UnitError::Malformed { text: text.to_owned(), expected: DURATION };
    let (number, unit) = split(text).ok_or_else(malformed)?;
    let scale = match unit {
        "" | "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return Err(malformed()),
    };
    let ms = (number * scale).round();
    if ms > MAX_DURATION_MS as f64 {
        return Err(UnitError::TooLarge { text: text.to_owned(), max: "30 days" });
    }
    Ok(ms as u64)
}

/// Reads a size in bytes. A plain number is bytes.
///
/// # Errors
/// [`UnitError`] when it is malformed, negative, or over 1 PiB.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let malformed = || UnitError::Malformed { text: text.to_owned(), expected: SIZE };
    let (number, unit) = split(text).ok_or_else(malformed)?;
    let scale: f64 = match unit {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return Err(malformed()),
    };
    let bytes = (number * scale).round();
    if bytes > 1_125_899_906_842_624.0 {
        return Err(UnitError::TooLarge { text: text.to_owned(), max: "1 PiB" });
    }
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_carry_a_unit() {
        for (text, ms) in [
            ("250", 250),
            ("250ms", 250),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("30d", MAX_DURATION_MS),
        ] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "s", "-1", "1 fortnight", "31d", "NaN", "1e3", "1.2.3s"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_carry_a_unit() {
        for (text, bytes) in
            [("64", 64), ("64KiB", 65_536), ("1.5 MiB", 1_572_864), ("10MB", 10_000_000)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1mb", "2000TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
