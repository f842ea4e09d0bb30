//! A file on the mount beside a model of it in memory: thousands of random writes, reads, cuts, mapped reads, closes and
//! renames from a seed, and after each close the store's own bytes. On a directory and on an S3 server.

use forebay_tests::{Cluster, Mapping, Options};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

const STEPS: usize = 4000;
const SIZE_MAX: u64 = 300_000;

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }
}

fn open(path: &PathBuf) -> File {
    File::options().read(true).write(true).open(path).expect("it opens")
}

fn run(folder: PathBuf, stored: PathBuf, seed: u64) {
    let mut dice = Dice(seed);
    let mut name = "model0".to_string();
    let mut path = folder.join(&name);
    let mut model: Vec<u8> = Vec::new();
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("created");
    for step in 0..STEPS {
        let told = |what: &str| format!("seed {seed}, step {step}: {what}");
        let length = model.len() as u64;
        match dice.below(100) {
            0..35 => {
                let at = if dice.below(8) == 0 { length } else { dice.below(length + 5000) };
                let count = (1 + dice.below(40_000)).min(SIZE_MAX.saturating_sub(at)) as usize;
                let bytes: Vec<u8> = (0..count).map(|_| dice.roll() as u8).collect();
                file.write_all_at(&bytes, at).expect("written");
                if count > 0 {
                    let end = at as usize + count;
                    model.resize(model.len().max(end), 0);
                    model[at as usize..end].copy_from_slice(&bytes);
                }
            }
            35..70 => {
                let at = dice.below(length + 100);
                let mut got = vec![0; 1 + dice.below(60_000) as usize];
                let mut done = 0;
                while done < got.len() {
                    match file.read_at(&mut got[done..], at + done as u64).expect("read") {
                        0 => break,
                        count => done += count,
                    }
                }
                let start = model.len().min(at as usize);
                let want = &model[start..model.len().min(start + got.len())];
                assert!(got[..done] == *want, "{}", told("a read differs"));
            }
            70..80 => {
                let size = dice.below(SIZE_MAX);
                file.set_len(size).expect("resized");
                model.resize(size as usize, 0);
            }
            80..87 if !model.is_empty() => {
                let mapping = Mapping::new(&file).expect("mapped");
                assert!(mapping.bytes() == model, "{}", told("a mapping differs"));
                assert!(mapping.behind_the_end().iter().all(|byte| *byte == 0), "{}", told("bytes behind the end"));
            }
            87..90 => {
                let next = format!("model{}", step + 1);
                fs::rename(&path, folder.join(&next)).expect("renamed");
                (path, name) = (folder.join(&next), next);
            }
            90..93 => {
                drop(file);
                fs::write(&path, b"replaced").expect("replaced");
                model = b"replaced".to_vec();
                file = open(&path);
            }
            93..95 => file.sync_all().expect("synced"),
            _ => {
                drop(file);
                let there = fs::read(stored.join(&name)).expect("the store has it");
                assert!(there == model, "{}", told("the store differs after the close"));
                assert!(fs::read(&path).expect("read") == model, "{}", told("a fresh read differs"));
                file = open(&path);
            }
        }
        assert_eq!(file.metadata().expect("fstat").len(), model.len() as u64, "{}", told("the size"));
    }
    drop(file);
    assert!(fs::read(stored.join(&name)).expect("the store has it") == model, "seed {seed}: the store at the end");
}

#[test]
fn a_file_on_the_mount_is_what_its_model_says() {
    let cluster = Cluster::start(Options::default().with_s3());
    let folder = cluster.store("data");
    let s3 = cluster.s3.as_ref().expect("it was asked for");
    let _ = s3.bucket("data");
    cluster.mount_local("/local", &folder, &["--freshness", "1h"]);
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    let at = |store: &str| cluster.mountpoint().join(store);
    std::thread::scope(|scope| {
        scope.spawn(|| run(at("local"), folder.clone(), 1));
        scope.spawn(|| run(at("s3"), s3.folder_of("data"), 2));
    });
}
