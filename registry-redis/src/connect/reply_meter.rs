//! Limits on the replies of a server. The parser of the redis crate has none: it allocates an array as long
//! as its header says, and buffers a reply of any size.

use std::fmt;

/// The limit of a reply in bytes. A page of 1,000 records of 64 KiB, the largest, has half of that.
pub(super) const MAX_REPLY: u64 = 128 << 20;

/// The limit of elements per reply, including nested ones. A read of 1,024 log entries has about 15,000 elements.
pub(super) const MAX_ELEMENTS: u64 = 1 << 17;

/// The longest line of an error or a status.
const MAX_LINE: usize = 64 << 10;

/// The longest number: a sign and 19 digits.
const MAX_NUMBER: usize = 20;

/// A violation of the Redis protocol or of the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A reply is larger, or has more elements, than any request needs.
    TooLarge,
    /// The data is no Redis reply. Contains its first bytes.
    NotRedis(Vec<u8>),
}

/// Tracks the frames of replies as their bytes arrive.
#[derive(Debug)]
pub(super) struct ReplyMeter {
    place: Place,
    /// The elements of the reply that are still missing.
    elements_left: u64,
    /// The elements and the bytes of the reply so far.
    elements: u64,
    bytes: u64,
}

/// The element to which the next byte belongs.
#[derive(Debug)]
enum Place {
    Kind,
    Line { len: usize, has_return: bool },
    Number { kind: u8, text: Vec<u8> },
    Bulk { left: u64 },
}

impl ReplyMeter {
    pub(super) fn new() -> Self {
        Self { place: Place::Kind, elements_left: 1, elements: 0, bytes: 0 }
    }

    /// Processes the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while let [first, rest @ ..] = bytes {
            let taken = if let Place::Bulk { left } = &mut self.place {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.end_element();
                }
                taken
            } else {
                self.take_byte(*first, rest)?;
                1
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Returns whether the next byte begins a reply.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_between_replies(&self) -> bool {
        matches!(self.place, Place::Kind) && (self.elements, self.bytes) == (0, 0)
    }

    fn take_byte(&mut self, byte: u8, rest: &[u8]) -> Result<(), Violation> {
        self.count_bytes(1)?;
        match &mut self.place {
            Place::Kind => {
                self.place = match byte {
                    b'+' | b'-' => Place::Line { len: 0, has_return: false },
                    b':' | b'$' | b'*' => Place::Number { kind: byte, text: Vec::new() },
                    _ => {
                        let rest = &rest[..rest.len().min(39)];
                        return Err(Violation::NotRedis([&[byte], rest].concat()));
                    }
                };
            }
            Place::Line { has_return: true, .. } if byte == b'\n' => self.end_element(),
            Place::Line { len, has_return } => {
                (*len, *has_return) = (*len + 1, byte == b'\r');
                if *len > MAX_LINE {
                    return Err(Violation::TooLarge);
                }
            }
            Place::Number { kind, text } if byte == b'\n' => {
                let line = str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\r'));
                let Some(number) = line.and_then(|number| number.parse().ok()) else {
                    return Err(Violation::NotRedis(std::mem::take(text)));
                };
                let kind = *kind;
                self.begin(kind, number)?;
            }
            Place::Number { text, .. } => {
                text.push(byte);
                if text.len() > MAX_NUMBER + 1 {
                    return Err(Violation::NotRedis(std::mem::take(text)));
                }
            }
            Place::Bulk { .. } => {}
        }
        Ok(())
    }

    /// Begins the element that the header announces.
    fn begin(&mut self, kind: u8, number: i64) -> Result<(), Violation> {
        match (kind, u64::try_from(number)) {
            (b'$', Ok(len)) => {
                self.count_bytes(len.saturating_add(2))?;
                self.place = Place::Bulk { left: len + 2 };
            }
            (b'*', Ok(len)) => {
                self.elements = self.elements.saturating_add(len);
                if self.elements > MAX_ELEMENTS {
                    return Err(Violation::TooLarge);
                }
                self.elements_left += len;
                self.end_element();
            }
            _ => self.end_element(),
        }
        Ok(())
    }

    fn count_bytes(&mut self, bytes: u64) -> Result<(), Violation> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_REPLY { Err(Violation::TooLarge) } else { Ok(()) }
    }

    fn end_element(&mut self) {
        self.place = Place::Kind;
        self.elements_left -= 1;
        if self.elements_left == 0 {
            *self = Self::new();
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(
                f,
                "the server sent a reply of more than {} MiB or {MAX_ELEMENTS} elements",
                MAX_REPLY >> 20
            ),
            // A TLS alert or handshake record.
            Self::NotRedis(bytes) if matches!(bytes[..], [0x15 | 0x16, 3, ..]) => {
                write!(f, "the server requires TLS: connect to it with rediss://")
            }
            Self::NotRedis(bytes) => {
                write!(
                    f,
                    "the server does not speak the Redis protocol: check host and port, got=`{}`",
                    bytes.escape_ascii()
                )
            }
        }
    }
}

