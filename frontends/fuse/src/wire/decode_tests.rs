//! Requests as the kernel lays them out, and as it never would.

use super::*;
use proptest::prelude::*;

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((40 + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&opcode.to_ne_bytes());
    bytes.extend_from_slice(&77u64.to_ne_bytes());
    bytes.extend_from_slice(&node.to_ne_bytes());
    for word in [1000u32, 100, 42, 0] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn requests_are_read() {
    let lookup = decode(&request(abi::LOOKUP, 5, b"name\0")).unwrap();
    assert_eq!((lookup.unique, lookup.node), (77, 5));
    assert_eq!(lookup.operation, Operation::Lookup { name: b"name".to_vec() });

    let mut body = Vec::new();
    for word in [3u64, 4096] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body.extend_from_slice(&[0, 0, 2, 0]);
    body.extend_from_slice(&[0; 20]);
    let read = decode(&request(abi::READ, 5, &body)).unwrap();
    assert_eq!(read.operation, Operation::Read { handle: 3, offset: 4096, size: 0x2_0000 });

    assert_eq!(decode(&request(9999, 1, b"")).unwrap().operation, Operation::Other(9999));
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn operation_of(opcode: u32, head: &[u32], tail: &[u8]) -> Operation {
    decode(&request(opcode, 1, &[&words(head), tail].concat())).unwrap().operation
}

/// Low half first, as on every machine that this runs on.
fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[test]
fn changes_are_read() {
    let made = decode(&request(abi::MKDIR, 3, &[&words(&[0o750, 0o022]), &b"d\0"[..]].concat())).unwrap();
    assert_eq!(made.caller, Caller { uid: 1000, gid: 100, pid: 42 });
    assert_eq!(made.operation, Operation::MakeDir { name: b"d".to_vec(), mode: 0o750 });
    let node = operation_of(abi::MKNOD, &[0o100_640, 0, 0o022, 0], b"n\0");
    assert_eq!(node, Operation::MakeNode { name: b"n".to_vec(), mode: 0o100_640 });
    let create = operation_of(abi::CREATE, &[0x8241, 0o100_644, 0o022, 0], b"c\0");
    assert_eq!(create, Operation::Create { name: b"c".to_vec(), mode: 0o100_644, flags: 0x8241 });
    assert_eq!(operation_of(abi::UNLINK, &[], b"u\0"), Operation::Remove { name: b"u".to_vec(), is_directory: false });
    assert_eq!(operation_of(abi::RMDIR, &[], b"u\0"), Operation::Remove { name: b"u".to_vec(), is_directory: true });
    let renamed = |flags| Operation::Rename { name: b"a".to_vec(), new_parent: 7, new_name: b"b".to_vec(), flags };
    assert_eq!(operation_of(abi::RENAME, &halves(7), b"a\0b\0"), renamed(0));
    assert_eq!(operation_of(abi::RENAME2, &[7, 0, 1, 0], b"a\0b\0"), renamed(1));
    assert!(decode(&request(abi::RENAME, 1, &[&words(&halves(7)), &b"a\0b"[..]].concat())).is_err());
    assert_eq!(operation_of(abi::FLUSH, &[9, 0, 0, 0, 0, 0], b""), Operation::Flush { handle: 9 });
    assert_eq!(operation_of(abi::FSYNC, &[9, 0, 1, 0], b""), Operation::Sync { handle: 9 });
    assert_eq!(operation_of(abi::FSYNCDIR, &[9, 0, 1, 0], b""), Operation::SyncDir);
    let allocate = operation_of(abi::FALLOCATE, &[9, 0, 4096, 0, 100, 0, 1, 0], b"");
    assert_eq!(allocate, Operation::Allocate { handle: 9, offset: 4096, length: 100, mode: 1 });
    assert_eq!(operation_of(abi::LINK, &halves(3), b"l\0"), Operation::Refused(abi::LINK));
    assert_eq!(operation_of(abi::SYMLINK, &[], b"l\0to\0"), Operation::Refused(abi::SYMLINK));
}

#[test]
fn the_bytes_of_a_write_are_exactly_those_behind_its_head() {
    let head = [9, 0, 4096, 0, 5, 0, 0, 0, 0, 0];
    let write = request(abi::WRITE, 1, &[&words(&head), &b"hello"[..]].concat());
    let Operation::Write { handle, offset, data } = decode(&write).unwrap().operation else { panic!("a write") };
    assert_eq!((handle, offset, &write[data]), (9, 4096, &b"hello"[..]));
    for tail in [&b"hell"[..], b"hello!", b""] {
        assert!(decode(&request(abi::WRITE, 1, &[&words(&head), tail].concat())).is_err(), "{tail:?}");
    }
    let huge = [9, 0, 0, 0, u32::MAX, 0, 0, 0, 0, 0];
    assert!(decode(&request(abi::WRITE, 1, &words(&huge))).is_err());
}

#[test]
fn attributes_are_taken_only_where_they_are_said_to_be() {
    let set = |valid: u32, mtime_s: i64| {
        let mut body = words(&[valid, 0, 9, 0, 77, 0]);
        for word in [0u64, 1, mtime_s as u64, 2] {
            body.extend_from_slice(&word.to_ne_bytes());
        }
        body.extend_from_slice(&words(&[0, 5_000_000, 0, 0o104_755, 0, 11, 12, 0]));
        match decode(&request(abi::SETATTR, 1, &body)).unwrap().operation {
            Operation::SetAttr { handle, change } => (handle, change),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(set(0, 3), (None, AttrChange::default()));
    let all =
        AttrChange { size: Some(77), mode: Some(0o4755), uid: Some(11), gid: Some(12), mtime: Some(SetTime::Ms(3005)) };
    assert_eq!(set(0x6f, 3), (Some(9), all));
    assert_eq!(set(abi::FATTR_MTIME, -1).1.mtime, Some(SetTime::Ms(0)));
    assert_eq!(set(abi::FATTR_MTIME | abi::FATTR_MTIME_NOW, 3).1.mtime, Some(SetTime::Now));
    assert!(
        decode(&request(abi::SETATTR, 1, &[0; 87])).is_err() && decode(&request(abi::SETATTR, 1, &[0; 88])).is_ok()
    );
}

#[test]
fn malformed_requests_are_refused_with_their_unique() {
    let no_zero = request(abi::LOOKUP, 5, b"name");
    assert_eq!(decode(&no_zero).unwrap_err().unique, 77);
    let short = request(abi::READ, 5, &[0; 8]);
    assert!(decode(&short).is_err());
    let mut too_many = vec![255, 255, 255, 255, 0, 0, 0, 0];
    too_many.extend_from_slice(&[0; 16]);
    assert!(decode(&request(abi::BATCH_FORGET, 0, &too_many)).is_err());
    let mut lies = request(abi::STATFS, 1, b"");
    lies[0] = 200;
    assert!(decode(&lies).is_err());
    let mut extended = request(abi::STATFS, 1, b"");
    extended[36] = 200;
    assert!(decode(&extended).is_err());
    assert_eq!(decode(&[1, 2, 3]).unwrap_err().unique, 0);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_body_makes_it_panic(opcode in 0u32..60, body in proptest::collection::vec(any::<u8>(), 0..128)) {
        let _ = decode(&request(opcode, 1, &body));
    }
}
