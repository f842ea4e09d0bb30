//! `forebay up`: starts what does not run yet, waits until each role is ready, and says what runs where.

use super::layout::{HTTP_PORT_OFFSET, Layout, PORT_BASE, ROLES, WORKER_PORT_OFFSET};
use super::log_file::LogMark;
use super::{down, mountinfo, process};
use crate::arguments::Up;
use crate::connection;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings_source::SettingsSource;
use forebay_base::settings::Settings;
use forebay_client::Client;
use forebay_client::message::cluster::{Report, ReportReply};
use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

/// A master reads its journal and a worker its tables before they are ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A process that was just killed holds its port a moment longer.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Starts the cluster of a directory.
pub(crate) fn up(arguments: &Up, source: &SettingsSource) -> Result<(), Failure> {
    let layout = Layout::create(arguments.dir.as_deref())?;
    layout.make_directories()?;
    let _lock = lock(&layout)?;
    let source = source.with_file(&layout.config());
    configure(&layout, arguments.port_base, &source)?;
    let settings = source.load()?.settings;
    let runtime = connection::runtime()?;

    let mut said = Vec::new();
    let mut started: Vec<&str> = Vec::new();
    for role in ROLES {
        if let Some(running) = process::running(&layout, role) {
            said.push(format!("{role:<7} already running  process {:<7} {}", running.pid, place(role, &settings)));
            continue;
        }
        match start(&layout, role, &source, &settings, &runtime) {
            Ok(pid) => {
                started.push(role);
                said.push(format!("{role:<7} started          process {pid:<7} {}", place(role, &settings)));
            }
            Err(failure) => {
                for role in started.iter().rev() {
                    down::stop(&layout, role);
                }
                return Err(failure);
            }
        }
    }
    let mut output = Output::open();
    for line in said {
        output.line(&line)?;
    }
    for line in next_steps(&layout, &settings, arguments.dir.is_none()) {
        output.line(&line)?;
    }
    output.flush()
}

/// Two `up` of one directory at once would start everything twice.
fn lock(layout: &Layout) -> Result<std::fs::File, Failure> {
    let path = layout.run().join("up.lock");
    let wrong = |error: std::io::Error| Failure::failed(format!("up: {}: {error}", path.display()));
    let file = std::fs::File::create(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "up: {}: another `forebay up` is at work there: wait for it",
            layout.dir().display()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(wrong(error)),
    }
}

/// Writes the configuration unless there is one.
fn configure(layout: &Layout, port_base: Option<u16>, source: &SettingsSource) -> Result<(), Failure> {
    let path = layout.config();
    if !path.exists() {
        let port = port_base.unwrap_or(PORT_BASE);
        // The cores' ports follow the worker's first one.
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u16;
        let http = (0..ROLES.len() as u16).map(|role| port + HTTP_PORT_OFFSET + role);
        for port in std::iter::once(port).chain(http).chain((0..cores).map(|core| port + WORKER_PORT_OFFSET + core)) {
            free(&format!("127.0.0.1:{port}"), "give --port-base N, or stop what listens there")?;
        }
        return layout.write_config(port);
    }
    let Some(wanted) = port_base else { return Ok(()) };
    let listen = source.load()?.settings.master.listen;
    if listen.rsplit_once(':').is_some_and(|(_, port)| port == wanted.to_string()) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "up: --port-base {wanted}: {} already says master.listen = {listen}: change the ports there, or give another --dir",
        path.display()
    )))
}

fn free(address: &str, what_to_do: &str) -> Result<(), Failure> {
    let until = Instant::now() + PORT_FREE_WITHIN;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(LOOK_EVERY);
            }
            bound => return bound.map(drop).map_err(|error| taken(address, &error, what_to_do)),
        }
    }
}

fn taken(address: &str, error: &std::io::Error, what_to_do: &str) -> Failure {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return Failure::failed(format!("up: {address}: is taken by another process: {what_to_do}"));
    }
    Failure::failed(format!("up: {address}: {error}: {what_to_do}"))
}

