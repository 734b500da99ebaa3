//! Frames: a length and a body, in buffers that are wiped.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// Longer frames are refused. A DKG round of 1,000 keys and 16 operators has less than 20 MiB.
pub(super) const MOST: usize = 64 << 20;

/// A buffer that leaves no copies behind when it grows.
struct Wiped(Zeroizing<Vec<u8>>);

impl Flavor for Wiped {
    type Output = Zeroizing<Vec<u8>>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let length = self.0.len() + bytes.len();
        if length > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * self.0.capacity())));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Self::Output> {
        Ok(self.0)
    }
}

/// The body of a frame that holds `value`.
pub(super) fn encode(value: &impl Serialize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let start = Wiped(Zeroizing::new(Vec::with_capacity(512)));
    let body = postcard::serialize_with_flavor(value, start).map_err(std::io::Error::other)?;
    if body.len() > MOST {
        return Err(too_long(body.len()));
    }
    Ok(body)
}

/// What the body of a frame holds.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> std::io::Result<T> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(std::io::Error::other("bytes are left over in a frame")),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Writes a frame.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| too_long(body.len()))?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(body).await?;
    to.flush().await
}

/// Reads a frame; `None` if the other side has closed between two frames.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST {
        return Err(too_long(length));
    }
    let mut body = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut body).await?;
    Ok(Some(body))
}

fn too_long(length: usize) -> std::io::Error {
    std::io::Error::other(format!(
        "a message of {length} bytes; at most {MOST} go over the signer's socket"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(value: Vec<(u64, String, Vec<u8>)>) {
            let body = encode(&value).unwrap();
            prop_assert_eq!(decode::<Vec<(u64, String, Vec<u8>)>>(&body).unwrap(), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = decode::<super::super::call::Request>(&bytes);
            let _ = decode::<super::super::call::Response>(&bytes);
        }
    }

    #[tokio::test]
    async fn an_announced_length_beyond_the_limit_is_refused() {
        let mut bytes: &[u8] = &[0xff; 8];
        assert!(read(&mut bytes).await.is_err());
        let mut cut: &[u8] = &[5, 0, 0, 0, 1, 2];
        assert!(read(&mut cut).await.is_err());
        let mut none: &[u8] = &[];
        assert!(read(&mut none).await.unwrap().is_none());
    }
}
