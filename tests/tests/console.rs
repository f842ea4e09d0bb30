//! The web console: its pages in a real browser, its API, and what is refused.
//!
//! `FOREBAY_TEST_SCREENSHOTS=DIR` keeps a picture of each page.

use forebay_tests::{Browser, Cluster, Options, Pattern, drop_cached, eventually, http};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

const TOKEN: &str = "a-token-of-this-test";
/// A name that would be a script if it were ever taken for markup.
const SCRIPT_NAME: &str = "<img src=x onerror=\"document.title='taken'\">&amp;";
const FILE_BYTES: u64 = 3 << 20;
const MOVING_BYTES: u64 = 512 << 10;
const LONG: Duration = Duration::from_secs(30);

fn cluster() -> Cluster {
    let folder = tempfile::tempdir().expect("a directory").keep();
    let token = folder.join("token");
    std::fs::write(&token, TOKEN).expect("a token");
    let token = format!("\"{}\"", token.display());
    let cluster = Cluster::start(Options::default().with_s3().set("cluster.http_token_file", &token));
    std::fs::remove_dir_all(&folder).expect("read already");
    let store = cluster.store("data");
    std::fs::create_dir(store.join("inside")).expect("a directory");
    std::fs::create_dir(store.join("none")).expect("a directory");
    Pattern(1).write(&store.join("whole"), FILE_BYTES).expect("space");
    Pattern(2).write(&store.join("unread"), FILE_BYTES).expect("space");
    Pattern(3).write(&store.join(SCRIPT_NAME), 10).expect("space");
    for number in 0..450 {
        std::fs::write(store.join(format!("inside/f{number:03}")), b"x").expect("space");
    }
    // What is larger than a page is read from the worker's file, past the worker, and does not show in the plots.
    Pattern(4).write(&store.join("inside/moving"), MOVING_BYTES).expect("space");
    cluster.mount_local("/data", &store, &[]);
    cluster.s3.as_ref().expect("asked for").bucket("lake").put("key", b"x").expect("stored");
    cluster.mount_s3("/lake", "lake", &["--freshness", "5m"]);
    Pattern(1).check(&cluster.mountpoint().join("data/whole"), FILE_BYTES).expect("bytes");
    cluster
}

fn keep(browser: &mut Browser, name: &str) {
    let Some(folder) = std::env::var_os("FOREBAY_TEST_SCREENSHOTS") else { return };
    for (kind, width, height, dark) in
        [("light", 1280, 900, false), ("dark", 1280, 900, true), ("narrow", 400, 860, false)]
    {
        browser.look(width, height, dark);
        std::thread::sleep(Duration::from_millis(500));
        browser.screenshot(&Path::new(&folder).join(format!("{name}-{kind}.png")));
    }
    browser.look(1280, 900, false);
}