impl std::error::Error for Violation {}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] = b"+OK\r\n-ERR no\rsuch\r\n:-12\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*0\r\n*2\r\n*2\r\n$1\r\nx\r\n:1\r\n$0\r\n\r\n";

    #[test]
    fn replies_are_accepted_in_any_fragmentation() {
        for len in 1..REPLIES.len() {
            let mut meter = ReplyMeter::new();
            for _ in 0..1000 {
                for part in REPLIES.chunks(len) {
                    assert_eq!(meter.take(part), Ok(()));
                }
            }
            assert!(meter.is_between_replies());
        }
    }

    #[test]
    fn replies_beyond_the_bounds_are_refused_at_their_headers() {
        let refused = |bytes: &[u8]| ReplyMeter::new().take(bytes);
        let too_large: [&[u8]; 5] = [
            b"*9223372036854775807\r\n",
            b"*131073\r\n",
            b"$134217728\r\n",
            b"*2\r\n*131070\r\n:1\r\n",
            &[&b"-"[..], &vec![b'x'; MAX_LINE + 1]].concat(),
        ];
        for bytes in too_large {
            let head = &bytes[..bytes.len().min(40)];
            let outcome = refused(bytes);
            if head.starts_with(b"*2") {
                assert_eq!(outcome, Ok(()), "this one is within the limit");
            } else {
                assert_eq!(outcome, Err(Violation::TooLarge), "{}", head.escape_ascii());
            }
        }
        // Elements of nested arrays are summed.
        let inner = format!("*2000\r\n{}", ":1\r\n".repeat(2000));
        let nested = format!("*100\r\n{}", inner.repeat(70));
        assert_eq!(refused(nested.as_bytes()), Err(Violation::TooLarge));
        // The limit of bytes applies to each reply, not to several.
        let bulk = [b"$1048576\r\n".as_slice(), &vec![0; 1 << 20], b"\r\n"].concat();
        let mut meter = ReplyMeter::new();
        for _ in 0..200 {
            assert_eq!(meter.take(&bulk), Ok(()));
        }
        assert_eq!(meter.take(b"*200\r\n"), Ok(()));
        let outcome = (0..200).try_for_each(|_| meter.take(&bulk));
        assert_eq!(outcome, Err(Violation::TooLarge));
    }

    #[test]
    fn data_of_another_protocol_is_shown() {
        let told = |bytes: &[u8]| ReplyMeter::new().take(bytes).unwrap_err().to_string();
        assert!(
            told(b"HTTP/1.1 400 Bad Request\r\n").contains("got=`HTTP/1.1 400 Bad Request\\r\\n`")
        );
        assert!(told(&[0x15, 3, 1, 0, 2, 2, 70]).contains("rediss://"));
        assert!(told(b"\0\0\x12\x04").contains("got=`\\x00\\x00\\x12\\x04`"));
        for number in ["$", "*x", ":1 2", "$99999999999999999999", "*1\n2"] {
            let bytes = format!("{number}\r\n");
            assert!(told(bytes.as_bytes()).contains("Redis protocol"), "{number}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let len = random.usize(..200);
            let alphabet = b"+-:$*0123456789\r\n\r\n\r\nabc\xff";
            let bytes: Vec<u8> =
                (0..len).map(|_| alphabet[random.usize(..alphabet.len())]).collect();
            let mut meter = ReplyMeter::new();
            let _ = meter.take(&bytes);
        }
    }
}
