//! Decimal digits.

/// Returns whether the text consists of digits, at least one.
#[inline(always)]
pub(super) fn are_digits(text: &[u8]) -> bool {
    for byte in text {
        if !byte.is_ascii_digit() {
            return false;
        }
    }
    !text.is_empty()
}
