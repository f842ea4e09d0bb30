//! Forebay without root: a whole cluster as an ordinary user, whose mount is made by fusermount3; and the split of the
//! systemd units: master and worker as a user without any capability, the mount as root.
//!
//! The tests run as root and step down to the user `nobody` with setpriv.

use forebay_tests::{Pattern, Process, Turn, binary, drop_cached, free_port, free_ports};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const NOBODY: u32 = 65_534;
const READY: Duration = Duration::from_secs(30);
/// What a login shell usually has.
const LIMITS: [&str; 2] = ["--memlock=8388608:8388608", "--nofile=1024:1024"];
/// More than that, though not what the units give: root in a container may not raise its own limits.
const UNIT_LIMITS: [&str; 2] = ["--memlock=8388608:8388608", "--nofile=8192:8192"];

/// A directory of nobody's, with binaries that nobody can reach.
struct Place {
    folder: PathBuf,
    _temporary: tempfile::TempDir,
    _turn: Turn,
}

impl Place {
    fn new() -> Self {
        let turn = Turn::take();
        let temporary = tempfile::Builder::new().prefix("forebay-nobody-").tempdir().expect("a temporary directory");
        let folder = temporary.path().to_path_buf();
        for name in ["forebay", "forebay-master", "forebay-worker", "forebay-fuse"] {
            std::fs::create_dir_all(folder.join("bin")).expect("a directory");
            std::fs::copy(binary(name), folder.join("bin").join(name)).expect("a copy");
        }
        for name in ["home", "store"] {
            std::fs::create_dir(folder.join(name)).expect("a directory");
            std::os::unix::fs::chown(folder.join(name), Some(NOBODY), Some(NOBODY)).expect("root may give away");
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&folder, mode).expect("an own directory");
        Pattern(7).write(&folder.join("store/f"), 3 << 20).expect("space");
        Self { folder, _temporary: temporary, _turn: turn }
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

/// `setpriv ... prlimit ... program`, as nobody.
fn as_nobody(limits: [&str; 2], no_privileges: bool, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    if no_privileges {
        command.args(["--no-new-privs", "--bounding-set=-all"]);
    }
    // The limits are raised before root is given up.
    let mut outer = Command::new("prlimit");
    outer.args(limits).arg("setpriv").args(command.get_args()).arg(program);
    outer.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir("/");
    outer
}

/// Root with the three capabilities of the mount's unit.
fn as_mount_unit(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--bounding-set=-all,+sys_admin,+dac_override,+dac_read_search"]).arg(program);
    command
}

fn ok(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

fn forebay(place: &Place, arguments: &[&str]) -> Command {
    let mut command = as_nobody(LIMITS, false, &place.folder.join("bin/forebay"));
    command.env("HOME", place.at("home")).args(arguments);
    command
}

/// Whatever happens to the test, nothing is left running.
struct Down<'a>(&'a Place, String);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = forebay(self.0, &["down", "--dir", &self.1]).output();
        let _ = Command::new("umount").arg("-l").arg(format!("{}/mnt", self.1)).output();
    }
}

/// Runs one test of this file again where everybody may open /dev/fuse, as on most hosts: in a mount namespace of its
/// own, that goes with it. True inside.
fn with_open_device(test: &str) -> bool {
    const INSIDE: &str = "FOREBAY_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = "set -e; place=$(mktemp -d); mknod -m 0666 \"$place/fuse\" c 10 229; \
                  mount --bind \"$place/fuse\" /dev/fuse; rm -r \"$place\"; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(std::env::current_exe().expect("a path")).args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
    let output = command.output().expect("unshare starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[test]
fn whole_cluster_as_an_ordinary_user() {
    if !with_open_device("whole_cluster_as_an_ordinary_user") {
        return;
    }
    let place = Place::new();
    let dir = place.at("home/f");
    let port = free_ports(120).to_string();
    let down = Down(&place, dir.clone());
    ok(&mut forebay(&place, &["up", "--dir", &dir, "--port-base", &port]));
    let config = format!("{dir}/forebay.toml");
    let uri = format!("file://{}", place.at("store"));
    ok(&mut forebay(&place, &["--config", &config, "fs", "mount", "/data", &uri]));
    let file = format!("{dir}/mnt/data/f");
    // Root itself is kept out of another user's mount without allow_other.
    ok(as_nobody(LIMITS, false, Path::new("cmp")).args([&file, &place.at("store/f")]));
    let doctor = forebay(&place, &["admin", "doctor", "--dir", &dir, "--no-speed"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.status.success() && said.contains("fusermount3"), "{doctor:?}");
    ok(&mut forebay(&place, &["down", "--dir", &dir]));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the kernel's list");
    assert!(!mounts.contains(&dir), "a mount is left");
    drop(down);
}

#[test]
fn roles_as_the_units_run_them() {
    let place = Place::new();
    let home = place.at("home");
    let (master, http, worker) = (free_port(), free_ports(3), free_ports(2));
    let secret = place.at("home/secret");
    std::fs::write(&secret, "a secret that is long enough").expect("space");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o400)).expect("an own file");
    std::os::unix::fs::chown(&secret, Some(NOBODY), Some(NOBODY)).expect("root may give away");
    let mountpoint = place.at("mnt");
    let config = place.folder.join("forebay.toml");
    std::fs::write(
        &config,
        format!(
            "[cluster]\nmasters = [\"127.0.0.1:{master}\"]\nsecret_file = \"{secret}\"\nsocket_dir = \"{home}/run\"\n\
             [master]\nlisten = \"127.0.0.1:{master}\"\nhttp = \"127.0.0.1:{http}\"\ndir = \"{home}/master\"\n\
             [worker]\nlisten = \"127.0.0.1:{worker}\"\nhttp = \"127.0.0.1:{}\"\ndir = \"{home}/worker\"\ncores = \"2\"\n\
             ssd = [\"{home}/cache=1GiB\"]\n\
             [fuse]\nmountpoint = \"{mountpoint}\"\nhttp = \"127.0.0.1:{}\"\n",
            http + 1,
            http + 2
        ),
    )
    .expect("space");
    let start = |role: &str, mut command: Command| {
        command.arg("--config").arg(&config);
        let mut process = Process::start(role, &mut command, &place.folder.join(format!("{role}.log")));
        process.wait_for_log(&format!("{role} ready"), READY);
        process
    };
    let path = |role: &str| place.folder.join("bin").join(format!("forebay-{role}"));
    let mut started = [
        start("master", as_nobody(UNIT_LIMITS, true, &path("master"))),
        start("worker", as_nobody(UNIT_LIMITS, true, &path("worker"))),
        start("fuse", as_mount_unit(&path("fuse"))),
    ];
    let config = config.display().to_string();
    let uri = format!("file://{}", place.at("store"));
    ok(Command::new(place.folder.join("bin/forebay")).args(["--config", &config, "fs", "mount", "/data", &uri]));
    let file = PathBuf::from(format!("{mountpoint}/data/f"));
    Pattern(7).check(&file, 3 << 20).expect("the bytes of the store");
    drop_cached(&file);
    for process in started.iter_mut().rev() {
        assert!(process.stop(Duration::from_secs(10)).is_some_and(|status| status.success()), "{}", process.log());
    }
    let _ = Command::new("umount").arg("-l").arg(&mountpoint).output();
}