#[test]
fn every_page_shows_what_is_there() {
    let cluster = cluster();
    let port = cluster.http_ports().master;
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let mut browser = Browser::start();
    browser.look(1280, 900, false);

    browser.open(&at("/"));
    let seen = browser.sees(&["Overview", "No troubles", "MEM", "SSD", "from memory", "1 of 1", "master resident"]);
    assert!(seen.contains("of 4.0 GiB") && seen.contains("0.0 %"), "{seen}");
    // Something is read while the page is open: the plots move by themselves.
    let file = cluster.mountpoint().join("data/inside/moving");
    eventually("the plots", LONG, || {
        drop_cached(&file);
        Pattern(4).check(&file, MOVING_BYTES).expect("bytes");
        let plots = "[document.querySelectorAll('.chart polygon').length, \
                     document.querySelectorAll('.chart polyline[points*=\" \"]').length, \
                     document.getElementById('throughput-now')?.textContent || '']";
        let plots = browser.evaluate(plots);
        (plots[0] == 4 && plots[1] == 1 && !plots[2].as_str()?.contains("from memory 0 B/s")).then_some(())
    });
    browser.sees(&["of the bytes served came from the cache"]);
    keep(&mut browser, "overview");

    browser.open(&at("/browse"));
    let seen = browser.sees(&["data/", "lake/", "mount"]);
    assert!(!seen.contains("whole"), "{seen}");
    browser
        .evaluate("[...document.querySelectorAll('main td a')].find((link) => link.textContent === 'data/').click()");
    browser.sees(&["whole", "3.0 MiB", "100.0 %", "unread", "not cached", "inside/", SCRIPT_NAME]);
    assert_eq!(browser.evaluate("document.querySelectorAll('main img').length"), 0, "a name became markup");
    assert_eq!(browser.evaluate("document.title"), "Files - Forebay");
    keep(&mut browser, "browse");
    browser.evaluate(
        "[...document.querySelectorAll('main td a')].find((link) => link.textContent.startsWith('<img')).click()",
    );
    // The old page shows the name too: wait for the new one, whose one entry it is.
    let there = "location.search.includes('img') && document.querySelectorAll('main tbody tr').length === 1";
    eventually("the page of the file", LONG, || browser.holds(there).then_some(()));
    browser.sees(&[SCRIPT_NAME, "10 B"]);
    assert_eq!(browser.evaluate("document.title"), "Files - Forebay");

    browser.open(&at("/browse?path=%2Fdata%2Finside"));
    let seen = browser.sees(&["f000", "f199", "Next page"]);
    assert!(!seen.contains("f200"), "{seen}");
    browser.evaluate("document.getElementById('next').click()");
    browser.sees(&["f200", "f399", "From the start"]);
    browser.evaluate("document.getElementById('next').click()");
    let seen = browser.sees(&["f400", "f449"]);
    assert!(!seen.contains("Next page"), "{seen}");
    browser.open(&at("/browse?path=%2Fdata%2Fnone"));
    browser.sees(&["This directory is empty."]);
    browser.open(&at("/browse?path=%2Fnothing%2F%3Cb%3E"));
    browser.sees(&["does not exist", "<b>"]);

    browser.open(&at("/workers"));
    browser.sees(&["live", "2 cores, weight 100", "MEM", "SSD", "cache0", "ok", "memory hits", "resident"]);
    keep(&mut browser, "workers");

    browser.open(&at("/mounts"));
    let seen = browser.sees(&["/data", "file://", "/lake", "s3://lake", "30 s", "5 min", "secret_key=***", "ok"]);
    assert!(!seen.contains(forebay_tests::SECRET_KEY), "{seen}");
    keep(&mut browser, "mounts");

    browser.open(&at("/jobs"));
    browser.sees(&["Jobs", "No jobs"]);

    browser.open(&at("/config"));
    let seen = browser.sees(&[
        "cluster.http_token_file",
        "master.http",
        "file",
        "worker.eviction",
        "default",
        "which pages leave first",
    ]);
    assert!(!seen.contains(TOKEN), "{seen}");
    keep(&mut browser, "config");

    access(&mut browser);

    let outside: Vec<&String> = browser.requests.iter().filter(|request| !request.starts_with(&at("/"))).collect();
    assert!(browser.requests.len() > 30 && outside.is_empty(), "the page asked elsewhere: {outside:?}");
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}

/// The token is tried, kept for the tab, and forgotten when asked.
fn access(browser: &mut Browser) {
    let kept = "sessionStorage.getItem('forebay-token')";
    let give = |token: &str| {
        format!(
            "document.getElementById('access').click(); document.getElementById('token-text').value = '{token}'; \
             document.querySelector('#token button[value=use]').click()"
        )
    };
    browser.evaluate(&give("wrong"));
    browser.sees(&["it is missing or wrong"]);
    assert!(browser.evaluate(kept).is_null());
    keep(browser, "token");
    browser.evaluate("document.querySelector('#token button[value=close]').click()");
    browser.evaluate(&give(TOKEN));
    browser.sees(&["Token in use"]);
    assert_eq!(browser.evaluate(kept), TOKEN);
    browser.evaluate(
        "document.getElementById('access').click(); document.querySelector('#token button[value=forget]').click()",
    );
    browser.sees(&["Read-only"]);
    assert!(browser.evaluate(kept).is_null());
}

/// The number in front of the first `%` of the page's table.
fn percent(browser: &mut Browser) -> Option<f64> {
    let text = browser.evaluate("(document.querySelector('main td .small') || {}).textContent || ''");
    text.as_str()?.strip_suffix(" %")?.parse().ok()
}

