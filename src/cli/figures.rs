//! Figures as people read them.

use notapipe::ByteCount;

/// `512 MiB`, `1.5 GiB`, `300 B`.
pub fn bytes(count: u64) -> String {
    format!("{:#}", ByteCount(count))
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `5s`, `3m 20s`, `2h 5m`, `4d 1h`.
pub fn age(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let bytes: Vec<_> = [0, 1023, 1024, 1536, 512 << 20, u64::MAX].map(bytes).into();
        assert_eq!(
            bytes,
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "512 MiB", "16 EiB"]
        );
        let counts: Vec<_> = [0, 999, 1000, 1_234_567].map(count).into();
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let ages: Vec<_> = [0.9, 59.0, 200.0, 7500.0, 350_000.0].map(age).into();
        assert_eq!(ages, ["0s", "59s", "3m 20s", "2h 5m", "4d 1h"]);
    }
}
