//! What a cached page and a small file cost in memory, with everything that a core keeps of them. Alone in its process:
//! it looks at the resident set.

use forebay_engine::EvictionPolicy;
use forebay_engine::bench::held::Held;

const COUNT: u64 = 1_000_000;
const FILE_PAGES: u32 = 1024;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("the second figure is resident pages")
        * 4096
}

/// Bytes of each entry, at its worst between two doublings of a table: just behind one.
fn cost(add: impl Fn(&mut Held, u64)) -> u64 {
    // What the first entries need once, and what the test itself does.
    let mut first = Held::new(EvictionPolicy::default());
    (0..10_000).for_each(|number| add(&mut first, number));
    let before = resident_bytes();
    let mut held = Held::new(EvictionPolicy::default());
    let count = (COUNT.next_power_of_two() / 8 * 7) + 10_000;
    (0..count).for_each(|number| add(&mut held, number));
    let cost = (resident_bytes() - before) / count;
    // Kept, so that the next ones find no memory that was freed.
    std::mem::forget((first, held));
    cost
}

#[test]
fn a_page_costs_100_bytes_and_a_small_file_200() {
    let page = cost(|held, number| {
        let (file, page) = (number / u64::from(FILE_PAGES), number % u64::from(FILE_PAGES));
        held.add_page(file, FILE_PAGES, page as u32);
    });
    let small = cost(|held, number| held.add_small(number));
    eprintln!("{page} bytes a page, {small} bytes a small file");
    assert!(page <= 100, "{page} bytes a page");
    assert!(small <= 200, "{small} bytes a small file");
}