fn start(
    layout: &Layout,
    role: &str,
    source: &SettingsSource,
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
) -> Result<u32, Failure> {
    check_ports(layout, role, settings)?;
    if role == "fuse" {
        let path = &settings.fuse.mountpoint;
        if !down::remove_mount(path) {
            return Err(Failure::failed(format!(
                "up: {}: a dead mount is in the way: try umount -l as root",
                path.display()
            )));
        }
        std::fs::create_dir_all(path).map_err(|error| Failure::failed(format!("up: {}: {error}", path.display())))?;
    }
    let mark = LogMark::end_of(&layout.log(role));
    let mut child = process::start(layout, role, source)?;
    let pid = child.id();
    match wait_ready(role, &mut child, settings, runtime) {
        Ok(()) => Ok(pid),
        Err(why) => {
            down::stop(layout, role);
            if !matches!(child.try_wait(), Ok(Some(_))) {
                // Too young to be known by its executable: it is this process's child all the same.
                let _ = child.kill();
                let _ = child.wait();
            }
            let mut text = format!("up: {role}: {why}: its last log lines, of {}:\n", layout.log(role).display());
            for line in mark.last_lines() {
                text.push_str(&format!("  {line}\n"));
            }
            Err(Failure::failed(text))
        }
    }
}

fn check_ports(layout: &Layout, role: &str, settings: &Settings) -> Result<(), Failure> {
    let (setting, http) = match role {
        "master" => ("master.http", &settings.master.http),
        "worker" => ("worker.http", &settings.worker.http),
        _ => ("fuse.http", &settings.fuse.http),
    };
    let what_to_do = |setting: &str| format!("stop that process, or change {setting} in {}", layout.config().display());
    if let Some(address) = http {
        free(address, &what_to_do(setting))?;
    }
    let (setting, listen, count) = match role {
        "master" => ("master.listen", &settings.master.listen, 1),
        "worker" => {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            ("worker.listen", &settings.worker.listen, settings.worker.cores.count(available))
        }
        _ => return Ok(()),
    };
    let Some((host, first)) = listen.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    else {
        return Ok(());
    };
    for port in (0..count).filter_map(|core| first.checked_add(u16::try_from(core).ok()?)).filter(|port| *port != 0) {
        free(&format!("{host}:{port}"), &what_to_do(setting))?;
    }
    Ok(())
}

fn wait_ready(
    role: &str,
    child: &mut Child,
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
) -> Result<(), String> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Err(format!("it ended ({status})")),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        let ready = match role {
            "master" => runtime.block_on(report(settings)).is_some(),
            "worker" => runtime.block_on(report(settings)).is_some_and(|report| has_worker(&report, settings)),
            _ => mountinfo::is_fuse_mount(&settings.fuse.mountpoint),
        };
        if ready {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(format!("it is not ready after {} s", READY_WITHIN.as_secs()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

async fn report(settings: &Settings) -> Option<ReportReply> {
    let ask = async {
        let client: Client = connection::connect(settings).await.ok()?;
        client.master(&Report::default()).await.ok()
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?
}

/// Whether the worker of these settings is live: an earlier one of the same directory may still be listed.
fn has_worker(report: &ReportReply, settings: &Settings) -> bool {
    let listen = &settings.worker.listen;
    report
        .workers
        .iter()
        .any(|worker| worker.live && worker.worker.shards.first().is_some_and(|shard| shard.tcp == *listen))
}

fn place(role: &str, settings: &Settings) -> String {
    match role {
        "master" => settings.master.listen.clone(),
        "worker" => settings.worker.listen.clone(),
        _ => settings.fuse.mountpoint.display().to_string(),
    }
}

fn next_steps(layout: &Layout, settings: &Settings, is_default: bool) -> Vec<String> {
    let config = if is_default { String::new() } else { format!(" --config {}", layout.config().display()) };
    let dir = if is_default { String::new() } else { format!(" --dir {}", layout.dir().display()) };
    let mountpoint = settings.fuse.mountpoint.display();
    let console =
        settings.master.http.iter().flat_map(|address| ["In a browser:".into(), format!("  http://{address}/")]);
    let mut lines = vec![
        String::new(),
        "Show a bucket or a directory there, and read it:".into(),
        format!("  forebay{config} fs mount /data s3://BUCKET/PREFIX --option region=REGION"),
        format!("  forebay{config} fs mount /local file:///some/directory"),
        format!("  ls {mountpoint}/data"),
        "Fill the cache ahead, look at it, stop:".into(),
        format!("  forebay{config} fs load -R /data"),
        format!("  forebay{config} admin report"),
        format!("  forebay down{dir}"),
    ];
    lines.extend(console);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_port_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound").to_string();
        let lines: Vec<String> = free(&address, "change it").expect_err("taken").lines().collect();
        assert_eq!(lines, [format!("forebay: up: {address}: is taken by another process: change it")]);
    }
}
