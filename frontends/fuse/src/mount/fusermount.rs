//! Mounting without root: fusermount3 mounts and sends the descriptor back over a socket.

use super::MountOptions;
use crate::error::FuseError;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = "fusermount3";

pub(super) fn mount(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, FuseError> {
    let failed = |reason: String| FuseError::Mount { path: mountpoint.to_path_buf(), reason };
    // The child inherits its end: no close-on-exec.
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
        .map_err(|error| FuseError::system("cannot make a socket pair", error))?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| FuseError::system("cannot set close-on-exec", error))?;
    let mut text = format!(
        "nosuid,nodev,noatime,default_permissions,max_read={},fsname=forebay,subtype=forebay",
        options.max_read
    );
    if options.allow_other {
        text.push_str(",allow_other");
    }
    let child = Command::new(PROGRAM)
        .arg("-o")
        .arg(&text)
        .arg("--")
        .arg(mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("{PROGRAM} does not start ({error}); it comes with the package fuse3")))?;
    drop(theirs);
    let received = receive_descriptor(&ours);
    let output = child.wait_with_output().map_err(|error| FuseError::system(PROGRAM, error))?;
    match received {
        Some(device) if output.status.success() => {
            let nonblocking = rustix::fs::fcntl_getfl(&device)
                .and_then(|flags| rustix::fs::fcntl_setfl(&device, flags | rustix::fs::OFlags::NONBLOCK));
            nonblocking.map_err(|error| FuseError::system("cannot set the device not blocking", error))?;
            Ok(device)
        }
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(said.lines().next().unwrap_or("fusermount3 sent no descriptor").trim().to_string()))
        }
    }
}

fn receive_descriptor(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

pub(super) fn unmount(mountpoint: &Path) -> Result<(), FuseError> {
    let output = Command::new(PROGRAM)
        .args(["-u", "-z", "--"])
        .arg(mountpoint)
        .output()
        .map_err(|error| FuseError::system(PROGRAM, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(FuseError::system(format!("cannot unmount {}", mountpoint.display()), std::io::Error::other(said)))
}