#[test]
fn a_job_is_watched_and_cancelled_with_the_token() {
    let cluster = cluster();
    let port = cluster.http_ports().master;
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let get = |path: &str| http(port, "GET", path, "");
    let post = |path: &str, token: &str| http(port, "POST", path, &format!("Authorization: Bearer {token}\r\n"));
    let slow = cluster.store("slow");
    for number in 0..128u64 {
        Pattern(number).write(&slow.join(format!("f{number:03}")), 128 << 10).expect("space");
    }
    let gone = cluster.store("gone");
    for number in 0..3 {
        std::fs::write(gone.join(format!("g{number}")), b"x").expect("space");
    }
    cluster.mount_local("/slow", &slow, &["--freshness", "1h"]);
    cluster.mount_local("/gone", &gone, &["--freshness", "1h"]);
    let cli = cluster.cli();
    for path in ["/slow", "/gone"] {
        cli.ok(&["fs", "ls", "-R", path]);
    }
    // One that fails for a part, while it was listed already.
    std::fs::remove_file(gone.join("g1")).expect("it is there");
    assert_eq!(cli.run(&["fs", "load", "-R", "/gone"]).code, 1);
    // 16 MiB at 64 KiB a second: four minutes, so that a slow machine finds it running still.
    cli.ok(&["fs", "load", "-R", "--submit", "--bandwidth", "64KiB", "/slow"]);

    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&at("/jobs"));
    browser.sees(&["Jobs", "/slow", "running", "/gone", "partial", "%"]);
    let first = eventually("progress", LONG, || percent(&mut browser).filter(|percent| *percent > 0.0));
    eventually("more progress", LONG, || percent(&mut browser).filter(|percent| *percent > first));
    keep(&mut browser, "jobs");

    // Without the token it goes on; the dialog that comes up is closed once, then gets the token, and cancels.
    let cancel = "document.querySelector('button.cancel').click()";
    browser.evaluate(cancel);
    browser.sees(&["This needs the token"]);
    browser.evaluate("document.querySelector('#token button[value=close]').click()");
    assert_eq!(get("/api/v1/jobs/2").json()["state"], "running");
    browser.evaluate(cancel);
    browser.sees(&["This needs the token"]);
    let give = "document.getElementById('token-text').value = 'wrong'; \
                document.querySelector('#token button[value=use]').click()";
    browser.evaluate(give);
    browser.sees(&["it is missing or wrong"]);
    assert_eq!(get("/api/v1/jobs/2").json()["state"], "running");
    browser.evaluate(&give.replace("wrong", TOKEN));
    browser.sees(&["Job 2 is cancelled", "cancelled", "Token in use"]);
    assert_eq!(browser.evaluate("document.querySelectorAll('button.cancel').length"), 0);
    let job = get("/api/v1/jobs/2").json();
    assert_eq!((job["state"].as_str(), &job["paths"]), (Some("cancelled"), &json!(["/slow"])), "{job}");
    assert!(job["files"].as_u64().is_some_and(|files| files < 128), "{job}");
    assert_eq!(cli.json(&["job", "stat", "--json", "2"])["fetched_bytes"], job["fetched_bytes"]);

    browser.open(&at("/jobs?id=1"));
    browser.sees(&["partial", "/gone/g1", "does not exist", "Failures"]);
    keep(&mut browser, "job");
    browser.open(&at("/jobs?id=77"));
    browser.sees(&["job 77: there is no such job"]);
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);

    // The API itself, on one that runs.
    cli.ok(&["fs", "load", "-R", "--submit", "--bandwidth", "64KiB", "/slow"]);
    assert_eq!(http(port, "POST", "/api/v1/jobs/3/cancel", "").status, 401);
    assert_eq!(post("/api/v1/jobs/3/cancel", "wrong").status, 401);
    assert_eq!(get("/api/v1/jobs/3").json()["state"], "running");
    let cancelled = post("/api/v1/jobs/3/cancel", TOKEN);
    assert_eq!((cancelled.status, cancelled.json()["state"].as_str()), (200, Some("cancelled")), "{cancelled:?}");
    for (path, status, word) in [
        ("/api/v1/jobs/3/cancel", 400, "ended already"),
        ("/api/v1/jobs/77/cancel", 404, "no such job"),
        ("/api/v1/jobs/x/cancel", 400, "want its number"),
        ("/api/v1/jobs/3/nothing", 404, "no such call"),
    ] {
        let answer = post(path, TOKEN);
        assert!(answer.status == status && answer.body.contains(word), "{path}: {answer:?}");
    }
    let list = get("/api/v1/jobs").json();
    let states: Vec<_> = list["jobs"].as_array().expect("a list").iter().map(|job| job["state"].as_str()).collect();
    assert_eq!(states, [Some("partial"), Some("cancelled"), Some("cancelled")], "{list}");
    let failed = get("/api/v1/jobs/1").json();
    assert_eq!(
        (failed["failures"][0]["path"].as_str(), failed["next"].is_null()),
        (Some("/gone/g1"), true),
        "{failed}"
    );
    let part = get("/api/v1/jobs/1?failures_from=1").json();
    assert_eq!(part["failures"], json!([]), "{part}");
    assert_eq!(get("/api/v1/jobs/1?failures_from=x").status, 400);
}

