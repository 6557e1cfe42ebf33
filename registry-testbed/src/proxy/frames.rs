//! A filter that drops HTTP/2 frames of a server.

/// The length of the header of a frame: 3 bytes of length, type, flags, and 4 bytes of stream id.
const FRAME_HEADER_LEN: usize = 9;

/// The type of a DATA frame. HEADERS frames must pass, since they change the state of the header decoder.
const DATA: u8 = 0;

/// Parses the frames that a server sends on a connection. Bytes of other protocols pass unchanged unless streams are
/// silent.
#[derive(Debug, Default)]
pub(super) struct FrameFilter {
    /// The received part of the next frame's header.
    header: Vec<u8>,
    /// The number of bytes of `header` that have passed already.
    header_passed: usize,
    /// The number of bytes of the current frame that have not arrived yet.
    remaining: usize,
    /// Whether the current frame is dropped.
    is_dropped: bool,
    /// The highest id of a stream on which the server has sent a frame.
    highest: u32,
    /// The highest id of a silent stream, if streams are silent.
    silent: Option<u32>,
}

impl FrameFilter {
    /// Returns the part of `bytes` that passes, and the number of dropped frames. While `is_silent` is true, drops DATA
    /// frames of the streams up to the highest that the server had answered on when it became true.
    pub(super) fn pass(&mut self, bytes: &[u8], is_silent: bool) -> (Vec<u8>, u64) {
        self.silent = is_silent.then(|| self.silent.unwrap_or(self.highest));
        let (mut rest, mut passed, mut dropped) = (bytes, Vec::with_capacity(bytes.len()), 0);
        while !rest.is_empty() {
            if self.remaining > 0 {
                let (part, more) = rest.split_at(self.remaining.min(rest.len()));
                if !self.is_dropped {
                    passed.extend_from_slice(part);
                }
                self.remaining -= part.len();
                rest = more;
                continue;
            }
            let (part, more) =
                rest.split_at((FRAME_HEADER_LEN - self.header.len()).min(rest.len()));
            self.header.extend_from_slice(part);
            rest = more;
            if let [a, b, c, kind, _, id @ ..] = &self.header[..]
                && let Ok(id) = id.try_into()
            {
                let stream = u32::from_be_bytes(id) & (u32::MAX >> 1);
                self.remaining = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                let is_silent_stream = self.silent.is_some_and(|last| stream <= last);
                self.is_dropped = *kind == DATA && is_silent_stream && self.header_passed == 0;
                self.highest = self.highest.max(stream);
                if self.is_dropped {
                    dropped += 1;
                } else {
                    passed.extend_from_slice(&self.header[self.header_passed..]);
                }
                self.header.clear();
                self.header_passed = 0;
            }
        }
        // Without silent streams, pass an incomplete header at once: the protocol may not be HTTP/2.
        if !is_silent {
            passed.extend_from_slice(&self.header[self.header_passed..]);
            self.header_passed = self.header.len();
        }
        (passed, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, stream][..], payload].concat()
    }

    #[test]
    fn data_of_old_streams_is_dropped_for_any_split_of_the_bytes() {
        const HEADERS: u8 = 1;
        let before = [frame(4, 0, b""), frame(HEADERS, 3, b"h"), frame(DATA, 3, b"one")].concat();
        let (old, new) = (frame(DATA, 3, b"two"), frame(DATA, 5, b"three"));
        let during = [old, frame(HEADERS, 3, b"t"), new.clone(), frame(DATA, 1, b"")].concat();
        let expected = [frame(HEADERS, 3, b"t"), new].concat();
        for size in 1..=during.len() {
            let mut filter = FrameFilter::default();
            let pass = |filter: &mut FrameFilter, bytes: &[u8], is_silent| {
                bytes.chunks(size).fold((Vec::new(), 0), |(mut all, dropped), chunk| {
                    let (passed, more) = filter.pass(chunk, is_silent);
                    all.extend(passed);
                    (all, dropped + more)
                })
            };
            assert_eq!(pass(&mut filter, &before, false), (before.clone(), 0));
            assert_eq!(pass(&mut filter, &during, true), (expected.clone(), 2), "{size}");
            assert_eq!(pass(&mut filter, &during, false), (during.clone(), 0));
        }
    }
}
