//! What millions of entries cost a core: bytes each, and nanoseconds to find one, at random. The store's own structures,
//! without a disk.

use crate::{resident_bytes, shown};
use forebay_engine::EvictionPolicy;
use forebay_engine::bench::held::Held;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

const FILE_PAGES: u32 = 1024;
const GETS: u64 = 5_000_000;

fn next(seed: &mut u64, end: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) % end
}

fn one(
    what: &str,
    entries: u64,
    rounds: usize,
    add: impl Fn(&mut Held, u64),
    has: impl Fn(&Held, u64) -> bool,
) -> Result<(), Box<dyn Error>> {
    let before = resident_bytes()?;
    let mut held = Held::new(EvictionPolicy::default());
    let started = Instant::now();
    (0..entries).for_each(|number| add(&mut held, number));
    let took = started.elapsed();
    let bytes = resident_bytes()?.saturating_sub(before);
    println!(
        "{entries} {what}: {:.1} bytes each, {:.0} MiB, {:.0} ns to add one",
        bytes as f64 / entries as f64,
        bytes as f64 / f64::from(1 << 20),
        took.as_nanos() as f64 / entries as f64
    );
    let mut seed = 7;
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let started = Instant::now();
        let found = (0..GETS).filter(|_| has(black_box(&held), next(&mut seed, entries))).count();
        figures.push(started.elapsed().as_nanos() as f64 / GETS as f64);
        if found as u64 != GETS {
            return Err("an entry is not found".into());
        }
    }
    println!("{}", shown(&format!("get, {what}, ns (target 100)"), &figures));
    // Not given back, so that what follows is measured on its own.
    std::mem::forget(held);
    Ok(())
}

pub(crate) fn measure(entries: u64, rounds: usize) -> Result<(), Box<dyn Error>> {
    let place = |number: u64| (number / u64::from(FILE_PAGES), (number % u64::from(FILE_PAGES)) as u32);
    one(
        "pages of large files",
        entries,
        rounds,
        |held, number| held.add_page(place(number).0, FILE_PAGES, place(number).1),
        |held, number| held.has_page(place(number).0, FILE_PAGES, place(number).1),
    )?;
    one("small files", entries, rounds, Held::add_small, Held::has_small)
}
