//! Where one TLS record ends and the next begins. Bytes that are no TLS are frames as they come.

/// Length of a record's head: type, version, length of the rest.
const HEAD: usize = 5;

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    held: Vec<u8>,
    /// The first byte was no TLS: whatever comes, comes as it is.
    plain: bool,
}

impl Frames {
    /// Takes bytes as they were read and gives the frames that are complete with them.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.held.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while !self.held.is_empty() {
            if self.plain || !is_record_type(self.held[0]) {
                self.plain = true;
                frames.push(std::mem::take(&mut self.held));
                break;
            }
            if self.held.len() < HEAD {
                break;
            }
            let length = HEAD + usize::from(u16::from_be_bytes([self.held[3], self.held[4]]));
            if self.held.len() < length {
                break;
            }
            let rest = self.held.split_off(length);
            frames.push(std::mem::replace(&mut self.held, rest));
        }
        frames
    }
}

/// Change of cipher, alert, handshake, data.
const fn is_record_type(byte: u8) -> bool {
    matches!(byte, 20..=23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_whole_however_they_are_read() {
        let first = [&[22, 3, 1, 0, 3][..], &[1, 2, 3]].concat();
        let second = [23, 3, 3, 0, 0].to_vec();
        let third = [&[23, 3, 3, 1, 0][..], &[7; 256]].concat();
        let all = [first.clone(), second.clone(), third.clone()].concat();
        for size in 1..all.len() {
            let mut frames = Frames::default();
            let read: Vec<Vec<u8>> = all
                .chunks(size)
                .flat_map(|chunk| frames.feed(chunk))
                .collect();
            assert_eq!(read, [first.clone(), second.clone(), third.clone()]);
        }
    }

    #[test]
    fn what_is_no_tls_passes_as_it_comes() {
        let mut frames = Frames::default();
        assert_eq!(frames.feed(b"GET / HTTP/1.1"), [b"GET / HTTP/1.1".to_vec()]);
        assert_eq!(frames.feed(&[22, 3]), [vec![22, 3]]);
    }
}
