//! `config import`: an alluxio-site.properties becomes our configuration, the mount commands that go with it, and a list
//! of what could not be taken over.
//!
//! Invariant: values of keys that are not understood are never shown, for they may be secrets; secrets go to a file of
//! their own, mode 0600, and nowhere else.

mod mapping;
mod properties;
mod values;

use crate::arguments::ImportConfig;
use crate::failure::Failure;
use crate::output;
use forebay_base::settings::{Overrides, load};
use mapping::Imported;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const WHAT: &str = "config import";
/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads, maps and writes.
pub(crate) fn import(arguments: &ImportConfig) -> Result<(), Failure> {
    let shown = arguments.file.display();
    let failed = |error: std::io::Error| Failure::failed(format!("{WHAT}: {shown}: {error}"));
    let mut bytes = Vec::new();
    File::open(&arguments.file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::failed(format!("{WHAT}: {shown}: got a file of more than 4 MiB, want a properties file")));
    }
    let parsed = properties::parse(&String::from_utf8_lossy(&bytes));
    let mut imported = mapping::map(&parsed);
    let option_file = arguments.option_file.clone().or_else(|| arguments.output.as_deref().map(beside));
    if !imported.secrets.is_empty() {
        match &option_file {
            Some(path) => {
                let text: String = imported.secrets.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                write_new(path, &text, 0o600)?;
                imported.option_file = Some(path.clone());
            }
            None => imported.note(
                "the credentials",
                "secrets are not shown: give --output or --option-file, and they are written to a file of mode 0600",
            ),
        }
    }
    let text = imported.to_toml(&shown.to_string());
    match &arguments.output {
        Some(path) => write_new(path, &text, 0o644)?,
        None => output::line(text.trim_end())?,
    }
    // On standard output they stand below the configuration already.
    for (what, why) in imported.notes.iter().filter(|_| arguments.output.is_some()) {
        eprintln!("{}: {}", comment(what), comment(why));
    }
    let (taken, left) = (imported.taken, imported.notes.len());
    eprintln!("{shown}: {taken} keys taken over, {left} notes on what was not");
    // What is written has to be what our own roles read.
    load(&text, &Overrides::default()).map(drop).map_err(|problems| {
        let lines = problems.0.iter().map(|problem| format!("{WHAT}: to be corrected by hand: {problem}\n"));
        Failure::failed(lines.collect::<String>())
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".options");
    name.into()
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = File::options().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::failed(format!("{WHAT}: {}: {error}", path.display())))
}

