//! The grammar of JSON numbers (RFC 8259, section 6), one byte at a time.

/// Which part of a number was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    ExponentSign,
    Exponent,
}

impl Number {
    /// The number that begins with `byte`, a minus or a digit.
    pub(super) fn begin(byte: u8) -> Number {
        match byte {
            b'-' => Number::Minus,
            b'0' => Number::Zero,
            _ => Number::Integer,
        }
    }

    /// The number with `byte` added, unless `byte` cannot go on it.
    #[inline]
    pub(super) fn next(self, byte: u8) -> Option<Number> {
        use Number::*;
        match (self, byte) {
            (Integer, b'0'..=b'9') => Some(Integer),
            (Fraction | Point, b'0'..=b'9') => Some(Fraction),
            (Exponent | ExponentSign | E, b'0'..=b'9') => Some(Exponent),
            (Minus, b'0') => Some(Zero),
            (Minus, b'1'..=b'9') => Some(Integer),
            (Zero | Integer, b'.') => Some(Point),
            (Zero | Integer | Fraction, b'e' | b'E') => Some(E),
            (E, b'+' | b'-') => Some(ExponentSign),
            _ => None,
        }
    }

    /// Whether a number may end here.
    pub(super) fn is_whole(self) -> bool {
        match self {
            Number::Zero | Number::Integer | Number::Fraction | Number::Exponent => true,
            Number::Minus | Number::Point | Number::E | Number::ExponentSign => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> bool {
        let (first, rest) = text.as_bytes().split_first().unwrap();
        rest.iter().try_fold(Number::begin(*first), |number, byte| number.next(*byte)).is_some_and(Number::is_whole)
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for good in
            ["0", "-0", "10", "1.5", "0.0", "1e5", "1E+5", "1e-05", "-1.25e10", "123456789012345678901234567890"]
        {
            assert!(whole(good), "{good}");
        }
        for bad in ["-", "01", "-01", "1.", "1e", "1e+", "1.e5", "0x1", "--1", "1.5.5", "1e5.5", "1-"] {
            assert!(!whole(bad), "{bad}");
        }
    }
}
