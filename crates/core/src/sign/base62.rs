//! Timestamps in base 62, digits before capitals before small letters, as Django writes them.

/// Writes `number`.
pub(super) fn encode(number: i64) -> String {
    let mut left = number.unsigned_abs();
    let mut digits = Vec::new();
    loop {
        digits.push(DIGITS[usize::try_from(left % 62).expect("a digit is under 62")]);
        left /= 62;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        digits.push(b'-');
    }
    digits.iter().rev().copied().map(char::from).collect()
}

/// Reads what [`encode`] writes; `None` for anything else and for what does not fit.
pub(super) fn decode(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0_i64, |number, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number.checked_mul(62)?.checked_add(sign * i64::try_from(digit).ok()?)
    })
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_as_django_writes_them() {
        for (number, text) in
            [(0, "0"), (61, "z"), (62, "10"), (-62, "-10"), (1_700_000_000, "1r31eq")]
        {
            assert_eq!(encode(number), text);
            assert_eq!(decode(text), Some(number));
        }
        assert_eq!(decode(&encode(i64::MIN)), Some(i64::MIN));
        for bad in ["", "-", "a b", "é", "zzzzzzzzzzzz"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_number_comes_back(number: i64) {
            prop_assert_eq!(decode(&encode(number)), Some(number));
        }
    }
}
