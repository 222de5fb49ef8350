//! Order numbers that people can read aloud: `BX-7K3M9-QTD4X`, fifty random bits without letters
//! that look like digits.

/// A number from fifty of the bits in `random`.
#[must_use]
pub fn from_bits(random: u64) -> String {
    let digit = |place: u32| {
        let five = (random >> (5 * place)) & 31;
        char::from(ALPHABET[usize::try_from(five).unwrap_or_default()])
    };
    let group = |from: u32| (from..from + 5).map(digit).collect::<String>();
    format!("{PREFIX}-{}-{}", group(0), group(5))
}

/// The number as it is stored, out of what somebody typed; `None` when it cannot be one.
#[must_use]
pub fn normal(typed: &str) -> Option<String> {
    let mut digits = String::new();
    for letter in typed.chars().filter(|letter| !matches!(letter, '-' | ' ')) {
        digits.push(match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            plain if plain.is_ascii_alphanumeric() => plain,
            _ => return None,
        });
    }
    let digits = digits.strip_prefix(PREFIX).unwrap_or(&digits);
    (digits.len() == 10).then(|| format!("{PREFIX}-{}-{}", &digits[..5], &digits[5..]))
}

const PREFIX: &str = "BX";
/// Crockford's base 32.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_being_read_aloud() {
        for random in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let number = from_bits(random);
            assert_eq!(normal(&number), Some(number.clone()));
            let typed = number.to_lowercase().replace('-', " ").replace('0', "o");
            assert_eq!(normal(&typed), Some(number));
        }
        for typed in ["", "BX", "BX-1234", "BX-12345-6789é", "BX-12345-67890-1"] {
            assert_eq!(normal(typed), None, "{typed}");
        }
    }
}
