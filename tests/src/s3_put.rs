//! Just enough of an S3 client to change objects behind Forebay's back: signed PUT and DELETE over plain HTTP. It shares
//! no code with what is tested.

use crate::pattern::Pattern;
use forebay_base::unix_now_ms;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A bucket of a server, with keys that may write to it.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub(crate) address: String,
    pub(crate) name: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `20260102T030405Z` of milliseconds since 1970.
fn timestamp(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    let (mut year, mut rest) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{:02}T{hour:02}{minute:02}{:02}Z", rest + 1, second % 60)
}

impl Bucket {
    /// Creates or replaces an object. The key must need no escaping in a URL.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<(), String> {
        let payload = hex(&Sha256::digest(bytes));
        self.request("PUT", key, bytes.len() as u64, &payload, |stream| stream.write_all(bytes))
    }

    /// The same with the first `size` bytes of a pattern, which are never all in memory.
    pub fn put_pattern(&self, key: &str, pattern: Pattern, size: u64) -> Result<(), String> {
        let mut hash = Sha256::new();
        let hashed = pattern.pieces(size, |piece| {
            hash.update(piece);
            Ok(())
        });
        hashed.map_err(|error| error.to_string())?;
        let payload = hex(&hash.finalize());
        self.request("PUT", key, size, &payload, |stream| pattern.pieces(size, |piece| stream.write_all(piece)))
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) -> Result<(), String> {
        self.request("DELETE", key, 0, &hex(&Sha256::digest([])), |_| Ok(()))
    }

    fn request(
        &self,
        method: &str,
        key: &str,
        length: u64,
        payload: &str,
        body: impl FnOnce(&mut TcpStream) -> std::io::Result<()>,
    ) -> Result<(), String> {
        let path = format!("/{}/{key}", self.name);
        let now = timestamp(unix_now_ms());
        let scope = format!("{}/us-east-1/s3/aws4_request", &now[..8]);
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let headers = format!("host:{}\nx-amz-content-sha256:{payload}\nx-amz-date:{now}\n", self.address);
        let canonical = format!("{method}\n{path}\n\n{headers}\n{signed}\n{payload}");
        let to_sign = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let mut signing_key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [&now[..8], "us-east-1", "s3", "aws4_request"] {
            signing_key = hmac(&signing_key, part);
        }
        let signature = hex(&hmac(&signing_key, &to_sign));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nx-amz-content-sha256: {payload}\r\nx-amz-date: {now}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n",
            self.address, self.access_key
        );
        let told = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect(&self.address).map_err(told)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(told)?;
        stream.write_all(head.as_bytes()).map_err(told)?;
        body(&mut stream).map_err(told)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(told)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or("");
        if status.starts_with('2') { Ok(()) } else { Err(format!("{method} {path}: {answer}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(0), "19700101T000000Z");
        assert_eq!(timestamp(951_782_400_000 + 3_661_000), "20000229T010101Z");
        assert_eq!(timestamp(1_795_463_026_000), "20261123T194346Z");
    }
}
