//! Every byte that comes through the mount is the store's, cold and warm: ten thousand small objects and one of 2 GiB on
//! a real S3 server, small files and a large one in a local directory.

use forebay_tests::{Bucket, Cluster, Options, Pattern, drop_cached, each_file, eventually, spread};
use std::path::Path;
use std::time::Duration;

const SMALL_BYTES: u64 = 100 << 10;
const S3_FILES: usize = 10_000;
const S3_LARGE_BYTES: u64 = 2 << 30;
const LOCAL_FILES: usize = 1_000;
const LOCAL_LARGE_BYTES: u64 = 512 << 20;

/// After this a report holds all that was done before.
const HEARTBEATS: Duration = Duration::from_millis(2500);

const S3_LARGE: Pattern = Pattern(1);
const LOCAL_LARGE: Pattern = Pattern(2);

fn s3_small(index: usize) -> Pattern {
    Pattern(1_000_000 + index as u64)
}

fn local_small(index: usize) -> Pattern {
    Pattern(2_000_000 + index as u64)
}

fn fill_bucket(bucket: &Bucket) {
    let errors =
        each_file(S3_FILES, 8, |index| bucket.put(&spread(index), &s3_small(index).bytes(SMALL_BYTES as usize)));
    assert!(errors.is_empty(), "{} objects were not stored, the first: {}", errors.len(), errors[0]);
    bucket.put_pattern("large.bin", S3_LARGE, S3_LARGE_BYTES).expect("the large object is stored");
}

fn fill_folder(folder: &Path) {
    let errors = each_file(LOCAL_FILES, 4, |index| {
        let path = folder.join(spread(index));
        std::fs::create_dir_all(path.parent().expect("it has one")).map_err(|error| error.to_string())?;
        local_small(index).write(&path, SMALL_BYTES).map_err(|error| error.to_string())
    });
    assert!(errors.is_empty(), "{errors:?}");
    LOCAL_LARGE.write(&folder.join("large.bin"), LOCAL_LARGE_BYTES).expect("space for the large file");
}

fn read_all(mountpoint: &Path, pass: &str) {
    let s3 = mountpoint.join("mnt/s3");
    let local = mountpoint.join("mnt/local");
    let errors = each_file(S3_FILES, 8, |index| {
        let path = s3.join(spread(index));
        let checked = s3_small(index).check(&path, SMALL_BYTES);
        drop_cached(&path);
        checked
    });
    assert!(errors.is_empty(), "{pass}: {} small objects are wrong, the first: {}", errors.len(), errors[0]);
    let errors = each_file(LOCAL_FILES, 8, |index| {
        let path = local.join(spread(index));
        let checked = local_small(index).check(&path, SMALL_BYTES);
        drop_cached(&path);
        checked
    });
    assert!(errors.is_empty(), "{pass}: {} small files are wrong, the first: {}", errors.len(), errors[0]);
    for (path, pattern, size) in
        [(s3.join("large.bin"), S3_LARGE, S3_LARGE_BYTES), (local.join("large.bin"), LOCAL_LARGE, LOCAL_LARGE_BYTES)]
    {
        if let Err(error) = pattern.check(&path, size) {
            panic!("{pass}: {error}");
        }
        drop_cached(&path);
    }
}

#[test]
fn every_byte_is_the_stores_cold_and_warm() {
    let options = Options { ssd_capacity: "8GiB".into(), ..Options::default() }.with_s3();
    let cluster = Cluster::start(options);
    fill_bucket(&cluster.s3.as_ref().expect("it was asked for").bucket("data"));
    let folder = cluster.store("local");
    fill_folder(&folder);
    cluster.mount_s3("/mnt/s3", "data", &[]);
    cluster.mount_local("/mnt/local", &folder, &[]);

    read_all(&cluster.mountpoint(), "cold");
    let total = (S3_FILES + LOCAL_FILES) as u64 * SMALL_BYTES + S3_LARGE_BYTES + LOCAL_LARGE_BYTES;
    // The report is as old as the worker's last heartbeat, so the last bytes may not be in it yet.
    eventually("a report that counts every byte", Duration::from_secs(10), || {
        (cluster.report().store_read_bytes() >= total).then_some(())
    });
    std::thread::sleep(HEARTBEATS);
    let cold = cluster.report().store_read_bytes();

    read_all(&cluster.mountpoint(), "warm");
    std::thread::sleep(HEARTBEATS);
    let again = cluster.report().store_read_bytes() - cold;
    assert!(again <= total / 100, "the second pass read {again} bytes of {total} from the stores again");
}

#[test]
fn odd_sizes_and_offsets_are_right() {
    use std::os::unix::fs::FileExt;
    let cluster = Cluster::start(Options::default().with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("odd");
    let page = 1 << 20;
    let sizes = [0, 1, 7, 4095, 4096, 4097, 131_072, page - 1, page, page + 1, 3 * page + 12_345];
    for (index, size) in sizes.iter().enumerate() {
        bucket.put(&format!("f{index}"), &Pattern(index as u64).bytes(*size)).expect("the object is stored");
    }
    cluster.mount_s3("/odd", "odd", &[]);
    for (index, size) in sizes.iter().enumerate() {
        let path = cluster.mountpoint().join(format!("odd/f{index}"));
        for _ in 0..2 {
            Pattern(index as u64).check(&path, *size as u64).expect("the object's bytes");
            drop_cached(&path);
        }
        let whole = Pattern(index as u64).bytes(*size);
        let file = std::fs::File::open(&path).expect("it exists");
        for step in 0..200_usize {
            let offset = step * 48_271 % (size + 10);
            let mut buffer = vec![0; step * 7919 % 300_000 + 1];
            let got = file.read_at(&mut buffer, offset as u64).expect("a read inside or behind the end");
            let end = (offset + buffer.len()).min(*size);
            let expected = if offset < end { &whole[offset..end] } else { &[] };
            assert!(buffer[..got] == *expected, "f{index}: {got} bytes at {offset}, want {}", expected.len());
        }
    }
}