impl Imported {
    /// The configuration, with the commands and the notes as comments.
    fn to_toml(&self, source: &str) -> String {
        let mut text = format!("# Made by forebay config import of {}.\n", source.escape_default());
        for (section, keys) in &self.sections {
            text.push_str(&format!("\n[{section}]\n"));
            for (key, value) in keys {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        if !self.mounts.is_empty() {
            text.push_str("\n# Once the cluster runs:\n");
            for mount in &self.mounts {
                text.push_str(&format!("#   {}\n", self.command(mount)));
            }
        }
        if !self.notes.is_empty() {
            text.push_str("\n# Not taken over:\n");
            for (what, why) in &self.notes {
                text.push_str(&format!("# {}: {}\n", comment(what), comment(why)));
            }
        }
        text
    }
}

/// On one line.
fn comment(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = r#"
# A cluster as it is found.
alluxio.master.hostname=master-1.example
alluxio.worker.tieredstore.levels=3
alluxio.worker.tieredstore.level0.alias=MEM
alluxio.worker.tieredstore.level0.dirs.path=/mnt/ramdisk
alluxio.worker.ramdisk.size=16GB
alluxio.worker.tieredstore.level1.alias=SSD
alluxio.worker.tieredstore.level1.dirs.path=/nvme0,/nvme1
alluxio.worker.tieredstore.level1.dirs.quota=800GB,1.5TB
alluxio.worker.tieredstore.level1.watermark.high.ratio=0.9
alluxio.worker.tieredstore.level2.alias=HDD
alluxio.worker.tieredstore.level2.dirs.path=/disk0,\
    /disk1
alluxio.worker.tieredstore.level2.dirs.quota=4TB
alluxio.worker.tieredstore.level2.dirs.mediumtype=HDD,HDD
alluxio.worker.block.annotator.class=alluxio.worker.block.annotator.LRFUAnnotator
alluxio.master.mount.table.root.ufs=s3a://lake/warehouse
alluxio.master.mount.table.root.option.s3a.accessKeyId=AKIAEXAMPLE
s3a.secretKey=hunter2 with spaces
alluxio.underfs.s3.endpoint=minio.example:9000
alluxio.underfs.s3.disable.dns.buckets=true
alluxio.user.file.metadata.sync.interval=5min
alluxio.user.file.writetype.default=ASYNC_THROUGH
alluxio.user.file.readtype.default=CACHE
alluxio.user.block.size.bytes.default=64MB
alluxio.user.file.replication.min=2
alluxio.security.login.password=topsecret
alluxio.fuse.mount.point=/mnt/alluxio-fuse
alluxio.fuse.mount.options=allow_other,attr_timeout=600
"#;

    fn run(site: &str, arguments: impl FnOnce(&Path, &mut ImportConfig)) -> (Result<(), Failure>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alluxio-site.properties");
        std::fs::write(&file, site).unwrap();
        let mut given = ImportConfig { file, output: Some(dir.path().join("forebay.toml")), option_file: None };
        arguments(dir.path(), &mut given);
        (import(&given), dir)
    }

    #[test]
    fn a_whole_site_becomes_a_configuration_that_our_loader_takes() {
        let (result, dir) = run(SITE, |_, _| {});
        result.unwrap();
        let text = std::fs::read_to_string(dir.path().join("forebay.toml")).unwrap();
        let settings = load(&text, &Overrides::default()).unwrap().settings;
        assert_eq!(settings.cluster.masters, ["master-1.example:7400"]);
        assert_eq!(settings.worker.mem_capacity.0, 16 << 30);
        let dirs = |dirs: &[forebay_base::settings::TierDir]| -> Vec<(String, u64)> {
            dirs.iter().map(|dir| (dir.path.display().to_string(), dir.capacity.0 >> 30)).collect()
        };
        assert_eq!(dirs(&settings.worker.ssd), [("/nvme0/forebay".into(), 800), ("/nvme1/forebay".into(), 1536)]);
        assert_eq!(dirs(&settings.worker.hdd), [("/disk0/forebay".into(), 4096), ("/disk1/forebay".into(), 4096)]);
        assert_eq!(settings.worker.eviction, "lfu");
        assert_eq!(settings.fuse.mountpoint, Path::new("/mnt/alluxio-fuse"));
        assert!(settings.fuse.allow_other && settings.fuse.attr_timeout_max.as_secs() == 600);
        // Secrets are in their own file and nowhere else.
        for secret in ["hunter2", "topsecret", "AKIAEXAMPLE"] {
            assert!(!text.contains(secret), "{text}");
        }
        let options = dir.path().join("forebay.toml.options");
        let wanted = "access_key=AKIAEXAMPLE\nsecret_key=hunter2 with spaces\n";
        assert_eq!(std::fs::read_to_string(&options).unwrap(), wanted);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&options.metadata().unwrap()) & 0o777, 0o600);
        let command = text.lines().find(|line| line.contains("forebay fs mount")).unwrap();
        for part in [
            "--freshness 5m",
            "--option endpoint=http://minio.example:9000",
            "path_style=true",
            "s3://lake/warehouse",
            "--option-file",
        ] {
            assert!(command.contains(part), "{part}: {command}");
        }
        for left in
            ["watermark.high.ratio", "user.block.size", "writetype.default", "login.password", "replication.min"]
        {
            assert!(text.lines().any(|line| line.starts_with("# ") && line.contains(left)), "{left}: {text}");
        }
        assert!(!text.contains("readtype"), "what is as it was is no news");
    }

    #[test]
    fn nothing_is_written_over_and_wrong_input_is_named() {
        let (result, dir) = run(SITE, |_, _| {});
        result.unwrap();
        let again = ImportConfig {
            file: dir.path().join("alluxio-site.properties"),
            output: Some(dir.path().join("other.toml")),
            option_file: Some(dir.path().join("forebay.toml.options")),
        };
        assert!(import(&again).unwrap_err().lines().next().unwrap().contains("forebay.toml.options"));
        assert!(!dir.path().join("other.toml").exists(), "no half of it");
        let (result, _dir) = run("", |dir, given| given.file = dir.join("nowhere"));
        assert!(result.unwrap_err().lines().next().unwrap().contains("nowhere"));
        let bad = "alluxio.worker.tieredstore.level0.alias=SSD\nalluxio.worker.tieredstore.level0.dirs.path=relative,/ok\n\
                   alluxio.worker.tieredstore.level0.dirs.quota=many\nalluxio.worker.ramdisk.size=1KB\n\
                   alluxio.master.mount.table.root.ufs=hdfs://namenode/x\nalluxio.user.file.metadata.sync.interval=often\n";
        let (result, dir) = run(bad, |_, _| {});
        result.unwrap();
        let text = std::fs::read_to_string(dir.path().join("forebay.toml")).unwrap();
        for left in ["dirs.path", "dirs.quota", "root.ufs", "sync.interval"] {
            assert!(text.lines().any(|line| line.starts_with("# ") && line.contains(left)), "{left}: {text}");
        }
        assert!(!text.contains("many") && !text.contains("forebay fs mount"), "{text}");
    }

    #[test]
    fn an_empty_site_is_a_configuration_of_defaults() {
        let (result, dir) = run("# nothing\n", |_, _| {});
        result.unwrap();
        let text = std::fs::read_to_string(dir.path().join("forebay.toml")).unwrap();
        load(&text, &Overrides::default()).unwrap();
        assert!(!dir.path().join("forebay.toml.options").exists());
    }
}
