//! Judges what was gathered. Pure: the same facts always give the same findings.

mod cluster;
mod directory;
mod host;

use super::facts::Facts;
use super::finding::Finding;

/// All findings, in the order in which they are shown.
pub(crate) fn evaluate(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(host::roles(facts));
    findings.extend(host::host(facts));
    findings.extend(host::limits(facts));
    findings.extend(directory::directories(facts));
    findings.extend(directory::secret(facts));
    findings.extend(cluster::ports(facts));
    findings.extend(cluster::masters(facts));
    findings.extend(cluster::workers(facts));
    findings.extend(cluster::mounts(facts));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::*;
    use crate::doctor::finding::State;
    use forebay_base::{ErrorKind, KindError};
    use std::path::PathBuf;

    fn process(pid: i32, uid: u32) -> Process {
        Process {
            pid,
            uid,
            unit: None,
            memlock_bytes: u64::MAX,
            open_files: 1 << 20,
            capabilities: u64::MAX,
            log: None,
        }
    }

    fn directory(setting: &str, capacity: Option<u64>) -> Directory {
        let role = if setting.starts_with("master") { "master" } else { "worker" };
        let state = DirectoryState {
            exists: true,
            uid: 0,
            mode: 0o755,
            device: 1,
            free_bytes: 50 << 30,
            used_bytes: Some(1 << 30),
            in_memory: false,
            writable: Ok(()),
            direct: capacity.map(|_| Ok(())),
            speed: capacity
                .map(|_| Ok(Speed { bytes: 128 << 20, write_mb_per_s: 500.0, read_mb_per_s: 900.0, read_4k_us: 90.0 })),
        };
        let path = PathBuf::from("/d").join(setting);
        Directory { setting: setting.into(), role, path, capacity_bytes: capacity, state: Ok(state) }
    }

    fn healthy() -> Facts {
        let roles = ROLES.map(|role| RoleFacts { role, process: Some(process(7, 0)) }).to_vec();
        let answer = Answer {
            cluster_id: 5,
            round_trip_us: 300,
            skew_ms: 1,
            workers: vec![WorkerSeen {
                id: 9,
                address: "127.0.0.1:7500".into(),
                live: true,
                silent_ms: 100,
                troubles: Vec::new(),
            }],
            mounts_in_trouble: Vec::new(),
            mounts: 1,
        };
        Facts {
            host: Host {
                kernel: "6.18.44".into(),
                own: process(8, 0),
                fuse_device: Ok(()),
                fusermount: Some(("/usr/bin/fusermount3".into(), true)),
                user_allow_other: false,
                allow_other: false,
                io_uring_disabled: Some(0),
                rings: (6, 6, None),
                memory_bytes: 16 << 30,
                swap_bytes: 0,
                swappiness: 60,
                clock_source: "tsc".into(),
                clock_step_ms: 0,
            },
            roles,
            worker: Some(WorkerNeeds {
                cores: 2,
                host_cores: 2,
                mem_bytes: 256 << 20,
                buffer_bytes: 64 << 20,
                directories: 1,
                worker_id: Some(9),
                cluster_id: Some(5),
            }),
            directories: vec![directory("master.dir", None), directory("worker.ssd[0]", Some(10 << 30))],
            secret: Some(SecretFile { path: "/s".into(), meta: Ok((0, 0o400)), load: Ok(()) }),
            http_token: None,
            ports: vec![Port {
                setting: "master.listen".into(),
                role: "master",
                address: "127.0.0.1:7400".into(),
                state: PortState::Held(7, "forebay-master".into()),
            }],
            masters: vec![Master { address: "127.0.0.1:7400".into(), answer: Ok(answer) }],
            mount: Some(KernelMount {
                path: "/m".into(),
                mounted: true,
                answers: Some(Ok(())),
                passthrough: Some("on".into()),
            }),
        }
    }

    /// What is not `ok` when the healthy facts are changed so.
    fn with(change: impl FnOnce(&mut Facts)) -> Vec<(String, State)> {
        let mut facts = healthy();
        change(&mut facts);
        let bad: Vec<Finding> = evaluate(&facts).into_iter().filter(|finding| finding.state != State::Ok).collect();
        for finding in &bad {
            assert!(!finding.found.is_empty() && !finding.wanted.is_empty() && !finding.mend.is_empty(), "{finding:?}");
            assert!(!format!("{finding:?}").contains('\n'), "{finding:?}");
        }
        bad.into_iter().map(|finding| (finding.check, finding.state)).collect()
    }

    fn tier(facts: &mut Facts) -> &mut DirectoryState {
        facts.directories[1].state.as_mut().expect("a state")
    }

    fn answer(facts: &mut Facts) -> &mut Answer {
        facts.masters[0].answer.as_mut().expect("an answer")
    }

    /// A check, how bad it is, and what makes it so.
    type Case = (&'static str, State, Box<dyn FnOnce(&mut Facts)>);

    fn case(check: &'static str, state: State, change: impl FnOnce(&mut Facts) + 'static) -> Case {
        (check, state, Box::new(change))
    }

    #[test]
    fn healthy_host_has_nothing_to_mend() {
        assert_eq!(with(|_| {}), []);
    }

    #[test]
    fn each_trouble_is_found_and_nothing_else_with_it() {
        use State::{Failure, Warning};
        let error = |kind| KindError::new(kind, "said so");
        let cases = vec![
            case("host.kernel", Failure, |f| f.host.kernel = "5.4.0-150-generic".into()),
            case("host.fuse-device", Failure, |f| f.host.fuse_device = Err("No such file".into())),
            case("host.io-uring", Failure, |f| f.host.io_uring_disabled = Some(2)),
            case("host.io-uring", Failure, |f| f.host.rings = (6, 0, Some("Operation not permitted".into()))),
            case("host.rings", Failure, |f| f.host.rings = (6, 4, Some("Cannot allocate memory".into()))),
            case("host.memory", Failure, |f| f.host.memory_bytes = 256 << 20),
            case("host.swap", Warning, |f| f.host.swap_bytes = 1 << 30),
            case("host.clock-source", Warning, |f| f.host.clock_source = "acpi_pm".into()),
            case("host.clock-steady", Warning, |f| f.host.clock_step_ms = -700),
            case("worker.memlock", Failure, |f| {
                let worker = f.roles[1].process.as_mut().expect("it runs");
                (worker.memlock_bytes, worker.capabilities) = (64 << 10, 0);
            }),
            case("worker.memlock", Warning, |f| {
                let worker = f.roles[1].process.as_mut().expect("it runs");
                (worker.memlock_bytes, worker.capabilities) = (8 << 20, 0);
            }),
            case("worker.open-files", Failure, |f| f.roles[1].process.as_mut().expect("it runs").open_files = 256),
            case("worker.open-files", Warning, |f| f.roles[1].process.as_mut().expect("it runs").open_files = 1024),
            case("worker.ssd[0].direct-io", Warning, |f| tier(f).direct = Some(Err("Invalid argument".into()))),
            case("worker.ssd[0].file-system", Warning, |f| tier(f).in_memory = true),
            case("worker.ssd[0].space", Failure, |f| tier(f).free_bytes = 1 << 20),
            case("worker.ssd[0].space", Warning, |f| tier(f).free_bytes = 5 << 30),
            case("worker.ssd[0].writable", Failure, |f| tier(f).writable = Err("Permission denied".into())),
            case("worker.ssd[0].mode", Failure, |f| tier(f).mode = 0o777),
            case("worker.ssd[0].owner", Warning, |f| tier(f).uid = 1000),
            case("worker.ssd[0].speed", Warning, |f| {
                let speed = Speed { bytes: 1, write_mb_per_s: 40.0, read_mb_per_s: 90.0, read_4k_us: 9000.0 };
                tier(f).speed = Some(Ok(speed));
            }),
            case("secret.mode", Failure, |f| f.secret.as_mut().expect("a secret").meta = Ok((0, 0o644))),
            case("secret.mode", Warning, |f| f.secret.as_mut().expect("a secret").meta = Ok((0, 0o640))),
            case("http-token.mode", Failure, |f| {
                f.http_token = Some(SecretFile { path: "/t".into(), meta: Ok((0, 0o604)), load: Ok(()) });
            }),
            case("secret.usable", Failure, |f| f.secret.as_mut().expect("a secret").load = Err("5 bytes".into())),
            case("port.127.0.0.1:7400", Failure, |f| f.ports[0].state = PortState::Held(1, "nginx".into())),
            case("port.127.0.0.1:7400", Failure, |f| f.ports[0].state = PortState::Refused("no such address".into())),
            case("port.127.0.0.1:7400", Warning, |f| f.ports[0].state = PortState::HeldUnseen),
            case("master.127.0.0.1:7400", Failure, move |f| f.masters[0].answer = Err(error(ErrorKind::Denied))),
            case("master.127.0.0.1:7400", Failure, move |f| f.masters[0].answer = Err(error(ErrorKind::Unavailable))),
            case("cluster.clock", Warning, |f| answer(f).skew_ms = 2_000),
            case("cluster.clock", Failure, |f| answer(f).skew_ms = -40_000),
            case("worker.cluster", Failure, |f| f.worker.as_mut().expect("needs").cluster_id = Some(6)),
            case("cluster.mount./data", Failure, |f| {
                answer(f).mounts_in_trouble = vec![("/data".into(), "s3://b".into(), "no answer within 10s".into())];
            }),
            case("worker.registered", Failure, |f| answer(f).workers[0].live = false),
            case("cluster.worker.0000000000000009", Failure, |f| {
                answer(f).workers[0].troubles = vec![("/d".into(), "failed writes".into())];
            }),
            case("fuse.mount", Failure, |f| f.mount.as_mut().expect("a mount").mounted = false),
            case("fuse.mount", Failure, |f| f.mount.as_mut().expect("a mount").answers = Some(Err("dead".into()))),
            case("fuse.mount", Failure, |f| f.mount.as_mut().expect("a mount").answers = None),
        ];
        for (check, state, change) in cases {
            assert_eq!(with(change), [(check.to_string(), state)], "{check}");
        }
    }

    #[test]
    fn without_root_the_helper_and_its_permission_count() {
        let bad = with(|facts| {
            facts.roles[2].process = Some(process(7, 1000));
            facts.host.fusermount = None;
            facts.host.allow_other = true;
        });
        let checks: Vec<&str> = bad.iter().map(|(check, _)| check.as_str()).collect();
        assert_eq!(checks, ["host.fusermount3", "fuse.allow-other"]);
    }

    #[test]
    fn roles_that_do_not_run_are_a_warning() {
        let bad = with(|facts| {
            for role in &mut facts.roles {
                role.process = None;
            }
            facts.ports[0].state = PortState::Free;
            facts.masters[0].answer = Err(KindError::new(ErrorKind::Unavailable, "refused"));
            facts.mount.as_mut().expect("a mount").mounted = false;
        });
        let failures: Vec<_> = bad.iter().filter(|(_, state)| *state == State::Failure).collect();
        assert_eq!(failures, [&("master.127.0.0.1:7400".to_string(), State::Failure)]);
        assert!(bad.contains(&("role.worker".into(), State::Warning)), "{bad:?}");
    }
}
