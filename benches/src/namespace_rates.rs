//! Lookups and durable creates against a whole master in this process, called as its server would call it (request
//! bytes in, reply bytes out), beside what one fdatasync of the same disk costs.

use crate::shown;
use forebay_base::FileId;
use forebay_base::settings::{Overrides, Settings, load};
use forebay_master::bench::InProcess;
use forebay_net::message::namespace::Lookup;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DIRECTORIES: usize = 64;
const FILES_EACH: usize = 200;
const SYNCS: usize = 100;

fn settings(folder: &Path) -> Result<Settings, Box<dyn Error>> {
    let text = format!(
        "[cluster]\nsocket_dir = \"{0}/run\"\n[master]\nlisten = \"127.0.0.1:0\"\nhttp = \"off\"\ndir = \"{0}/master\"\n",
        folder.display()
    );
    Ok(load(&text, &Overrides::default()).map_err(|problems| problems.to_string())?.settings)
}

fn name(number: u64) -> Vec<u8> {
    format!("f{number:010}.bin").into_bytes()
}

/// Median milliseconds of an fdatasync behind a write of `bytes`.
fn fdatasync_ms(folder: &Path, bytes: usize) -> std::io::Result<f64> {
    let mut file = std::fs::File::create(folder.join("sync-probe"))?;
    let block = vec![7u8; bytes];
    let mut took = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&block)?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

/// Runs `clients` tasks until the time is over; gives operations a second.
async fn rate<F>(clients: usize, seconds: u64, one: impl Fn(usize, u64) -> F) -> Result<f64, Box<dyn Error>>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let done = AtomicU64::new(0);
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let (one, count) = (&one, &done);
    let clients = (0..clients).map(|client| async move {
        let mut number = 0u64;
        while Instant::now() < until {
            tokio::spawn(one(client, number)).await.map_err(|error| error.to_string())??;
            number += 1;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    });
    futures::future::try_join_all(clients).await?;
    Ok(done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

pub(crate) fn measure(folder: &Path, rounds: usize, seconds: u64, clients: usize) -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::Builder::new().prefix("forebay-load-").tempdir_in(folder)?;
    let store = temporary.path().join("store");
    std::fs::create_dir_all(&store)?;
    let settings = settings(temporary.path())?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let master = Arc::new(InProcess::start(&settings).await?);
        let root = master.mount("/data", &format!("file://{}", store.display())).await?;
        let names: Vec<Vec<u8>> = (0..DIRECTORIES).map(|number| format!("d{number:02}").into_bytes()).collect();
        let directories = Arc::new(master.make_directories(FileId(root.file_id), &names).await?);
        for &directory in directories.iter() {
            let all = (0..FILES_EACH as u64).map(|number| master.create(directory, name(number)));
            futures::future::try_join_all(all).await?;
        }
        println!(
            "{clients} clients, {DIRECTORIES} directories, {threads} hardware threads, {rounds} rounds of {seconds} s"
        );
        let (mut lookups, mut creates, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            syncs.push(fdatasync_ms(temporary.path(), 4096)?);
            let (asked, places) = (Arc::clone(&master), Arc::clone(&directories));
            let lookup = move |client: usize, number: u64| {
                let (master, parent) = (Arc::clone(&asked), places[client % DIRECTORIES]);
                async move {
                    let name = name((client as u64 + number * 7) % FILES_EACH as u64);
                    let found = master.call(&Lookup { parent: parent.0, name }).await;
                    found.map(drop).map_err(|error| error.message)
                }
            };
            lookups.push(rate(clients, seconds, lookup).await?);
            let (asked, places) = (Arc::clone(&master), Arc::clone(&directories));
            let create = move |client: usize, number: u64| {
                let (master, parent) = (Arc::clone(&asked), places[client % DIRECTORIES]);
                let fresh = name((((round * clients + client) as u64 + 1) << 24) + number);
                async move { master.create(parent, fresh).await.map_err(|error| error.message) }
            };
            creates.push(rate(clients, seconds, create).await?);
        }
        println!("{}", shown("lookups a second (target 200,000)", &lookups));
        println!("{}", shown("durable creates a second (target 40,000)", &creates));
        println!("{}", shown("fdatasync behind 4 KiB, ms", &syncs));
        Arc::into_inner(master).ok_or("a client still runs")?.stop().await?;
        Ok(())
    })
}
