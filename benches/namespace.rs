//! Microbenchmarks of the namespace on one core: a name looked up, a file created by applying its command. No queue, no
//! journal: `forebay-load namespace` measures with them.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forebay_master::bench::Namespace;
use std::hint::black_box;

const FILES: u64 = 100_000;

fn name(number: u64) -> Vec<u8> {
    format!("f{number:08}.bin").into_bytes()
}

fn one_core(criterion: &mut Criterion) {
    let (mut namespace, root) = Namespace::new();
    for number in 0..FILES {
        namespace.create(root, name(number));
    }
    let names: Vec<Vec<u8>> = (0..FILES).map(name).collect();
    let mut group = criterion.benchmark_group("namespace, one core, 100,000 names in a directory");
    let mut next = 0usize;
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % names.len();
            namespace.lookup(root, black_box(&names[next]))
        });
    });
    group.bench_function("absent name", |bencher| bencher.iter(|| namespace.lookup(root, black_box(b"nobody"))));
    let mut number = FILES;
    group.bench_function("create (apply)", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                name(number)
            },
            |fresh| namespace.create(root, fresh),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(all, one_core);
criterion_main!(all);
