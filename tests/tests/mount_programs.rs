//! Programs that people use, on the mount: git, tar, cp, sed, vim, a database, Python's mmap. On a directory and on an S3 server.

use forebay_tests::{Cluster, Options};
use std::path::Path;
use std::process::Command;

/// Runs a script in a directory; it must succeed.
fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

const GIT: &str = "git -c user.name=n -c user.email=e -c init.defaultBranch=main";

#[test]
fn programs_behave() {
    let cluster = Cluster::start(Options::default().with_s3());
    let folder = cluster.store("data");
    let _ = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    cluster.mount_local("/local", &folder, &["--freshness", "1h"]);
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    let source = cluster.folder().join("source");
    std::fs::create_dir_all(&source).expect("made");
    sh(
        &source,
        "mkdir -p tree/a/b tree/empty; for i in $(seq 40); do head -c $((i * 997)) /dev/urandom > tree/a/b/f$i; done; \
         echo '#!/bin/sh' > tree/run; chmod 755 tree/run; touch -d 2020-02-02T02:02:02 tree/a/b/f1; tar cf tree.tar tree",
    );
    for store in ["local", "s3"] {
        let here = cluster.mountpoint().join(store);
        let source = source.display();
        sh(&here, &format!("tar xf {source}/tree.tar; diff -r tree {source}/tree; test -x tree/run"));
        assert_eq!(sh(&here, "stat -c %Y tree/a/b/f1; stat -c %a tree/run"), "1580608922\n755\n", "{store}");
        sh(
            &here,
            &format!("cp -r tree copy; diff -r copy {source}/tree; cp -p tree/a/b/f1 kept; cmp kept tree/a/b/f1"),
        );
        sh(
            &here,
            "printf 'one\\ntwo\\n' > text; sed -i s/two/three/ text; test \"$(cat text)\" = \"$(printf 'one\\nthree')\"",
        );
        sh(&here, "vim -es -u NONE -c '%s/three/four/' -c 'wq' text < /dev/null; test \"$(tail -1 text)\" = four");
        sh(
            &here,
            &format!(
                "mkdir repo; cd repo; {GIT} init -q .; cp -r ../tree/. .; {GIT} add .; {GIT} commit -qm one; \
                 echo more >> run; {GIT} commit -qam two; {GIT} gc -q; {GIT} fsck --strict; test -z \"$({GIT} status --porcelain)\"; \
                 cd ..; {GIT} clone -q repo clone; cd clone; test $({GIT} log --oneline | wc -l) = 2; diff -r a {source}/tree/a"
            ),
        );
        let count = sh(
            &here,
            "sqlite3 db 'create table t(a, b); create index i on t(a);'; \
             for n in $(seq 10); do sqlite3 db \"begin; insert into t select value, hex(randomblob(50)) from \
             generate_series(1, 100); commit;\"; done; sqlite3 db 'delete from t where a > 50; vacuum; pragma integrity_check; \
             select count(*) from t'",
        );
        assert_eq!(count, "ok\n500\n", "{store}");
        sh(
            &here,
            "python3 - <<'END'\nimport mmap, os\nf = open('mapped', 'w+b')\nf.truncate(100000)\nm = mmap.mmap(f.fileno(), 100000)\n\
             m[5:10] = b'hello'\nm[99990:99995] = b'there'\nm.flush()\nassert os.pread(f.fileno(), 5, 5) == b'hello'\n\
             os.pwrite(f.fileno(), b'HE', 5)\nassert m[5:10] == b'HEllo'\nm.close()\nf.close()\nEND\n\
             test \"$(head -c 10 mapped | tail -c 5)\" = HEllo",
        );
        // rsync's way: a hidden file, its attributes, the name.
        sh(
            &here,
            "mkdir sync; cp tree/a/b/f9 sync/.f9.XyZ; touch -d 2021-01-01T00:00:00 sync/.f9.XyZ; chmod 640 sync/.f9.XyZ; \
             mv sync/.f9.XyZ sync/f9; cmp sync/f9 tree/a/b/f9; test $(stat -c %a.%Y sync/f9) = 640.1609459200",
        );
        sh(&here, "rm -rf tree copy repo clone sync; test \"$(ls | tr '\\n' ' ')\" = 'db kept mapped text '");
        let stored = match store {
            "local" => folder.clone(),
            _ => cluster.s3.as_ref().expect("it was asked for").folder_of("data"),
        };
        for name in ["db", "kept", "mapped", "text"] {
            let (seen, there) = (std::fs::read(here.join(name)), std::fs::read(stored.join(name)));
            assert!(seen.expect("read") == there.expect("the store has it"), "{store}: {name}");
        }
    }
}