#[test]
fn troubles_come_first_and_the_api_answers_readers_or_not() {
    let mut cluster = cluster();
    let port = cluster.http_ports().master;
    let get = |path: &str| http(port, "GET", path, "");

    // Busy: readers all the time, and what they read is more than memory holds for the kernel's cache to answer.
    let file = cluster.mountpoint().join("data/whole");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut took: Vec<Duration> = std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop_cached(&file);
                    Pattern(1).check(&file, FILE_BYTES).expect("bytes");
                }
            });
        }
        let took = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(30));
            let start = Instant::now();
            assert_eq!(get("/api/v1/overview").status, 200);
            start.elapsed()
        });
        let took = took.collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        took
    });
    took.sort();
    println!("overview: median {:?}, 99th of 100 {:?}", took[50], took[98]);

    let overview = get("/api/v1/overview").json();
    assert_eq!(overview["workers"]["live"], 1, "{overview}");
    assert_eq!(overview["troubles"], json!([]), "{overview}");
    assert!(overview["counters"]["mem_hit_bytes"].as_u64() > Some(100 << 20), "nobody read meanwhile: {overview}");
    let part = get("/api/v1/browse?path=/data&limit=2").json();
    assert_eq!((part["entries"].as_array().map(Vec::len), part["next"].is_string()), (Some(2), true), "{part}");
    for (path, status, word) in [
        ("/api/v1/browse?path=/nothing", 404, "nothing"),
        ("/api/v1/browse?path=data", 400, "absolute"),
        ("/api/v1/browse?path=/&limit=0", 400, "limit"),
        ("/api/v1/browse?path=/&limit=x", 400, "limit"),
        ("/api/v1/nothing", 404, "no such call"),
        ("/nothing", 404, "console"),
    ] {
        let answer = get(path);
        assert!(answer.status == status && answer.body.contains(word), "{path}: {answer:?}");
    }

    let post = |headers: &str| http(port, "POST", "/api/v1/token", headers);
    assert_eq!(post("").status, 401);
    assert_eq!(post("Authorization: Bearer wrong-token-of-test\r\n").status, 401);
    assert_eq!(post(&format!("Authorization: Bearer {TOKEN}\r\n")).status, 200);
    assert_eq!(http(port, "POST", "/", &format!("Authorization: Bearer {TOKEN}\r\n")).status, 405);
    let foreign = http(port, "GET", "/api/v1/overview", "Host: evil.example\r\n");
    assert!(foreign.status == 400 || foreign.status == 421, "{foreign:?}");

    let mut browser = Browser::start();
    browser.look(1280, 900, false);
    browser.open(&format!("http://127.0.0.1:{port}/"));
    browser.sees(&["No troubles"]);
    cluster.workers[0].as_mut().expect("it runs").kill();
    cluster.s3.as_mut().expect("it runs").kill();
    let _ = cluster.cli().run(&["fs", "ls", "/lake/new"]);
    let seen = browser.sees(&["troubles", "no worker is live", "silent for", "mount /lake"]);
    assert!(seen.find("no worker is live") < seen.find("Capacity"), "troubles come first: {seen}");
    keep(&mut browser, "troubles");
    browser.open(&format!("http://127.0.0.1:{port}/browse?path=/data"));
    browser.sees(&["whole"]);
    cluster.master.as_mut().expect("it runs").kill();
    browser.open("about:blank");
}
